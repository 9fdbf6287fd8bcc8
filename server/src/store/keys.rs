//! Layout of the keys: one letter for the table, the job, then what tells its records apart, all
//! big-endian so that byte order is the order of the domain.
//!
//! ```text
//! M                       format of the store
//! C                       time that was observed
//! R owner NUL request id  -> job id
//! J job                   -> header        S job n       -> part n of the spec
//! T job task              -> task          P job task    -> payload     O job task -> result
//! E job sequence          -> event
//! Q job task              (queued)         L job task    (leased)
//! W job task -> until     (waits out a backoff)
//! K job digest -> size    (keeps the blob) B digest job  (is kept)
//! U digest -> last use    (of a blob elsewhere than in the file system)
//! ```

use std::ops::Range;

use crate::{
    digest::Digest,
    job::{JobId, Slot, TaskId, TaskName},
    principal::Principal,
};

/// A table that has several records for each job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Table {
    Spec = b'S',
    Task = b'T',
    Payload = b'P',
    Result = b'O',
    Event = b'E',
    Queue = b'Q',
    Lease = b'L',
    Waiting = b'W',
    Blob = b'K',
}

impl Table {
    /// All of them: what a deleted job leaves nothing in.
    pub(super) const ALL: [Self; 9] = [
        Self::Spec,
        Self::Task,
        Self::Payload,
        Self::Result,
        Self::Event,
        Self::Queue,
        Self::Lease,
        Self::Waiting,
        Self::Blob,
    ];

    /// Keys of every job.
    pub(super) fn range(self) -> Range<Vec<u8>> {
        vec![self as u8]..vec![self as u8 + 1]
    }

    /// Keys of one job.
    pub(super) fn of_job(self, job: JobId) -> Range<Vec<u8>> {
        let start = key(self as u8, &[job.as_bytes()]);
        let mut end = start.clone();
        // The successor of a prefix: the next value of its last byte that has one.
        while let Some(last) = end.pop() {
            if last < u8::MAX {
                end.push(last + 1);
                break;
            }
        }
        start..end
    }

    /// Keys of one stage's tasks.
    pub(super) fn of_stage(self, job: JobId, stage: u32) -> Range<Vec<u8>> {
        let first = TaskId {
            stage,
            slot: Slot::Map(0),
        };
        let mut end = self.task(TaskName {
            job,
            task: TaskId {
                stage,
                slot: Slot::Reduce,
            },
        });
        end.push(0);
        self.task(TaskName { job, task: first })..end
    }

    /// Key of one task's record.
    pub(super) fn task(self, name: TaskName) -> Vec<u8> {
        let mut key = key(self as u8, &[name.job.as_bytes()]);
        key.extend(name.task.stage.to_be_bytes());
        match name.task.slot {
            Slot::Map(index) => {
                key.push(0);
                key.extend(index.to_be_bytes());
            }
            Slot::Reduce => key.push(1),
        }
        key
    }

    /// Key of the record `number` of a job.
    pub(super) fn numbered(self, job: JobId, number: u64) -> Vec<u8> {
        key(self as u8, &[job.as_bytes(), &number.to_be_bytes()])
    }

    /// Key of the record that a job keeps a blob.
    pub(super) fn blob(self, job: JobId, digest: Digest) -> Vec<u8> {
        key(self as u8, &[job.as_bytes(), digest.as_bytes()])
    }
}

/// Key of a table: its letter, and what tells its records apart.
fn key(table: u8, parts: &[&[u8]]) -> Vec<u8> {
    [&[table][..], &parts.concat()].concat()
}

