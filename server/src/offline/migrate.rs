//! `migrate-store`: every job of a data directory into a database, or back. Blobs stay where they are.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use super::{OfflineError, Opened, archive::require_empty_of_store, install, say};
use crate::{
    server::data_dir::DataDir,
    store::{
        InvalidUrl, SledEngine, StoreError, check_database,
        postgres::transfer::Alone,
        salvage::{self, Filler},
    },
};

/// Where jobs are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a data directory.
    Directory(PathBuf),
    /// In a PostgreSQL database, by its URL.
    Database(String),
}

impl std::str::FromStr for Place {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        if !text.contains("://") {
            return Ok(Self::Directory(text.into()));
        }
        check_database(text)?;
        Ok(Self::Database(text.to_owned()))
    }
}

/// Copies every job from one place to the other, which must have none; the first stays as it is.
///
/// # Errors
/// A server uses one of them, the source is damaged, or the target has jobs. Nothing is copied then.
pub fn migrate(from: &Place, to: &Place, report: &mut dyn Write) -> Result<(), OfflineError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(OfflineError::Report)?;
    let jobs = match (from, to) {
        (Place::Directory(data), Place::Database(url)) => {
            runtime.block_on(into_database(data, url))?
        }
        (Place::Database(url), Place::Directory(data)) => {
            runtime.block_on(into_directory(url, data))?
        }
        (Place::Directory(_), Place::Directory(_)) => {
            return Err(OfflineError::Places(
                "two data directories: use export and import",
            ));
        }
        (Place::Database(_), Place::Database(_)) => {
            return Err(OfflineError::Places(
                "two databases: use pg_dump and pg_restore",
            ));
        }
    };
    say(
        report,
        format!("{jobs} jobs are copied; blobs are where they were"),
    )
}

async fn into_database(data: &Path, url: &str) -> Result<u64, OfflineError> {
    let mut opened = Opened::new(data)?;
    let engine = opened.whole_engine()?;
    for job in salvage::jobs(engine)? {
        if !salvage::findings(engine, job)?.is_empty() {
            return Err(OfflineError::Damaged);
        }
    }
    let database = Alone::open(url).await?;
    if !database.jobs().await?.is_empty() {
        return Err(OfflineError::HasJobs);
    }
    let jobs = database.fill(engine).await?;
    database.close().await?;
    Ok(jobs)
}

async fn into_directory(url: &str, data: &Path) -> Result<u64, OfflineError> {
    require_empty_of_store(data)?;
    let database = Alone::open(url).await?;
    let _lock = DataDir::lock(data.to_owned())?;
    let fresh = data.join("store.new");
    let engine = SledEngine::open(&fresh)?;
    let mut filler = Filler::new(&engine)?;
    let jobs = database.jobs().await?;
    for job in &jobs {
        for record in database.records_of(*job).await? {
            filler.put(record)?;
        }
    }
    if let Some(observed) = database.observed_time().await? {
        filler.put(observed)?;
    }
    filler.finish()?;
    for job in &jobs {
        if let Some(first) = salvage::findings(&engine, *job)?.into_iter().next() {
            return Err(StoreError::Corrupt(format!("{job}: {first}")).into());
        }
    }
    database.close().await?;
    install(engine, &fresh, data)?;
    Ok(jobs.len() as u64)
}
