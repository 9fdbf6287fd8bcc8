//! The time of the database: what all of its servers go by, whatever their own clocks show.

use std::time::Instant;

use sqlx::PgPool;

use super::{number, sql};
use crate::{
    clock::{Clock, SystemClock, Timestamp},
    store::StoreError,
};

/// The clock of a database, read once; from then on it advances with this machine's own, so that no step of
/// either ends a lease.
#[derive(Debug)]
pub(super) struct DatabaseClock {
    started: Instant,
    /// What the database showed when `started` was.
    origin: Timestamp,
}

impl DatabaseClock {
    pub(super) async fn new(pool: &PgPool) -> Result<Self, StoreError> {
        // The first statement of a connection takes longer.
        sqlx::query(sql::STILL_THERE).execute(pool).await?;
        let asked = Instant::now();
        let shown: i64 = sqlx::query_scalar(sql::NOW).fetch_one(pool).await?;
        // It was read in the middle, as far as anyone knows.
        let started = asked + asked.elapsed() / 2;
        let origin = Timestamp::from_millis(number(shown));
        Ok(Self { started, origin })
    }
}

impl Clock for DatabaseClock {
    fn now(&self) -> Timestamp {
        self.origin.after(self.started.elapsed())
    }

    fn wall(&self) -> Timestamp {
        SystemClock::new().wall()
    }
}
