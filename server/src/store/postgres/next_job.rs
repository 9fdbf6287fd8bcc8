//! The job that a claim takes its next task of, locked: what [`Ready::head`](crate::store::ready) says in memory.

use sqlx::Row as _;

use super::{Writing, queries, sql};
use crate::{
    job::{JobId, Priority},
    principal::Principal,
    store::{StoreError, records::reader::corrupt, turns::Turns},
};

/// A job with a queued task.
pub(super) struct Next {
    pub(super) job: JobId,
    pub(super) priority: Priority,
    pub(super) owner: Principal,
}

impl Writing<'_> {
    /// The priorities of which tasks are queued.
    pub(super) async fn queued_priorities(&mut self) -> Result<Vec<Priority>, StoreError> {
        let queued = sqlx::query_scalar(sql::QUEUED_PRIORITIES);
        let queued = queued.bind(Priority::ALL.map(|priority| priority as i16).to_vec());
        let queued: Vec<i16> = queued.fetch_all(&mut *self.transaction).await?;
        let mut known = Priority::ALL.to_vec();
        known.retain(|known| queued.contains(&(*known as i16)));
        Ok(known)
    }

    /// For a worker that has the files of the jobs `held`: of the priority, one of those `queued`, and the owner
    /// whose turn it is the oldest of those held that has a queued task, else the oldest. A job that somebody
    /// else has locked is passed over; only where all are, and `wait`, is one waited for.
    pub(super) async fn next_job(
        &mut self,
        turns: &Turns,
        queued: &[Priority],
        held: &[JobId],
        wait: bool,
    ) -> Result<Option<Next>, StoreError> {
        let mut found = None;
        let order = turns.order().into_iter();
        for priority in order.clone().filter(|next| queued.contains(next)) {
            if let Some(served) = turns.served(priority) {
                let after = sqlx::query(sql::NEXT_JOB);
                let after = after.bind(priority as i16).bind(served.as_str());
                found = after.fetch_optional(&mut *self.transaction).await?;
            }
            if found.is_none() {
                let first = sqlx::query(sql::FIRST_JOB).bind(priority as i16);
                found = first.fetch_optional(&mut *self.transaction).await?;
            }
            if let Some(row) = found {
                return self.preferred(row, priority, held).await.map(Some);
            }
        }
        let Some(priority) = { order }.find(|next| wait && queued.contains(next)) else {
            return Ok(None);
        };
        let waiting = sqlx::query(sql::WAIT_FOR_JOB).bind(priority as i16);
        match waiting.fetch_optional(&mut *self.transaction).await? {
            Some(row) => self.preferred(row, priority, held).await.map(Some),
            None => Ok(None),
        }
    }

    /// The job of a row, or in its place one of those `held`.
    async fn preferred(
        &mut self,
        row: sqlx::postgres::PgRow,
        priority: Priority,
        held: &[JobId],
    ) -> Result<Next, StoreError> {
        let mut job = queries::job_id(row.try_get(0)?)?;
        let owner: String = row.try_get(1)?;
        if !held.is_empty() && !held.contains(&job) {
            let held: Vec<_> = held.iter().map(|job| job.as_bytes().to_vec()).collect();
            let held = sqlx::query_scalar(sql::HELD_JOB)
                .bind(priority as i16)
                .bind(&owner)
                .bind(held);
            let held: Option<Vec<u8>> = held.fetch_optional(&mut *self.transaction).await?;
            if let Some(held) = held {
                job = queries::job_id(&held)?;
            }
        }
        let owner = owner.parse().map_err(|_| corrupt("the owner of a job"))?;
        Ok(Next {
            job,
            priority,
            owner,
        })
    }
}
