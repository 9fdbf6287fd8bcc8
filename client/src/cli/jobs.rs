//! `dual16 jobs`: lists jobs.

use super::{
    Context, JobsArgs, OutputFormat,
    session::{Target, Work, with_session},
};
use crate::{
    error::Error,
    render::{job_json, jobs_table},
};

pub(super) async fn run(args: &JobsArgs, mut context: Context<'_>) -> Result<(), Error> {
    let target = Target::of_existing_job(context.global)?;
    let jobs = with_session(&target, Work::StateOnly, &mut context, async |client, _| {
        Ok(client.list_jobs(&args.state, args.limit as usize).await?)
    })
    .await?;
    match context.global.output {
        OutputFormat::Table => context
            .terminal
            .result(&jobs_table(&jobs, context.terminal.stdout_paint())),
        OutputFormat::Json => {
            let jobs: Vec<_> = jobs.iter().map(job_json).collect();
            context
                .terminal
                .result(&serde_json::json!({"jobs": jobs}).to_string())
        }
        OutputFormat::Jsonl => jobs
            .iter()
            .try_for_each(|job| context.terminal.result(&job_json(job).to_string())),
    }
}
