//! Workers that get nothing for a while, because everything they touched failed: a broken disk or a
//! wrong library would otherwise use up the attempts of every job in the queue.
//!
//! A worker is judged by different tasks in a row, so that one bad task, tried again and again, says
//! nothing about it; one result clears it. A worker that dies loses all its leases at once, which is
//! one failure: it may come back under its name, and only one of its tasks can have been the cause.
//! Kept in memory: a restarted server judges anew.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{clock::Timestamp, job::TaskName};

/// Different tasks that a worker fails in a row before it is put aside.
const TOLERATED: usize = 5;
/// The first quarantine; each further one without a result in between lasts twice as long.
const FIRST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(3600);
/// Workers remembered; beyond them, those that are silent longest are forgotten.
const MAX_WORKERS: usize = 4096;

/// The record of every worker that failed lately.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    workers: Mutex<HashMap<String, Record>>,
}

#[derive(Debug)]
struct Record {
    /// Tasks failed since the last result or quarantine.
    failed: HashSet<TaskName>,
    quarantines: u32,
    until: Timestamp,
    /// Leases that run out before then were lost in a crash that is counted already.
    crash_until: Timestamp,
    heard: Timestamp,
}

impl Record {
    fn new(now: Timestamp) -> Self {
        Self {
            failed: HashSet::new(),
            quarantines: 0,
            until: Timestamp::MIN,
            crash_until: Timestamp::MIN,
            heard: now,
        }
    }

    /// Counts a task against the worker. Returns for how long it is put aside, if it is now.
    fn count(&mut self, task: TaskName, now: Timestamp) -> Option<Duration> {
        self.failed.insert(task);
        // After a quarantine a worker is on probation: its next failure is one too many.
        let tolerated = if self.quarantines == 0 { TOLERATED } else { 1 };
        if now < self.until || self.failed.len() < tolerated {
            return None;
        }
        let doubled = FIRST.saturating_mul(2_u32.saturating_pow(self.quarantines));
        let time = doubled.min(LONGEST);
        self.quarantines += 1;
        self.until = now.after(time);
        self.failed.clear();
        Some(time)
    }
}

/// Codes of failures that other workers would meet as well: the task needs more memory than there
/// is, makes a result that this server does not take, finds no room in its storage, or ends the process
/// that the worker gave its job.
const OF_THE_TASK: [&str; 4] = [
    "MEMORY_LIMIT",
    "RESULT_REFUSED",
    "STORAGE_FULL",
    "TASK_PROCESS_DIED",
];

impl Quarantine {
    /// Whether a failure with this code says nothing of the worker that reports it.
    pub(crate) fn is_of_the_task(code: &str) -> bool {
        OF_THE_TASK.contains(&code)
    }

    /// Notes that an attempt of `worker` failed; not for bad input, which is no fault of a worker.
    /// Returns for how long the worker is put aside, if it is now.
    pub(crate) fn failed(&self, worker: &str, task: TaskName, now: Timestamp) -> Option<Duration> {
        self.with_record(worker, now, |record| record.count(task, now))
    }

    /// Notes that `worker` lost the lease of a task, granted for a time of `ttl`. Returns as
    /// [`Quarantine::failed`] does.
    pub(crate) fn lost(
        &self,
        worker: &str,
        task: TaskName,
        ttl: Duration,
        now: Timestamp,
    ) -> Option<Duration> {
        self.with_record(worker, now, |record| {
            if now < record.crash_until {
                return None;
            }
            // All are renewed together, at a third of their time: what was granted since then runs
            // out that much later. What the next process is granted has a whole time before it.
            record.crash_until = now.after(ttl / 2);
            record.count(task, now)
        })
    }

    /// Notes a result of `worker`: it can work.
    pub(crate) fn succeeded(&self, worker: &str) {
        self.lock().remove(worker);
    }

    /// How long `worker` still gets nothing.
    pub(crate) fn remaining(&self, worker: &str, now: Timestamp) -> Option<Duration> {
        let until = self.lock().get(worker)?.until;
        let left = until.as_millis().checked_sub(now.as_millis())?;
        (left > 0).then(|| Duration::from_millis(left))
    }

    /// Workers that get nothing now.
    pub(crate) fn count(&self, now: Timestamp) -> usize {
        let workers = self.lock();
        workers.values().filter(|record| now < record.until).count()
    }

