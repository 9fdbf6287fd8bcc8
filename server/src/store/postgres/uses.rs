//! When blobs were last used. The lock of a blob's row says who may decide over it.

use super::{PostgresStore, column, queries, sql};
use crate::{
    blob::Removal,
    clock::Timestamp,
    digest::Digest,
    store::{FRESH_USE, StoreError},
};

impl PostgresStore {
    pub(super) async fn note_uses(
        &self,
        blobs: &[Digest],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let noted = sqlx::query(sql::NOTE_USE)
            .bind(queries::digests(blobs))
            .bind(column(now.as_millis()))
            .bind(i64::try_from(FRESH_USE.as_millis()).unwrap_or(0));
        noted.execute(&self.pool).await?;
        Ok(())
    }

    pub(super) async fn unused(
        &self,
        blobs: &[Digest],
        since: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<Digest>, StoreError> {
        let blobs = queries::digests(blobs);
        let begun = sqlx::query(sql::BEGIN_USE)
            .bind(&blobs)
            .bind(column(now.as_millis()));
        begun.execute(&self.pool).await?;
        let unused = sqlx::query_scalar(sql::UNUSED)
            .bind(&blobs)
            .bind(column(since.as_millis()));
        let unused: Vec<Vec<u8>> = unused.fetch_all(&self.pool).await?;
        unused.into_iter().map(queries::digest).collect()
    }

    pub(super) async fn remove_locked(
        &self,
        blob: Digest,
        since: Option<Timestamp>,
        removal: Removal,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let digest = &blob.as_bytes()[..];
        let locked: Option<bool> = match since {
            Some(since) => {
                let lock = sqlx::query_scalar(sql::LOCK_UNUSED).bind(digest);
                let lock = lock.bind(column(since.as_millis()));
                lock.fetch_optional(&mut *transaction).await?
            }
            None => {
                let begun = sqlx::query(sql::BEGIN_USE).bind(vec![digest.to_vec()]);
                begun.bind(0_i64).execute(&mut *transaction).await?;
                let lock = sqlx::query_scalar(sql::LOCK_USE).bind(digest);
                lock.fetch_optional(&mut *transaction).await?
            }
        };
        if locked.is_none() || !removal.await {
            return Ok(false);
        }
        let forgotten = sqlx::query(sql::FORGET_USE).bind(digest);
        forgotten.execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(true)
    }

    pub(super) async fn forget_uses(&self, before: Timestamp) -> Result<(), StoreError> {
        let forgotten = sqlx::query(sql::FORGET_USES).bind(column(before.as_millis()));
        forgotten.execute(&self.pool).await?;
        Ok(())
    }
}
