//! Moving all jobs between a database and the records of a key-value store, as a whole or not at all. No
//! server may be using either.

use sqlx::{Connection as _, PgConnection, PgPool, Postgres, Transaction};

use super::{PostgresStore, apply, column, migrate, number, options, place, queries, sql, task_at};
use crate::{
    job::{Job, JobId, Task},
    store::{
        Record, Records, StoreError,
        keys::{self, Table},
        records::reader::{Reader, corrupt, encode_time},
    },
};

/// A database that no server uses, and that none can begin to use.
pub(crate) struct Alone {
    pool: PgPool,
    /// Holds the lock.
    session: PgConnection,
}

impl Alone {
    /// Opens a database, and makes its tables where there are none.
    pub(crate) async fn open(url: &str) -> Result<Self, StoreError> {
        let options = options::parse(url).map_err(|error| StoreError::Failed(error.to_string()))?;
        let options = options.options([("statement_timeout", "0"), ("lock_timeout", "0")]);
        let pool = PostgresStore::pool(options.clone());
        migrate(&pool).await?;
        let mut session = PgConnection::connect_with(&options).await?;
        let alone = sqlx::query_scalar(sql::TRY_ALONE);
        match alone.fetch_one(&mut session).await? {
            true => Ok(Self { pool, session }),
            false => Err(StoreError::Unavailable(
                "servers use the database: stop them first".into(),
            )),
        }
    }

    pub(crate) async fn close(self) -> Result<(), StoreError> {
        self.pool.close().await;
        Ok(self.session.close().await?)
    }

    /// Ids of all jobs, oldest first.
    pub(crate) async fn jobs(&self) -> Result<Vec<JobId>, StoreError> {
        let ids = sqlx::query_scalar(sql::ALL_JOBS);
        let ids: Vec<Vec<u8>> = ids.fetch_all(&self.pool).await?;
        ids.iter().map(|id| queries::job_id(id)).collect()
    }

    /// Copies every job of `records` into a database that has none.
    pub(crate) async fn fill<R: Records>(&self, records: &R) -> Result<u64, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let reader = Reader::new(records);
        let mut ids = Vec::new();
        reader.for_each(keys::jobs(None), |key, _| {
            ids.extend(keys::parse_job(&key));
            Ok(())
        })?;
        for id in &ids {
            fill_job(&mut transaction, &reader, *id).await?;
        }
        if let Some(observed) = records.get(&keys::observed_time())? {
            let set = sqlx::query(sql::SET_META)
                .bind("observed time")
                .bind(observed);
            set.execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(ids.len() as u64)
    }

    /// The records of a job, as a key-value store has them.
    pub(crate) async fn records_of(&self, id: JobId) -> Result<Vec<Record>, StoreError> {
        let key = &id.as_bytes()[..];
        let mut records = Vec::new();
        let header: String = sqlx::query_scalar(sql::JOB)
            .bind(key)
            .fetch_one(&self.pool)
            .await?;
        let job = queries::job(&header)?;
        if let Some(request) = &job.request_id {
            records.push((keys::request(&job.owner, request), key.to_vec()));
        }
        records.push((keys::job(id), header.into_bytes()));
        let spec: Vec<u8> = sqlx::query_scalar(sql::SPEC)
            .bind(key)
            .fetch_one(&self.pool)
            .await?;
        for (part, bytes) in (0..).zip(spec.chunks(crate::store::records::reader::SPEC_PART_BYTES))
        {
            records.push((Table::Spec.numbered(id, part), bytes.to_vec()));
        }
        let tasks = sqlx::query_as(sql::ALL_TASKS).bind(key);
        let tasks: Vec<TaskRow> = tasks.fetch_all(&self.pool).await?;
        for (stage, slot, record, payload, result) in tasks {
            let name = task_at(id, stage, slot)?;
            records.push((Table::Task.task(name), record.into_bytes()));
            records.push((Table::Payload.task(name), payload));
            records.extend(result.map(|result| (Table::Result.task(name), result)));
        }
        for (statement, table) in [
            (sql::ALL_QUEUED, Table::Queue),
            (sql::ALL_LEASED, Table::Lease),
        ] {
            let places = sqlx::query_as(statement).bind(key);
            let places: Vec<(i64, i64)> = places.fetch_all(&self.pool).await?;
            for (stage, slot) in places {
                records.push((table.task(task_at(id, stage, slot)?), Vec::new()));
            }
        }
        let waiting = sqlx::query_as(sql::ALL_WAITING).bind(key);
        let waiting: Vec<(i64, i64, i64)> = waiting.fetch_all(&self.pool).await?;
        for (stage, slot, until) in waiting {
            let until = crate::clock::Timestamp::from_millis(number(until));
            let name = task_at(id, stage, slot)?;
            records.push((Table::Waiting.task(name), encode_time(until)));
        }
        let events = sqlx::query_as(sql::ALL_EVENTS).bind(key);
        let events: Vec<(i64, Vec<u8>)> = events.fetch_all(&self.pool).await?;
        let events = events.into_iter();
        records.extend(
            events.map(|(sequence, event)| (Table::Event.numbered(id, number(sequence)), event)),
        );
        let blobs = sqlx::query_as(sql::ALL_BLOBS).bind(key);
        let blobs: Vec<(Vec<u8>, i64)> = blobs.fetch_all(&self.pool).await?;
        for (digest, size) in blobs {
            let digest = digest.try_into().map_err(|_| corrupt("a digest"))?;
            let digest = crate::digest::Digest::from_bytes(digest);
            let size = number(size).to_be_bytes().to_vec();
            records.push((Table::Blob.blob(id, digest), size));
            records.push((keys::keeper(digest, id), Vec::new()));
        }
        Ok(records)
    }

