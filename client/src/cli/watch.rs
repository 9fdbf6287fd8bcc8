//! `dual16 watch`: follows a job to its end. On local state it also does the job's work, since
//! nobody else would.

use super::{
    Context, JobArgs, OutputFormat,
    follow::follow,
    session::{Session, Target, Work},
};
use crate::{error::Error, render::job_json};

pub(super) async fn run(args: &JobArgs, mut context: Context<'_>) -> Result<(), Error> {
    let target = Target::of_existing_job(context.global)?;
    let open = Session::open(&target, Work::Tasks, context.global, &context.progress);
    let session = context
        .signals
        .or_interrupted("nothing was changed", open)
        .await?;
    let result = follow(&session.client, &args.job, &target, &mut context).await;
    session.close().await;
    let ended = result?;
    match context.global.output {
        OutputFormat::Table => {
            let tables = ended.report.tables(context.terminal.stdout_paint());
            let id = args.job.id();
            context.terminal.result(&format!(
                "{tables}\n\n{} succeeded; `dual16 fetch {id} {} --out DIR` brings its results",
                args.job,
                target.flags()
            ))
        }
        OutputFormat::Json => context.terminal.result(&job_json(&ended.job).to_string()),
        OutputFormat::Jsonl => Ok(()),
    }
}
