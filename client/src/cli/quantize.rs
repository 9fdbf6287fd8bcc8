//! `dual16 quantize`: the whole way from a model to its results.

use std::path::Path;

use dual16_proto::v1::{Job, JobState, job_spec::Kind};
use indicatif::HumanBytes;

use super::{
    Context, OutputFormat, QuantizeArgs, QuantizeCommandArgs, TableArgs,
    fetch::{files_text, make_folder, required},
    follow::{Ended, follow},
    report,
    session::Target,
    submit,
};
use crate::{
    api::{Client, Fetched, JobName},
    error::{BAD_INPUT, Error},
    inputs::PreparedJob,
    render::{job_json, submitted_json},
};

/// The folder of local state inside `--out`.
pub(super) const STATE_FOLDER: &str = ".dual16";
/// What is printed as JSON, by kind of job.
const RESULTS: [&str; 2] = ["result.json", "sensitivity.json"];

pub(super) async fn run(args: &QuantizeCommandArgs, context: Context<'_>) -> Result<(), Error> {
    let QuantizeCommandArgs { quantize, check } = args;
    if let (Some(_), true) = (check.fail_under, quantize.detach) {
        return Err(Error::usage(
            "--fail-under has nothing to check where --detach leaves before the job is done",
            "leave one of them out, or check later with `dual16 report JOB --fail-under DB`",
        ));
    }
    to_end("quantize", quantize, None, context).await?;
    match &quantize.out {
        Some(out) => report::check(*check, out),
        None => Ok(()),
    }
}

/// A job of some kind, from the model to its results.
pub(super) async fn to_end(
    command: &str,
    args: &QuantizeArgs,
    kind: Option<Kind>,
    mut context: Context<'_>,
) -> Result<(), Error> {
    let missing = match (&args.out, args.detach) {
        (None, false) => &["--out DIR"][..],
        _ => &[],
    };
    args.inputs.require(command, missing)?;
    let target = Target::of_new_job(context.global, || {
        Ok(required(&args.out)?.join(STATE_FOLDER))
    })?;
    if args.detach && target.is_local() {
        return Err(Error::usage(
            "--detach needs a server: a local job ends with its command",
            "name one with --server URL, or leave --detach out",
        ));
    }
    // The folder is tried now rather than after hours of work.
    let out = match args.detach {
        true => None,
        false => Some(required(&args.out)?),
    };
    let spec = args.settings.spec();
    let prepare = submit::prepare(&args.inputs, spec, kind, &context.progress);
    let job = context
        .signals
        .or_interrupted("nothing was submitted", prepare)
        .await?;
    if let Some(out) = out {
        make_folder(out)?;
    }
    let session = context.open(&target).await?;
    let result = in_session(&session.client, job, out, &target, &mut context).await;
    let left = match is_over(&result) {
        true => unfinished(&session.client, &target).await,
        false => Left::ThisJob,
    };
    session.close().await;
    clean_up(&target, left, &context);
    match (result?, out) {
        (Some((ended, files)), Some(out)) => present(&ended, &files, out, &args.table, &context),
        _ => Ok(()),
    }
}

/// What a job brought, unless it was only submitted.
pub(super) type Brought = Option<(Ended, Vec<Fetched>)>;

async fn in_session(
    client: &Client,
    prepared: PreparedJob,
    out: Option<&Path>,
    target: &Target,
    context: &mut Context<'_>,
) -> Result<Brought, Error> {
    let job = submit_or_resume(client, prepared, target, out.is_some(), context).await?;
    let result = to_results(client, &job, out, target, context).await;
    if target.is_local() && context.global.data.is_none() && is_over(&result) {
        // Should it stay, so does the state, which costs room and no more.
        let _ = client.delete_job(&job_name(&job)?).await;
    }
    result
}

/// Whether a command leaves nothing to go on with. Bad input does not either: put right, it is
/// another job.
fn is_over(result: &Result<Brought, Error>) -> bool {
    match result {
        Ok(_) => true,
        Err(error) => error.exit_code() == BAD_INPUT,
    }
}

pub(super) async fn to_results(
    client: &Client,
    job: &Job,
    out: Option<&Path>,
    target: &Target,
    context: &mut Context<'_>,
) -> Result<Brought, Error> {
    let Some(out) = out else {
        match context.global.output {
            OutputFormat::Table => context.terminal.result(&job.name)?,
            _ => context.terminal.result(&job_json(job).to_string())?,
        }
        return Ok(None);
    };
    let name = job_name(job)?;
    let ended = follow(client, &name, target, context).await?;
    let bytes = ended
        .job
        .artifacts
        .iter()
        .map(|artifact| artifact.size)
        .sum();
    let mut files = {
        let transfer = context.progress.transfer("download", bytes);
        let moved = |bytes| transfer.moved(bytes);
        let fetch = async { Ok(client.fetch(&ended.job.artifacts, out, &moved).await?) };
        let advice = match target {
            Target::Local(_) => "the job is done; the same command brings its results".to_owned(),
            Target::Remote(_) => format!(
                "the job is done; `dual16 fetch {} {} --out {}` brings its results",
                name.id(),
                target.flags(),
                out.display()
            ),
        };
        context.signals.or_interrupted(&advice, fetch).await?
    };
    report::add_to(&mut files, out, &context.progress);
    Ok(Some((ended, files)))
}

