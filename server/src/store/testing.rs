//! For tests: stores in memory, with an engine that does what a test needs around reads, commits and
//! syncs.

use std::{
    ops::{Deref, Range},
    time::Duration,
};

use dual16_proto::v1;
use sqlx::Connection as _;

use super::{
    Batch, Engine, MemoryEngine, Order, Quota, Record, RecordStore, Records, StoreConfig,
    StoreError,
};
use crate::{
    clock::Timestamp,
    digest::Digest,
    job::{Backoff, JobId, Machine, NewJob, Priority},
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

/// Tables of one test in the database that `./test` starts; they go with it.
pub(crate) struct TestDatabase {
    pub(crate) url: String,
    schema: String,
}

impl TestDatabase {
    pub(crate) fn new() -> Self {
        let database = std::env::var("DUAL16_TEST_POSTGRES").expect(
            "DUAL16_TEST_POSTGRES must be the URL of a PostgreSQL database for tests; ./test starts one",
        );
        let schema = format!("test_{}", uuid::Uuid::new_v4().simple());
        let url = format!("{database}?options=-c%20search_path%3D{schema}");
        let made = Self { url, schema };
        made.run("CREATE SCHEMA", "");
        made
    }

    /// Runs a statement about the schema, on a thread of its own: a test may have a runtime.
    fn run(&self, statement: &str, rest: &str) {
        let (url, statement) = (
            self.url.clone(),
            format!("{statement} {}{rest}", self.schema),
        );
        let running = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            runtime.block_on(async {
                let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
                let statement = sqlx::AssertSqlSafe(statement);
                sqlx::query(statement)
                    .execute(&mut connection)
                    .await
                    .unwrap();
            });
        });
        running.join().unwrap();
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        self.run("DROP SCHEMA IF EXISTS", " CASCADE");
    }
}

/// A store whose attempts need no pause, with room for a hundred open jobs.
pub(crate) fn open<E: Engine>(engine: E, ttl: Duration) -> RecordStore<E> {
    RecordStore::open(engine, config(), Timestamp::MIN, ttl).unwrap()
}

/// What such a store enforces.
pub(crate) fn config() -> StoreConfig {
    StoreConfig {
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
    }
}

/// Submits a job that keeps no blobs.
pub(crate) fn create_named(
    store: &RecordStore<impl Engine>,
    name: &str,
) -> Result<JobId, StoreError> {
    let id = JobId::generate();
    let new = NewJob {
        id,
        owner: Principal::anonymous(),
        priority: Priority::Normal,
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
pub(crate) fn create(store: &RecordStore<impl Engine>) -> Result<JobId, StoreError> {
    create_named(store, "model")
}
