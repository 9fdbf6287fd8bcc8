//! `dual16 delete`: removes a job that has ended.

use super::{
    Context, JobArgs, OutputFormat,
    find::find,
    session::{Target, Work, with_session},
};
use crate::error::Error;

pub(super) async fn run(args: &JobArgs, mut context: Context<'_>) -> Result<(), Error> {
    let target = Target::of_existing_job(context.global)?;
    let name = with_session(&target, Work::StateOnly, &mut context, async |client, _| {
        let name = find(client, &args.job).await?;
        client.delete_job(&name).await?;
        Ok(name)
    })
    .await?;
    match context.global.output {
        OutputFormat::Table => context.terminal.result(&format!("{name} is deleted")),
        _ => context
            .terminal
            .result(&serde_json::json!({"deleted": name.as_str()}).to_string()),
    }
}
