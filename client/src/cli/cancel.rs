//! `dual16 cancel`: stops a job. One that has ended stays as it is, and that is said.

use dual16_proto::v1::JobState;

use super::{
    Context, JobArgs, OutputFormat,
    find::find,
    session::{Target, Work, with_session},
    show::print_job,
};
use crate::error::Error;

pub(super) async fn run(args: &JobArgs, mut context: Context<'_>) -> Result<(), Error> {
    let target = Target::of_existing_job(context.global)?;
    let job = with_session(&target, Work::StateOnly, &mut context, async |client, _| {
        Ok(client.cancel_job(&find(client, &args.job).await?).await?)
    })
    .await?;
    match (context.global.output, job.state()) {
        (OutputFormat::Table, JobState::Succeeded | JobState::Failed) => context
            .terminal
            .result(&format!("{} had ended before; it stays as it is", job.name)),
        (OutputFormat::Table, _) => context
            .terminal
            .result(&format!("{} is cancelled", job.name)),
        _ => print_job(&job, &context),
    }
}
