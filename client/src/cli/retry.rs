//! `dual16 retry`: queues the failed tasks of a job again.

use super::{
    Context, JobArgs, OutputFormat,
    session::{Target, Work, with_session},
    show::print_job,
};
use crate::error::Error;

pub(super) async fn run(args: &JobArgs, mut context: Context<'_>) -> Result<(), Error> {
    let target = Target::of_existing_job(context.global)?;
    let job = with_session(&target, Work::StateOnly, &mut context, async |client, _| {
        Ok(client.retry_job(&args.job).await?)
    })
    .await?;
    match context.global.output {
        OutputFormat::Table => {
            let (id, flags) = (args.job.id(), target.flags());
            let next = match target.is_local() {
                true => "does its work",
                false => "follows it",
            };
            let name = &job.name;
            context.terminal.result(&format!(
                "{name} is queued again; `dual16 watch {id} {flags}` {next}"
            ))
        }
        _ => print_job(&job, &context),
    }
}
