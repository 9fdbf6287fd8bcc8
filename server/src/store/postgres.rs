//! [`PostgresStore`]: the jobs in a PostgreSQL database that any number of servers share.
//!
//! A verb is one transaction around the pure machine: it locks the job's row, reads, asks the machine and
//! writes state, tasks and events together. Claims pass over jobs that another server has locked. Nothing
//! is locked while inputs are read. What one server alone does for all (`leader`) goes by advisory locks, and
//! who waits elsewhere hears of changes by NOTIFY (`hints`), sent outside the transactions: in each of them
//! it would serialize their commits.

mod apply;
mod claim;
mod clock;
mod error;
mod hints;
mod leader;
mod next_job;
mod options;
mod queries;
mod retain;
mod sql;
#[cfg(test)]
mod tests;
pub(crate) mod transfer;
mod uses;
mod verbs;

use std::{
    borrow::Cow,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use sqlx::{
    PgPool, Postgres, Transaction,
    migrate::{Migration, MigrationType, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};

pub use self::options::{InvalidUrl, check};
use self::{clock::DatabaseClock, hints::Hints, leader::Leader};
use super::{Changes, StoreConfig, StoreError, turns::Turns};
use crate::{
    clock::{Clock, Timestamp},
    job::{Job, JobId, LeaseRef, Slot, Task, TaskEvent, TaskId, TaskName},
};

/// Connections of one server, the one that listens among them; that of the leader's lock comes on top.
const CONNECTIONS: u32 = 16;
/// How long a verb waits for a connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between a commit whose outcome is unknown and another try to give its leases back.
const RELEASE_PAUSE: Duration = Duration::from_millis(500);
/// How often that is tried: the lease runs out meanwhile.
const RELEASE_TRIES: u32 = 60;

/// One step, from its file. It waits for whoever holds a lock.
macro_rules! step {
    ($version:literal, $name:literal) => {
        (
            $version,
            $name,
            concat!(
                "SET LOCAL lock_timeout = 0;\n",
                include_str!(concat!("postgres/schema_", $version, ".sql"))
            ),
        )
    };
}

/// Steps of the schema, forward only. A database that has further ones is refused.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    step!(1, "jobs"),
    step!(2, "uses of blobs"),
    step!(3, "priorities"),
    step!(4, "deadlines"),
];

/// A [`super::Store`] in a database that other servers use too.
#[derive(Debug)]
pub struct PostgresStore {
    pool: PgPool,
    config: StoreConfig,
    clock: Arc<DatabaseClock>,
    /// The latest time that a verb was called with, in milliseconds.
    now: AtomicU64,
    /// Each server gives priorities and owners their turns.
    turns: Mutex<Turns>,
    leader: tokio::sync::Mutex<Leader>,
    /// This server has noted the time since it started.
    noted: AtomicBool,
    hints: Hints,
}

impl PostgresStore {
    /// Connects to a database, and makes or brings forward its tables. `url` is as libpq's,
    /// `postgres://user@host/database?sslmode=verify-full&sslrootcert=…`; a host that is not this machine
    /// is verified unless it says otherwise. Where no other server is there, leases of earlier ones stay in
    /// force for a further `grace`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the database cannot be reached or refuses, [`StoreError::Format`] if
    /// it was written by a newer version.
    pub async fn open(
        url: &str,
        config: StoreConfig,
        now: Option<Timestamp>,
        grace: Duration,
    ) -> Result<Self, StoreError> {
        let options = options::parse(url).map_err(|error| StoreError::Failed(error.to_string()))?;
        let pool = Self::pool(options.clone());
        migrate(&pool).await?;
        let clock = Arc::new(DatabaseClock::new(&pool).await?);
        let now = now.unwrap_or_else(|| clock.now());
        let schema: String = sqlx::query_scalar(sql::SCHEMA).fetch_one(&pool).await?;
        let longest_wait = config.machine.backoff.cap;
        let mut leader = Leader::new(options, grace, longest_wait);
        leader.attend(now).await?;
        let hints = Hints::start(pool.clone(), &schema);
        Ok(Self {
            pool,
            config,
            clock,
            now: AtomicU64::new(now.as_millis()),
            turns: Mutex::default(),
            leader: tokio::sync::Mutex::new(leader),
            noted: AtomicBool::new(false),
            hints,
        })
    }

    fn pool(options: PgConnectOptions) -> PgPool {
        PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(PATIENCE)
            .connect_lazy_with(options)
    }

    /// The time that all servers of the database go by: its own.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock) as _
    }

    /// Time as the verbs see it, one after the other: it does not go back.
    fn advance(&self, now: Timestamp) -> Timestamp {
        let now = now.as_millis();
        Timestamp::from_millis(self.now.fetch_max(now, Ordering::Relaxed).max(now))
    }

    async fn begin(&self, now: Timestamp) -> Result<Writing<'_>, StoreError> {
        Ok(Writing {
            transaction: self.pool.begin().await?,
            config: &self.config,
            changes: Changes::default(),
            now,
        })
    }

    /// Tells the others.
    fn changed(&self, changes: Changes) -> Changes {
        self.hints.send(&changes);
        changes
    }

    /// Tries again what other transactions kept from its end; nothing of it was done.
    async fn insist<T, A>(&self, mut attempt: impl FnMut() -> A) -> Result<T, StoreError>
    where
        A: Future<Output = Result<T, StoreError>> + Send,
    {
        const TRIES: u32 = 10;
        let mut tries = 1;
        loop {
            match attempt().await {
                Err(StoreError::Contended(error)) if tries < TRIES => {
                    tracing::debug!(error, tries, "a transaction is tried again");
                    tokio::time::sleep(Duration::from_millis(5 << tries.min(6))).await;
                    tries += 1;
                }
                outcome => return outcome,
            }
        }
    }

    /// Gives back leases that nobody was told of, because nobody knows whether their grant was committed.
    fn give_back(&self, leases: Vec<LeaseRef>) {
        let (pool, config, now) = (self.pool.clone(), self.config, self.clock.now());
        tokio::spawn(async move {
            for lease in leases {
                for _ in 0..RELEASE_TRIES {
                    tokio::time::sleep(RELEASE_PAUSE).await;
                    match give_back(&pool, &config, lease, now).await {
                        Ok(()) | Err(StoreError::Closed) => break,
                        Err(error) => {
                            tracing::debug!(%error, task = %lease.name, "not given back yet");
                        }
                    }
                }
            }
        });
    }
}

