//! `dual16 report`: makes the page of a job's results, from a folder that has them or from a server, and
//! checks the outputs for those whose programs want to know.

use std::path::{Path, PathBuf};

use dual16_proto::v1::Artifact;

use super::{
    CheckArgs, Context, OutputFormat, ReportArgs,
    fetch::{file_json, files_text, make_folder, require_results, temporary},
    find::find,
    session::{Target, Work, with_session},
};
use crate::{
    api::{Fetched, JobName},
    error::Error,
    page,
    render::Progress,
};

pub(super) async fn run(args: &ReportArgs, mut context: Context<'_>) -> Result<(), Error> {
    let folder = PathBuf::from(&args.of);
    if folder.is_dir() {
        let out = args.out.as_deref().unwrap_or(&folder);
        make_folder(out)?;
        tell(page::write(&folder, out)?, &context)?;
        return check(args.check, &folder);
    }
    let (page, artifacts) = of_job(args, &mut context).await?;
    tell(page, &context)?;
    check(args.check, artifacts.path())
}

/// The page of a job, and what of it was brought for that.
async fn of_job(
    args: &ReportArgs,
    context: &mut Context<'_>,
) -> Result<(Fetched, tempfile::TempDir), Error> {
    let nothing = || format!("{} is no folder", args.of);
    let name: JobName = args
        .of
        .parse()
        .map_err(|_| Error::usage(nothing(), "name the --out of a job, or the job itself"))?;
    let target = Target::of_existing_job(context.global).map_err(|error| match error {
        Error::Usage { problem, remedy } => {
            Error::usage(format!("{}, and {problem}", nothing()), remedy)
        }
        other => other,
    })?;
    let out = args
        .out
        .as_deref()
        .ok_or_else(|| Error::usage("it is not said where report.html goes", "add --out DIR"))?;
    let folder = temporary()?;
    with_session(
        &target,
        Work::StateOnly,
        context,
        async |client, progress| {
            let job = client.get_job(&find(client, &name).await?).await?;
            require_results(&job)?;
            make_folder(out)?;
            let needed = |artifact: &&Artifact| page::NEEDED.contains(&artifact.name.as_str());
            let needed: Vec<Artifact> = job.artifacts.iter().filter(needed).cloned().collect();
            let bytes = needed.iter().map(|artifact| artifact.size).sum();
            let transfer = progress.transfer("download", bytes);
            Ok(client
                .fetch(&needed, folder.path(), &|bytes| transfer.moved(bytes))
                .await?)
        },
    )
    .await?;
    Ok((page::write(folder.path(), out)?, folder))
}

fn tell(page: Fetched, context: &Context<'_>) -> Result<(), Error> {
    let text = match context.global.output {
        OutputFormat::Table => files_text(&[page]),
        OutputFormat::Json | OutputFormat::Jsonl => file_json(&page).to_string(),
    };
    context.terminal.result(&text)
}

/// Refuses results whose outputs are below what was asked for.
pub(super) fn check(args: CheckArgs, folder: &Path) -> Result<(), Error> {
    match args.fail_under {
        Some(threshold) => page::below(folder, threshold),
        None => Ok(()),
    }
}

/// Writes the page beside results that were just brought. They are worth more than it: what keeps it from
/// being made is a warning.
pub(super) fn add_to(files: &mut Vec<Fetched>, out: &Path, progress: &Progress) {
    if !page::can_be_made(out) {
        return;
    }
    match page::write(out, out) {
        Ok(page) => files.push(page),
        Err(error) => progress.warning(&format!("there is no {}: {error}", page::PAGE)),
    }
}