    /// What is kept of the time.
    pub(crate) async fn observed_time(&self) -> Result<Option<Record>, StoreError> {
        let kept = sqlx::query_scalar(sql::META).bind("observed time");
        let kept: Option<Vec<u8>> = kept.fetch_optional(&self.pool).await?;
        Ok(kept.map(|kept| (keys::observed_time(), kept)))
    }
}

/// Stage, slot, record, payload and result.
type TaskRow = (i64, i64, String, Vec<u8>, Option<Vec<u8>>);

async fn fill_job<R: Records>(
    transaction: &mut Transaction<'_, Postgres>,
    reader: &Reader<'_, R>,
    id: JobId,
) -> Result<(), StoreError> {
    let key = &id.as_bytes()[..];
    let job: Job = reader.job(id)?;
    let spec = prost::Message::encode_to_vec(&reader.spec(id)?);
    sqlx::query(sql::INSERT_JOB)
        .bind(key)
        .bind(job.owner.as_str())
        .bind(job.request_id.as_deref())
        .bind(spec)
        .bind(job.priority as i16)
        .execute(&mut **transaction)
        .await?;
    let mut tasks = Vec::new();
    reader.for_each(Table::Task.of_job(id), |key, record| {
        let name = keys::parse_task(&key).ok_or_else(|| corrupt("task key"))?;
        tasks.push((name, record));
        Ok(())
    })?;
    for (name, record) in tasks {
        let (stage, slot) = place(name.task);
        let record = String::from_utf8(record).map_err(|_| corrupt(name))?;
        let task: Task = queries::task(&record)?;
        let payload = reader.records.get(&Table::Payload.task(name))?;
        let payload = payload.ok_or_else(|| corrupt(format!("payload of {name}")))?;
        let result = reader.records.get(&Table::Result.task(name))?;
        sqlx::query(sql::FILL_TASK)
            .bind(key)
            .bind(stage)
            .bind(slot)
            .bind(record)
            .bind(payload)
            .bind(result)
            .execute(&mut **transaction)
            .await?;
        if let Some(grant) = task.grant()
            && reader.records.get(&Table::Lease.task(name))?.is_some()
        {
            // In force anew, and as old, from the next start of a server on.
            let deadline = column(grant.deadline.as_millis());
            sqlx::query(sql::LEASE)
                .bind(key)
                .bind(stage)
                .bind(slot)
                .bind(grant.fence.lease.as_bytes().to_vec())
                .bind(i64::from(grant.fence.attempt))
                .bind(deadline)
                .bind(deadline)
                .execute(&mut **transaction)
                .await?;
        }
        if reader.records.get(&Table::Queue.task(name))?.is_some() {
            let queued = sqlx::query(sql::ENQUEUE).bind(key);
            let queued = queued.bind(vec![stage]).bind(vec![slot]);
            queued.execute(&mut **transaction).await?;
        }
        if let Some(until) = reader.records.get(&Table::Waiting.task(name))? {
            let until = crate::store::records::reader::decode_time(&until);
            let until = until.ok_or_else(|| corrupt(format!("backoff of {name}")))?;
            let waits = sqlx::query(sql::PUT_OFF).bind(key).bind(stage).bind(slot);
            let waits = waits.bind(column(until.as_millis()));
            waits.execute(&mut **transaction).await?;
        }
    }
    let mut events = (Vec::new(), Vec::new());
    reader.for_each(Table::Event.of_job(id), |key, event| {
        let sequence = key.get(17..).and_then(|sequence| sequence.try_into().ok());
        let sequence = sequence.ok_or_else(|| corrupt("event key"))?;
        events.0.push(column(u64::from_be_bytes(sequence)));
        events.1.push(event);
        Ok(())
    })?;
    let inserted = sqlx::query(sql::INSERT_EVENTS).bind(key);
    let inserted = inserted.bind(events.0).bind(events.1);
    inserted.execute(&mut **transaction).await?;
    let (digests, sizes): (Vec<_>, Vec<_>) = reader
        .blobs(id)?
        .into_iter()
        .map(|(digest, size)| (digest.as_bytes().to_vec(), column(size)))
        .unzip();
    let kept = sqlx::query(sql::KEEP_BLOBS)
        .bind(key)
        .bind(digests)
        .bind(sizes);
    kept.execute(&mut **transaction).await?;
    let header = reader.records.get(&keys::job(id))?.unwrap_or_default();
    sqlx::query(sql::UPDATE_JOB)
        .bind(key)
        .bind(String::from_utf8(header).map_err(|_| corrupt(id))?)
        .bind(job.phase.state() as i16)
        .bind(job.phase.ended().map(|ended| column(ended.as_millis())))
        .bind(false)
        .bind(apply::deadline(&job))
        .execute(&mut **transaction)
        .await?;
    sqlx::query(sql::ADD_USAGE)
        .bind(job.owner.as_str())
        .bind(1_i64)
        .bind(i64::from(job.phase.ended().is_none()))
        .bind(column(job.bytes))
        .execute(&mut **transaction)
        .await?;
    Ok(())
}
