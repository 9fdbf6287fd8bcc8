//! For tests: stores in memory, with an engine that does what a test needs around reads, commits and
//! syncs.

use std::{
    ops::{Deref, Range},
    time::Duration,
};

use dual16_proto::v1;

use super::{
    Batch, Engine, MemoryEngine, Order, Quota, Record, RecordStore, Records, Store, StoreConfig,
    StoreError,
};
use crate::{
    clock::Timestamp,
    digest::Digest,
    job::{Backoff, JobId, Machine, NewJob},
    principal::Principal,
};

/// What happens around the work of an engine; nothing, unless said otherwise.
pub(crate) trait Hooks: Send + Sync + 'static {
    /// Before a key is read.
    fn reading(&self, _key: &[u8]) {}

    /// Before a batch is applied, and after it.
    fn committing(&self) {}

    /// In place of waiting for a disk.
    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Memory with hooks; it is what its hooks are, besides.
#[derive(Clone, Default)]
pub(crate) struct Hooked<H> {
    pub(crate) records: MemoryEngine,
    pub(crate) hooks: H,
}

impl<H> Deref for Hooked<H> {
    type Target = H;

    fn deref(&self) -> &H {
        &self.hooks
    }
}

impl<H: Hooks> Records for Hooked<H> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.hooks.reading(key);
        self.records.get(key)
    }

    fn scan(
        &self,
        range: Range<Vec<u8>>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        self.records.scan(range, order, limit)
    }
}

impl<H: Hooks> Engine for Hooked<H> {
    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.hooks.committing();
        self.records.commit(batch)?;
        self.hooks.committing();
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.hooks.sync()
    }
}

/// A store whose attempts need no pause, with room for a hundred open jobs.
pub(crate) fn open<E: Engine>(engine: E, ttl: Duration) -> RecordStore<E> {
    let config = StoreConfig {
        machine: Machine {
            max_attempts: 3,
            max_stages: 8,
            backoff: Backoff::NONE,
        },
        max_open_jobs: 100,
        quota: Quota {
            open_jobs: 100,
            bytes: u64::MAX,
        },
    };
    RecordStore::open(engine, config, Timestamp::MIN, ttl).unwrap()
}

/// Submits a job that keeps no blobs.
pub(crate) fn create_named(store: &impl Store, name: &str) -> Result<JobId, StoreError> {
    let id = JobId::generate();
    let new = NewJob {
        id,
        owner: Principal::anonymous(),
        display_name: name.into(),
        spec_digest: Digest::of(b"spec"),
        request_id: None,
        blobs: Vec::new(),
        trace: None,
    };
    let file = v1::InputFile {
        name: "model.onnx".into(),
        ..v1::InputFile::default()
    };
    let spec = v1::JobSpec {
        calibration: vec![file],
        ..v1::JobSpec::default()
    };
    store.create_job(new, &spec, Timestamp::MIN)?;
    Ok(id)
}

/// As [`create_named`], by a name that matters to nobody.
pub(crate) fn create(store: &impl Store) -> Result<JobId, StoreError> {
    create_named(store, "model")
}
