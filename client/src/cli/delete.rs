//! `dual16 delete`: removes a job that has ended.

use super::{
    Context, JobArgs, OutputFormat,
    session::{Target, Work, with_session},
};
use crate::error::Error;

pub(super) async fn run(args: &JobArgs, mut context: Context<'_>) -> Result<(), Error> {
    let target = Target::of_existing_job(context.global)?;
    with_session(&target, Work::StateOnly, &mut context, async |client, _| {
        Ok(client.delete_job(&args.job).await?)
    })
    .await?;
    match context.global.output {
        OutputFormat::Table => context.terminal.result(&format!("{} is deleted", args.job)),
        _ => context
            .terminal
            .result(&serde_json::json!({"deleted": args.job.as_str()}).to_string()),
    }
}