/// A local command that is run again finds the job it began; on a server each command is a new job,
/// whose name is told first of all to whoever is going to follow it: that finds it again, whatever
/// becomes of this command.
pub(super) async fn submit_or_resume(
    client: &Client,
    prepared: PreparedJob,
    target: &Target,
    followed: bool,
    context: &mut Context<'_>,
) -> Result<Job, Error> {
    let request_id = match target.is_local() {
        true => prepared.request_id(),
        false => uuid::Uuid::new_v4().to_string(),
    };
    let (progress, terminal) = (context.progress.clone(), context.terminal);
    let output = context.global.output;
    let work = async {
        let job = submit::submit(client, prepared, request_id, &progress).await?;
        if !target.is_local() && followed {
            progress.line(&format!("submitted {}", job.name));
            if output == OutputFormat::Jsonl {
                terminal.result(&submitted_json(&job, client.url()).to_string())?;
            }
        }
        if job.stages.iter().any(|stage| stage.done > 0) {
            progress.line("going on with what an earlier run of this command began");
        }
        match job.state() {
            JobState::Failed | JobState::Cancelled => {
                Ok(client.retry_job(&job_name(&job)?).await?)
            }
            _ => Ok(job),
        }
    };
    context
        .signals
        .or_interrupted("the same command goes on with the upload", work)
        .await
}

pub(super) fn job_name(job: &Job) -> Result<JobName, Error> {
    job.name.parse().map_err(|_| Error::Artifact {
        name: format!("the job name {:?}", job.name),
        reason: "the server broke the protocol; it must be jobs/ID".to_owned(),
    })
}

pub(super) fn present(
    ended: &Ended,
    files: &[Fetched],
    out: &Path,
    table: &TableArgs,
    context: &Context<'_>,
) -> Result<(), Error> {
    match context.global.output {
        OutputFormat::Table => {
            let rows = table.rows(context.terminal);
            let tables = ended.report.tables(rows, context.terminal.stdout_paint());
            context
                .terminal
                .result(&format!("{tables}\n\n{}", files_text(files)))
        }
        OutputFormat::Json => {
            let found = RESULTS
                .map(|name| out.join(name))
                .into_iter()
                .find(|path| path.exists());
            let path = found.unwrap_or_else(|| out.join(RESULTS[0]));
            let text = std::fs::read_to_string(&path).map_err(|error| Error::Artifact {
                name: path.display().to_string(),
                reason: error.to_string(),
            })?;
            context.terminal.result(&text)
        }
        OutputFormat::Jsonl => {
            context.progress.line(&files_text(files));
            Ok(())
        }
    }
}

/// Why the state inside --out is of use still.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    /// It is not.
    Nothing,
    /// This command's job is not done.
    ThisJob,
    /// A job of a command with other settings was interrupted, or its results were not fetched.
    OtherJobs,
}

/// What is left when this command's job is over. Where nobody knows, there may be another.
async fn unfinished(client: &Client, target: &Target) -> Left {
    if !target.is_local() {
        return Left::Nothing;
    }
    match client.list_jobs(&[], 1).await {
        Ok(jobs) if jobs.is_empty() => Left::Nothing,
        _ => Left::OtherJobs,
    }
}

/// The state inside --out goes once it is of no more use; a folder that the user named stays.
fn clean_up(target: &Target, left: Left, context: &Context<'_>) {
    let Target::Local(state) = target else { return };
    if context.global.data.is_some() {
        return;
    }
    match left {
        Left::ThisJob => {}
        Left::OtherJobs => context.progress.line(&format!(
            "{} ({}) stays: a run with other settings was interrupted, and the same command would go \
             on with it; remove the folder if nobody will",
            state.display(),
            HumanBytes(size_of(state)),
        )),
        Left::Nothing => {
            if let Err(error) = std::fs::remove_dir_all(state) {
                let state = state.display();
                context
                    .progress
                    .warning(&format!("cannot remove {state}, it can go: {error}"));
            }
        }
    }
}

/// Bytes of the files in a folder; what cannot be read counts nothing.
fn size_of(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => size_of(&entry.path()),
            Ok(data) => data.len(),
            Err(_) => 0,
        })
        .sum()
}
