mod claims;
mod damage;

use std::{
    sync::{
        Arc, Condvar,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use dual16_proto::v1;

use super::*;
use crate::{
    job::State,
    store::{
        JobQuery, MemoryEngine,
        testing::{self, Hooked, Hooks, create, create_named},
    },
};

const TTL: Duration = Duration::from_secs(30);

fn open<E: Engine>(engine: E) -> RecordStore<E> {
    testing::open(engine, TTL)
}

fn pending(limit: usize) -> JobQuery {
    JobQuery {
        before: None,
        owner: None,
        states: vec![State::Pending],
        limit,
        max_bytes: usize::MAX,
    }
}

/// Memory, with a gate before every read of a key, and syncs that can be made to fail.
type Scripted = Hooked<Script>;

#[derive(Clone, Default)]
struct Script {
    /// Reads wait while it is set.
    closed: Arc<(Mutex<bool>, Condvar)>,
    waiting: Arc<AtomicBool>,
    fails: Arc<AtomicBool>,
    /// Syncs wait at the gate and panic.
    panics: Arc<AtomicBool>,
    syncs: Arc<AtomicU64>,
}

impl Script {
    fn pass_gate(&self) {
        let closed = self.closed.0.lock().unwrap();
        self.waiting.store(*closed, Ordering::SeqCst);
        drop(self.closed.1.wait_while(closed, |closed| *closed).unwrap());
    }

    fn close_gate(&self, closed: bool) {
        *self.closed.0.lock().unwrap() = closed;
        self.closed.1.notify_all();
    }
}

impl Hooks for Script {
    fn reading(&self, _key: &[u8]) {
        self.pass_gate();
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        if self.panics.load(Ordering::SeqCst) {
            self.pass_gate();
            panic!("a bug of the database");
        }
        if self.fails.load(Ordering::SeqCst) {
            return Err(StoreError::Failed("disk gone".into()));
        }
        Ok(())
    }
}

#[test]
fn a_list_that_waits_for_the_disk_keeps_no_heartbeat_waiting() {
    let engine = Scripted::default();
    let store = open(engine.clone());
    create(&store).unwrap();
    engine.close_gate(true);
    thread::scope(|scope| {
        let list = scope.spawn(|| store.list_jobs(&pending(10)).unwrap());
        while !engine.waiting.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        let beat = scope.spawn(|| store.renew(&[], Timestamp::MIN, TTL));
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while !beat.is_finished() && std::time::Instant::now() < deadline {
            thread::yield_now();
        }
        let answered = beat.is_finished();
        engine.close_gate(false);
        assert!(answered, "the heartbeat waited for the list");
        assert_eq!(list.join().unwrap().jobs.len(), 1);
    });
}

#[test]
fn a_page_with_a_vanished_job_still_says_that_there_are_more() {
    let engine = Scripted::default();
    let store = open(engine.clone());
    let jobs: Vec<_> = (0..4).map(|_| create(&store).unwrap()).collect();
    engine.close_gate(true);
    thread::scope(|scope| {
        let list = scope.spawn(|| store.list_jobs(&pending(2)).unwrap());
        while !engine.waiting.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        // The newest is deleted between the catalog and its record.
        let mut batch = Batch::default();
        batch.remove(keys::job(jobs[3]));
        engine.records.commit(&batch).unwrap();
        engine.close_gate(false);
        let page = list.join().unwrap();
        let listed: Vec<_> = page.jobs.iter().map(|stored| stored.job.id).collect();
        assert_eq!(listed, [jobs[2], jobs[1]]);
        assert!(page.more, "one more is left");
    });
}

#[test]
fn after_a_failed_sync_nothing_is_accepted_and_closing_does_not_make_up_for_it() {
    let engine = Scripted::default();
    let store = open(engine.clone());
    engine.fails.store(true, Ordering::SeqCst);
    assert!(matches!(create(&store), Err(StoreError::Failed(_))));
    engine.fails.store(false, Ordering::SeqCst);
    let syncs = engine.syncs.load(Ordering::SeqCst);
    assert!(matches!(create(&store), Err(StoreError::Failed(_))));
    assert!(matches!(
        store.list_jobs(&pending(1)),
        Err(StoreError::Failed(_))
    ));
    assert!(matches!(store.close(), Err(StoreError::Failed(_))));
    assert_eq!(engine.syncs.load(Ordering::SeqCst), syncs);
}

#[test]
fn a_sync_that_panics_fails_those_who_wait_for_it_and_everything_after() {
    let engine = Scripted::default();
    let store = Arc::new(open(engine.clone()));
    create(&*store).unwrap();
    engine.panics.store(true, Ordering::SeqCst);
    engine.close_gate(true);
    let call = || {
        let store = Arc::clone(&store);
        thread::spawn(move || create(&*store))
    };
    let first = call();
    while !engine.waiting.load(Ordering::SeqCst) {
        thread::yield_now();
    }
    let second = call();
    thread::sleep(Duration::from_millis(50));
    engine.close_gate(false);
    assert!(first.join().is_err(), "it panicked");
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !second.is_finished() {
        assert!(std::time::Instant::now() < deadline, "it waits for ever");
        thread::yield_now();
    }
    for outcome in [second.join().unwrap(), create(&*store)] {
        assert!(matches!(outcome, Err(StoreError::Failed(_))), "{outcome:?}");
    }
}
