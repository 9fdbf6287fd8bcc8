//! `dual16 info`: what the server is and what it accepts.

use super::{
    Context, OutputFormat,
    session::{Target, Work, with_session},
};
use crate::{
    error::Error,
    render::{info_json, info_table},
};

pub(super) async fn run(mut context: Context<'_>) -> Result<(), Error> {
    let target = Target::of_existing_job(context.global)?;
    let (url, info) = with_session(&target, Work::StateOnly, &mut context, async |client, _| {
        Ok((client.url().to_owned(), client.info().await?))
    })
    .await?;
    match context.global.output {
        OutputFormat::Table => {
            context
                .terminal
                .result(&info_table(&url, &info, context.terminal.stdout_paint()))
        }
        _ => context.terminal.result(&info_json(&url, &info).to_string()),
    }
}
