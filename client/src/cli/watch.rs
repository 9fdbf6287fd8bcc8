//! `dual16 watch`: follows a job to its end. On local state it also does the job's work, since
//! nobody else would.

use super::{
    Context, OutputFormat, WatchArgs,
    find::find,
    follow::{Ended, follow},
    session::{Session, Target, Work},
};
use crate::{
    api::{Client, JobName},
    error::Error,
    render::{job_json, wrapped},
};

pub(super) async fn run(args: &WatchArgs, mut context: Context<'_>) -> Result<(), Error> {
    let target = Target::of_existing_job(context.global)?;
    let open = Session::open(&target, Work::Tasks, context.global, &context.progress);
    let session = context
        .signals
        .or_interrupted("nothing was changed", open)
        .await?;
    let result = in_session(&session.client, args, &target, &mut context).await;
    session.close().await;
    let (name, ended) = result?;
    match context.global.output {
        OutputFormat::Table => {
            let paint = context.terminal.stdout_paint();
            let rows = args.table.rows(context.terminal);
            let tables = ended.report.tables(rows, paint);
            let next = format!(
                "{name} succeeded; `dual16 fetch {} {} --out DIR` brings its results",
                name.id(),
                target.flags()
            );
            let next = wrapped(&next, paint.width(), 0);
            context.terminal.result(&format!("{tables}\n\n{next}"))
        }
        OutputFormat::Json => context.terminal.result(&job_json(&ended.job).to_string()),
        OutputFormat::Jsonl => Ok(()),
    }
}

async fn in_session(
    client: &Client,
    args: &WatchArgs,
    target: &Target,
    context: &mut Context<'_>,
) -> Result<(JobName, Ended), Error> {
    let find = find(client, &args.job.job);
    let name = context
        .signals
        .or_interrupted("nothing was changed", find)
        .await?;
    let ended = follow(client, &name, target, context).await?;
    Ok((name, ended))
}
