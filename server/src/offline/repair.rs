//! `repair`: saves what can be read into a new database, and fails by name each job that has lost
//! something. Nothing of it is thrown away: the database that was replaced, the damaged blobs and the
//! records that were taken out stay beside the data, the database until the next repair.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
};

use super::{OfflineError, Opened, at, job_findings, say};
use crate::{
    clock::{Clock as _, SystemClock},
    digest::Digest,
    store::{
        LostCommits, SledEngine,
        salvage::{self, Filler},
    },
};

/// What a database is called that was replaced, before the time.
const DAMAGED: &str = "store.damaged-";

/// Findings of one job that its error tells.
const TOLD: usize = 3;

/// Repairs a data directory; writes a line for each thing done.
///
/// # Errors
/// The directory is in use or cannot be written, or its database cannot be opened at all. The
/// database stays as it was then.
pub fn repair(data: &Path, report: &mut dyn Write) -> Result<(), OfflineError> {
    let mut opened = Opened::new(data)?;
    let now = SystemClock::new().now();
    let (root, blobs) = (opened.data.path().to_owned(), opened.blobs.clone());
    let fresh = root.join("store.new");
    if fresh.exists() {
        fs::remove_dir_all(&fresh).map_err(at(&fresh))?;
    }
    let old = opened.engine()?;
    if let Some(LostCommits { found, durable }) = old.lost_commits() {
        let lost = durable - found;
        say(
            report,
            format!("the last {lost} commits are lost: jobs are as they were before them"),
        )?;
    }
    if let Some(unknown) = old.unknown_commits() {
        say(report, unknown)?;
    }
    let new = SledEngine::open(&fresh)?;
    let mut filler = Filler::new(&new)?;
    let mut damage = Vec::new();
    salvage::records(old, |error| damage.push(error), |record| filler.put(record))?;
    filler.finish()?;
    for error in damage {
        say(report, format!("records cannot be read: {error}"))?;
    }

    // Every job is judged before the first is changed: indexes are made anew for all.
    let mut damaged = BTreeMap::new();
    let mut known = HashMap::new();
    for job in salvage::jobs(&new)? {
        let found = job_findings(&new, &blobs, job, &mut known)?;
        if !found.is_empty() {
            damaged.insert(job, found);
        }
    }
    set_aside(&root, &blobs, &known, report)?;
    let taken_out = root.join(format!("repair-{}.jsonl", now.as_millis()));
    let mut records = None;
    for (job, found) in &damaged {
        let mut why = found
            .iter()
            .take(TOLD)
            .cloned()
            .collect::<Vec<_>>()
            .join("; ");
        if let Some(more) = found.len().checked_sub(TOLD).filter(|more| *more > 0) {
            why.push_str(&format!("; and {more} more"));
        }
        for (key, value) in salvage::fail(&new, *job, &why, now)? {
            let file = match &mut records {
                Some(file) => file,
                None => {
                    let file = File::create_new(&taken_out).map_err(at(&taken_out))?;
                    records.insert(BufWriter::new(file))
                }
            };
            let (key, value) = (hex::encode(key), hex::encode(value));
            let line = serde_json::json!({ "job": job.to_string(), "key": key, "value": value });
            writeln!(file, "{line}").map_err(at(&taken_out))?;
        }
        say(report, format!("{job} is failed: {why}"))?;
    }
    if let Some(file) = records {
        let file = file.into_inner().map_err(io::IntoInnerError::into_error);
        file.and_then(|file| file.sync_all())
            .map_err(at(&taken_out))?;
        say(
            report,
            format!("records taken out are in {}", taken_out.display()),
        )?;
    }
    salvage::rebuild_indexes(&new)?;
    drop(new);
    SledEngine::wait_for_release(&fresh);

    let (store, aside) = (
        root.join("store"),
        root.join(format!("{DAMAGED}{}", now.as_millis())),
    );
    fs::rename(&store, &aside).map_err(at(&store))?;
    fs::rename(&fresh, &store).map_err(at(&fresh))?;
    File::open(&root)
        .and_then(|root| root.sync_all())
        .map_err(at(&root))?;
    remove_earlier_copies(&root, &aside, report)?;
    let failed = damaged.len();
    let aside = aside.display();
    say(
        report,
        format!("repaired: {failed} jobs failed; the old database is {aside}"),
    )
}

/// One copy of what was replaced is kept, and not one of each repair: a database can be large.
fn remove_earlier_copies(
    root: &Path,
    kept: &Path,
    report: &mut dyn Write,
) -> Result<(), OfflineError> {
    for entry in fs::read_dir(root).map_err(at(root))? {
        let path = entry.map_err(at(root))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if path == kept || !name.is_some_and(|name| name.starts_with(DAMAGED)) {
            continue;
        }
        fs::remove_dir_all(&path).map_err(at(&path))?;
        let path = path.display();
        say(
            report,
            format!("the copy of an earlier repair, {path}, is removed"),
        )?;
    }
    Ok(())
}

/// Moves blobs whose bytes are not those of their name to where nobody takes them for sound.
fn set_aside(
    root: &Path,
    blobs: &crate::blob::LocalBlobs,
    known: &HashMap<(Digest, u64), Option<String>>,
    report: &mut dyn Write,
) -> Result<(), OfflineError> {
    let folder = root.join("blobs.damaged");
    for ((digest, _), finding) in known {
        let path = blobs.path_of(*digest);
        if finding.is_none() || !path.exists() {
            continue;
        }
        // Only its name is wrong if another job has it with another size.
        if Digest::of_file(&path).is_ok_and(|(found, _)| found == *digest) {
            continue;
        }
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        fs::rename(&path, folder.join(digest.hex())).map_err(at(&path))?;
        say(
            report,
            format!(
                "blob {digest} is damaged and set aside in {}",
                folder.display()
            ),
        )?;
    }
    Ok(())
}
