//! `check`: reads every record and every byte of every blob that a job keeps, and changes nothing.

use std::{collections::HashMap, io::Write, path::Path};

use super::{OfflineError, Opened, job_findings, say};
use crate::store::{StoreError, salvage};

/// Checks a data directory; writes a line for each finding and one that sums up. True = sound.
///
/// # Errors
/// The directory is in use or cannot be read at all. Damage is no error but a finding.
pub fn check(data: &Path, report: &mut dyn Write) -> Result<bool, OfflineError> {
    let mut opened = Opened::new(data)?;
    let blobs = opened.blobs.clone();
    let mut findings = 0_u64;
    let engine = match opened.engine() {
        Ok(engine) => engine,
        Err(error @ StoreError::Format { .. }) => return Err(error.into()),
        Err(error) => {
            say(report, format!("the database cannot be opened: {error}"))?;
            say(report, "1 finding: restore a backup, or import an archive")?;
            return Ok(false);
        }
    };
    if let Some(lost) = engine.lost_commits() {
        findings += 1;
        say(report, lost)?;
    }
    if let Some(unknown) = engine.unknown_commits() {
        findings += 1;
        say(report, unknown)?;
    }
    let mut records = 0_u64;
    let mut damage = Vec::new();
    salvage::records(
        engine,
        |error| damage.push(error),
        |_| {
            records += 1;
            Ok(())
        },
    )?;
    for error in &damage {
        say(report, format!("records cannot be read: {error}"))?;
    }
    findings += damage.len() as u64;
    let jobs = match salvage::jobs(engine) {
        Ok(jobs) => jobs,
        Err(error) => {
            say(report, format!("the jobs cannot be listed: {error}"))?;
            return Ok(false);
        }
    };
    let mut known = HashMap::new();
    for job in &jobs {
        for finding in job_findings(engine, &blobs, *job, &mut known)? {
            findings += 1;
            say(report, format!("{job}: {finding}"))?;
        }
    }
    let (jobs, blobs) = (jobs.len(), known.len());
    let verdict = match findings {
        0 => "sound".to_owned(),
        findings => format!("{findings} findings; `dual16-server repair` saves what can be read"),
    };
    say(
        report,
        format!("{jobs} jobs, {records} records, {blobs} blobs: {verdict}"),
    )?;
    Ok(findings == 0)
}
