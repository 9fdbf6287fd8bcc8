//! `dual16 show`: one job as it stands. Showing a failed job is a success.

use dual16_proto::v1::Job;

use super::{
    Context, JobArgs, OutputFormat,
    find::find,
    session::{Target, Work, with_session},
};
use crate::{
    error::Error,
    render::{job_json, job_table},
};

pub(super) async fn run(args: &JobArgs, mut context: Context<'_>) -> Result<(), Error> {
    let target = Target::of_existing_job(context.global)?;
    let job = with_session(&target, Work::StateOnly, &mut context, async |client, _| {
        Ok(client.get_job(&find(client, &args.job).await?).await?)
    })
    .await?;
    print_job(&job, &context)
}

/// The job in the form that was asked for.
pub(super) fn print_job(job: &Job, context: &Context<'_>) -> Result<(), Error> {
    match context.global.output {
        OutputFormat::Table => context
            .terminal
            .result(&job_table(job, context.terminal.stdout_paint())),
        _ => context.terminal.result(&job_json(job).to_string()),
    }
}
