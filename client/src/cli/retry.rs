//! `dual16 retry`: queues the failed tasks of a job again.

use super::{
    Context, JobArgs, OutputFormat,
    find::find,
    session::{Target, Work, with_session},
    show::print_job,
};
use crate::error::Error;

pub(super) async fn run(args: &JobArgs, mut context: Context<'_>) -> Result<(), Error> {
    let target = Target::of_existing_job(context.global)?;
    let (name, job) = with_session(&target, Work::StateOnly, &mut context, async |client, _| {
        let name = find(client, &args.job).await?;
        let job = client.retry_job(&name).await?;
        Ok((name, job))
    })
    .await?;
    match context.global.output {
        OutputFormat::Table => {
            let (id, flags) = (name.id(), target.flags());
            let next = match target.is_local() {
                true => "does its work",
                false => "follows it",
            };
            context.terminal.result(&format!(
                "{name} is queued again; `dual16 watch {id} {flags}` {next}"
            ))
        }
        _ => print_job(&job, &context),
    }
}
