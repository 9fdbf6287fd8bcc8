//! `dual16 fetch`: brings the artifacts of a job that has succeeded.

use std::path::{Path, PathBuf};

use dual16_proto::v1::{Job, JobState};
use indicatif::HumanBytes;
use serde_json::json;
use tempfile::TempDir;

use super::{
    Context, FetchArgs, OutputFormat,
    find::find,
    report,
    session::{Target, Work, with_session},
};
use crate::{api::Fetched, error::Error};

pub(super) async fn run(args: &FetchArgs, mut context: Context<'_>) -> Result<(), Error> {
    let out = required(&args.out)?;
    let target = Target::of_existing_job(context.global)?;
    let files = with_session(
        &target,
        Work::StateOnly,
        &mut context,
        async |client, progress| {
            let job = client.get_job(&find(client, &args.job).await?).await?;
            require_results(&job)?;
            make_folder(out)?;
            let bytes = job.artifacts.iter().map(|artifact| artifact.size).sum();
            let transfer = progress.transfer("download", bytes);
            let mut files = client
                .fetch(&job.artifacts, out, &|bytes| transfer.moved(bytes))
                .await?;
            report::add_to(&mut files, out, progress);
            Ok(files)
        },
    )
    .await?;
    match context.global.output {
        OutputFormat::Table => context.terminal.result(&files_text(&files)),
        OutputFormat::Json => {
            let files: Vec<_> = files.iter().map(file_json).collect();
            context
                .terminal
                .result(&json!({"files": files}).to_string())
        }
        OutputFormat::Jsonl => files
            .iter()
            .try_for_each(|file| context.terminal.result(&file_json(file).to_string())),
    }
}

/// Refuses a job that has no results.
pub(super) fn require_results(job: &Job) -> Result<(), Error> {
    let (state, remedy) = match job.state() {
        JobState::Succeeded => return Ok(()),
        JobState::Failed => (
            "failed",
            "`dual16 show` tells why, `dual16 retry` tries again",
        ),
        JobState::Cancelled => ("cancelled", "`dual16 retry` goes on with it"),
        _ => ("not done yet", "`dual16 watch` follows it until it is"),
    };
    Err(Error::NoResults {
        job: job.name.clone(),
        state: state.to_owned(),
        remedy: remedy.to_owned(),
    })
}

/// Makes sure that files can be written into `out`.
pub(super) fn make_folder(out: &Path) -> Result<(), Error> {
    let failed = |source| Error::Write {
        path: out.to_owned(),
        source,
    };
    std::fs::create_dir_all(out).map_err(failed)?;
    tempfile::Builder::new()
        .prefix(".dual16-")
        .tempfile_in(out)
        .map_err(failed)?;
    Ok(())
}

/// A folder that goes with its command.
pub(super) fn temporary() -> Result<TempDir, Error> {
    let folder = tempfile::Builder::new().prefix("dual16-").tempdir();
    folder.map_err(|source| Error::Write {
        path: std::env::temp_dir(),
        source,
    })
}

/// The folder for results, which a command needs.
pub(super) fn required(out: &Option<PathBuf>) -> Result<&Path, Error> {
    out.as_deref()
        .ok_or_else(|| Error::usage("it is not said where the results go", "add --out DIR"))
}

/// The files that were written, a line each.
pub(super) fn files_text(files: &[Fetched]) -> String {
    let lines: Vec<_> = files
        .iter()
        .map(|file| format!("wrote {} ({})", file.path.display(), HumanBytes(file.size)))
        .collect();
    lines.join("\n")
}

pub(super) fn file_json(file: &Fetched) -> serde_json::Value {
    json!({"path": file.path.display().to_string(), "size": file.size})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_without_results_says_what_to_do() {
        let job = |state: JobState| Job {
            state: state.into(),
            ..Job::default()
        };
        assert!(require_results(&job(JobState::Succeeded)).is_ok());
        let error = require_results(&job(JobState::Running)).unwrap_err();
        assert!(
            error.to_string().contains("watch") && error.exit_code() == 2,
            "{error}"
        );
    }

    #[test]
    fn an_out_that_cannot_be_a_folder_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = make_folder(file.path()).unwrap_err().to_string();
        assert!(
            error.contains(&file.path().display().to_string()),
            "{error}"
        );
    }
}