/// Reads back what [`Table::task`] wrote.
pub(super) fn parse_task(key: &[u8]) -> Option<TaskName> {
    let (job, rest) = key.get(1..)?.split_first_chunk::<16>()?;
    let (stage, rest) = rest.split_first_chunk::<4>()?;
    let slot = match rest {
        [0, index @ ..] => Slot::Map(u32::from_be_bytes(index.try_into().ok()?)),
        [1] => Slot::Reduce,
        _ => return None,
    };
    let task = TaskId {
        stage: u32::from_be_bytes(*stage),
        slot,
    };
    Some(TaskName {
        job: JobId::from_bytes(*job),
        task,
    })
}

/// Reads back what [`Table::blob`] wrote.
pub(super) fn parse_blob(key: &[u8]) -> Option<Digest> {
    let digest = key.get(17..)?.try_into().ok()?;
    Some(Digest::from_bytes(digest))
}

/// The job of a key of any [`Table`].
pub(super) fn parse_job(key: &[u8]) -> Option<JobId> {
    let job = key.get(1..)?.first_chunk::<16>()?;
    Some(JobId::from_bytes(*job))
}

/// Key of the record that a blob is kept by a job.
pub(super) fn keeper(digest: Digest, job: JobId) -> Vec<u8> {
    key(b'B', &[digest.as_bytes(), job.as_bytes()])
}

/// Keys of all jobs that keep a blob.
pub(super) fn keepers(digest: Digest) -> Range<Vec<u8>> {
    let start = key(b'B', &[digest.as_bytes()]);
    let mut end = start.clone();
    // Beyond every job, whose id has 16 bytes.
    end.extend([u8::MAX; 17]);
    start..end
}

/// Key of a blob's last use.
pub(super) fn blob_use(digest: Digest) -> Vec<u8> {
    key(b'U', &[digest.as_bytes()])
}

/// Keys of the last use of every blob.
pub(super) fn blob_uses() -> Range<Vec<u8>> {
    vec![b'U']..vec![b'U' + 1]
}

/// Reads back what [`blob_use`] wrote.
pub(super) fn parse_blob_use(key: &[u8]) -> Option<Digest> {
    let digest = key.get(1..)?.try_into().ok()?;
    Some(Digest::from_bytes(digest))
}

/// Key of the store's format.
pub(super) fn format() -> Vec<u8> {
    b"M".to_vec()
}

/// Key of what is kept of the time.
pub(super) fn observed_time() -> Vec<u8> {
    b"C".to_vec()
}

/// Key of a job's header.
pub(super) fn job(id: JobId) -> Vec<u8> {
    key(b'J', &[id.as_bytes()])
}

/// Keys of the headers of jobs older than `before`, or of all.
pub(super) fn jobs(before: Option<JobId>) -> Range<Vec<u8>> {
    vec![b'J']..before.map_or_else(|| vec![b'J' + 1], job)
}

/// Key of a request id, which is its owner's: others may use the same one.
pub(super) fn request(owner: &Principal, id: &str) -> Vec<u8> {
    key(b'R', &[owner.as_str().as_bytes(), &[0], id.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_keys_round_trip_in_the_order_of_the_tasks() {
        let job = JobId::from_bytes([0xff; 16]);
        let slots = [
            Slot::Map(0),
            Slot::Map(1),
            Slot::Map(256),
            Slot::Map(u32::MAX),
            Slot::Reduce,
        ];
        let names = [0, 1, 256].into_iter().flat_map(|stage| {
            slots.map(|slot| TaskName {
                job,
                task: TaskId { stage, slot },
            })
        });
        let names: Vec<_> = names.collect();
        let keys: Vec<_> = names.iter().map(|name| Table::Queue.task(*name)).collect();
        assert!(keys.is_sorted());
        for (name, key) in names.iter().zip(&keys) {
            assert_eq!(parse_task(key), Some(*name));
            assert!(Table::Queue.of_job(job).contains(key));
            assert!(Table::Queue.of_stage(job, name.task.stage).contains(key));
            assert!(
                !Table::Queue
                    .of_stage(job, name.task.stage + 1)
                    .contains(key)
            );
        }
        assert_eq!(parse_task(b"Q"), None);
    }
}