async fn give_back(
    pool: &PgPool,
    config: &StoreConfig,
    lease: LeaseRef,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut writing = Writing {
        transaction: pool.begin().await?,
        config,
        changes: Changes::default(),
        now,
    };
    let event = TaskEvent::Release(lease.fence);
    match writing.task_event(lease, event).await {
        // It was not committed, or has run out.
        Err(StoreError::Refused(_)) => Ok(()),
        Err(error) => Err(error),
        Ok(()) => writing.commit().await.map(drop),
    }
}

/// Makes the tables, or brings them forward. One server at a time does so.
async fn migrate(pool: &PgPool) -> Result<(), StoreError> {
    migrate_by(pool, MIGRATIONS).await
}

async fn migrate_by(pool: &PgPool, steps: &[(i64, &str, &'static str)]) -> Result<(), StoreError> {
    let steps = steps.iter().map(|(version, name, sql)| {
        let sql = sqlx::SqlStr::from_static(sql);
        Migration::new(
            *version,
            Cow::Owned((*name).to_owned()),
            MigrationType::Simple,
            sql,
            false,
        )
    });
    let migrated = Migrator::with_migrations(steps.collect()).run(pool).await;
    migrated.map_err(error::of_migration)
}

/// A transaction at work: reads, steps of the machine, and what they changed so far.
struct Writing<'a> {
    transaction: Transaction<'a, Postgres>,
    config: &'a StoreConfig,
    changes: Changes,
    now: Timestamp,
}

impl Writing<'_> {
    async fn commit(self) -> Result<Changes, StoreError> {
        self.transaction.commit().await?;
        Ok(self.changes)
    }

    /// A job, which nobody else changes until the end of the transaction.
    async fn lock_job(&mut self, id: JobId) -> Result<Job, StoreError> {
        let header = sqlx::query_scalar(sql::LOCK_JOB).bind(&id.as_bytes()[..]);
        let header: Option<String> = header.fetch_optional(&mut *self.transaction).await?;
        queries::job(&header.ok_or(StoreError::NotFound(id))?)
    }

    async fn find_task(&mut self, name: TaskName) -> Result<Option<Task>, StoreError> {
        let (stage, slot) = place(name.task);
        let record = sqlx::query_scalar(sql::TASK)
            .bind(&name.job.as_bytes()[..])
            .bind(stage)
            .bind(slot);
        let record: Option<String> = record.fetch_optional(&mut *self.transaction).await?;
        record.map(|record| queries::task(&record)).transpose()
    }
}

/// Stage and slot as columns.
fn place(task: TaskId) -> (i64, i64) {
    let slot = match task.slot {
        Slot::Map(index) => i64::from(index),
        Slot::Reduce => REDUCE,
    };
    (i64::from(task.stage), slot)
}

/// After every map.
const REDUCE: i64 = 1 << 32;

/// Reads back what [`place`] made.
fn task_at(job: JobId, stage: i64, slot: i64) -> Result<TaskName, StoreError> {
    let corrupt = |_| StoreError::Corrupt(format!("a task of {job} has no place"));
    let slot = match slot {
        REDUCE => Slot::Reduce,
        index => Slot::Map(u32::try_from(index).map_err(corrupt)?),
    };
    let stage = u32::try_from(stage).map_err(corrupt)?;
    let task = TaskId { stage, slot };
    Ok(TaskName { job, task })
}

/// A number as a column.
fn column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Reads back what [`column`] made.
fn number(column: i64) -> u64 {
    u64::try_from(column).unwrap_or(0)
}
