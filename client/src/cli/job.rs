//! The commands on one job: `dual16 show`, `cancel`, `retry` and `delete`. Showing a failed job is a success.

use dual16_proto::v1::{Job, JobState};

use super::{
    Context, JobArgs, OutputFormat,
    find::find,
    session::{Target, Work, with_session},
};
use crate::{
    api::{ApiError, Client, JobName},
    error::Error,
    render::{job_json, job_table},
};

pub(super) async fn show(args: &JobArgs, mut context: Context<'_>) -> Result<(), Error> {
    let get = async |client: &Client, name: &JobName| client.get_job(name).await;
    let (_, job) = on_job(args, &mut context, get).await?;
    print_job(&job, &context)
}

/// One that has ended stays as it is, and that is said.
pub(super) async fn cancel(args: &JobArgs, mut context: Context<'_>) -> Result<(), Error> {
    let cancel = async |client: &Client, name: &JobName| client.cancel_job(name).await;
    let (name, job) = on_job(args, &mut context, cancel).await?;
    let told = match job.state() {
        JobState::Succeeded | JobState::Failed => "had ended before; it stays as it is",
        _ => "is cancelled",
    };
    match context.global.output {
        OutputFormat::Table => context.terminal.result(&format!("{name} {told}")),
        _ => print_job(&job, &context),
    }
}

pub(super) async fn retry(args: &JobArgs, mut context: Context<'_>) -> Result<(), Error> {
    let retry = async |client: &Client, name: &JobName| client.retry_job(name).await;
    let (name, job) = on_job(args, &mut context, retry).await?;
    if context.global.output != OutputFormat::Table {
        return print_job(&job, &context);
    }
    let target = Target::of_existing_job(context.global)?;
    let next = match target.is_local() {
        true => "does its work",
        false => "follows it",
    };
    let (id, flags) = (name.id(), target.flags());
    context.terminal.result(&format!(
        "{name} is queued again; `dual16 watch {id} {flags}` {next}"
    ))
}

pub(super) async fn delete(args: &JobArgs, mut context: Context<'_>) -> Result<(), Error> {
    let delete = async |client: &Client, name: &JobName| client.delete_job(name).await;
    let (name, ()) = on_job(args, &mut context, delete).await?;
    let told = match context.global.output {
        OutputFormat::Table => format!("{name} is deleted"),
        _ => serde_json::json!({"deleted": name.as_str()}).to_string(),
    };
    context.terminal.result(&told)
}

/// Finds the job, and calls the server about it.
async fn on_job<T>(
    args: &JobArgs,
    context: &mut Context<'_>,
    call: impl AsyncFnOnce(&Client, &JobName) -> Result<T, ApiError>,
) -> Result<(JobName, T), Error> {
    let target = Target::of_existing_job(context.global)?;
    with_session(&target, Work::StateOnly, context, async |client, _| {
        let name = find(client, &args.job).await?;
        let answer = call(client, &name).await?;
        Ok((name, answer))
    })
    .await
}

/// The job in the form that was asked for.
fn print_job(job: &Job, context: &Context<'_>) -> Result<(), Error> {
    match context.global.output {
        OutputFormat::Table => context
            .terminal
            .result(&job_table(job, context.terminal.stdout_paint())),
        _ => context.terminal.result(&job_json(job).to_string()),
    }
}