    fn with_record<T>(
        &self,
        worker: &str,
        now: Timestamp,
        judge: impl FnOnce(&mut Record) -> T,
    ) -> T {
        let mut workers = self.lock();
        make_room(&mut workers, worker);
        let record = workers
            .entry(worker.to_owned())
            .or_insert_with(|| Record::new(now));
        record.heard = now;
        judge(record)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Record>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make_room(workers: &mut HashMap<String, Record>, newcomer: &str) {
    if workers.len() < MAX_WORKERS || workers.contains_key(newcomer) {
        return;
    }
    let longest_silent = workers.iter().min_by_key(|(_, record)| record.heard);
    if let Some(name) = longest_silent.map(|(name, _)| name.clone()) {
        workers.remove(&name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{JobId, Slot, TaskId};

    fn task(index: u32) -> TaskName {
        TaskName {
            job: JobId::from_bytes([7; 16]),
            task: TaskId {
                stage: 1,
                slot: Slot::Map(index),
            },
        }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn a_worker_that_fails_different_tasks_in_a_row_is_put_aside_longer_each_time() {
        let quarantine = Quarantine::default();
        for i in 0..4 {
            assert_eq!(quarantine.failed("bad", task(i), at(1)), None);
            assert_eq!(
                quarantine.failed("bad", task(i), at(1)),
                None,
                "the same task again"
            );
        }
        assert_eq!(quarantine.remaining("bad", at(1)), None);
        assert_eq!(quarantine.failed("bad", task(4), at(1)), Some(FIRST));
        assert_eq!(
            quarantine.remaining("bad", at(31)),
            Some(Duration::from_secs(30))
        );
        assert_eq!(quarantine.remaining("good", at(31)), None);
        assert_eq!(quarantine.count(at(31)), 1);
        // A task that it still had fails meanwhile: no news.
        assert_eq!(quarantine.failed("bad", task(5), at(31)), None);
        assert_eq!(quarantine.remaining("bad", at(61)), None);
        assert_eq!(quarantine.failed("bad", task(6), at(70)), Some(2 * FIRST));
        for quarantines in 2..40 {
            let time = quarantine.failed(
                "bad",
                task(quarantines),
                at(1_000_000 * u64::from(quarantines)),
            );
            assert!(time > Some(FIRST) && time <= Some(LONGEST), "{time:?}");
        }
        assert_eq!(quarantine.count(at(u64::from(u32::MAX))), 0);
    }

    #[test]
    fn a_result_clears_a_worker_at_once() {
        let quarantine = Quarantine::default();
        for i in 0..4 {
            quarantine.failed("w", task(i), at(1));
        }
        quarantine.succeeded("w");
        for i in 4..8 {
            assert_eq!(quarantine.failed("w", task(i), at(1)), None);
        }
        assert_eq!(quarantine.failed("w", task(8), at(1)), Some(FIRST));
        quarantine.succeeded("w");
        assert_eq!(quarantine.remaining("w", at(2)), None);
    }

    #[test]
    fn a_crash_is_one_failure_however_many_tasks_it_takes_along() {
        let (quarantine, ttl) = (Quarantine::default(), Duration::from_secs(30));
        for crash in 0..4 {
            // The leases that had just been granted run out later than the others.
            let began = 100 * u64::from(crash);
            for (i, after) in [(0, 20), (1, 20), (2, 24), (3, 30), (4, 30)] {
                let (task, now) = (task(10 * crash + i), at(began + after));
                assert_eq!(quarantine.lost("w", task, ttl, now), None);
            }
        }
        assert_eq!(quarantine.remaining("w", at(330)), None);
        // The fifth different one, with no result in between, is one too many.
        assert_eq!(quarantine.lost("w", task(40), ttl, at(420)), Some(FIRST));
        assert_eq!(quarantine.lost("w", task(41), ttl, at(425)), None);
        // The same task each time says nothing about its worker.
        for crash in 0..9 {
            assert_eq!(quarantine.lost("v", task(0), ttl, at(100 * crash)), None);
        }
    }

    #[test]
    fn only_so_many_workers_are_remembered() {
        let quarantine = Quarantine::default();
        for i in 0..MAX_WORKERS + 10 {
            quarantine.failed(&format!("w{i}"), task(0), at(i as u64));
        }
        let workers = quarantine.lock();
        assert_eq!(workers.len(), MAX_WORKERS);
        assert!(!workers.contains_key("w0") && workers.contains_key("w10"));
    }
}
