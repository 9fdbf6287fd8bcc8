//! Records that cannot be read, or have no room to grow: their job stands still, and no other.

use super::*;
use crate::{
    job::{LeaseRef, TaskId, TaskName},
    store::{Claim, Claimed, LeasedTask, Retention},
};

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn claim(store: &RecordStore<impl Engine>, max_tasks: usize, now: Timestamp) -> Claimed {
    let claim = Claim {
        worker: "w".into(),
        jobs: Vec::new(),
        max_tasks,
        max_bytes: usize::MAX,
        ttl: TTL,
    };
    store.claim(&claim, now).unwrap()
}

fn lease(task: &LeasedTask) -> LeaseRef {
    LeaseRef {
        name: task.job.task_name(task.task),
        fence: task.grant.fence,
    }
}

/// The one task that a new job has.
fn plan(job: JobId) -> TaskName {
    let task = TaskId {
        stage: 0,
        slot: crate::job::Slot::Reduce,
    };
    TaskName { job, task }
}

fn overwrite(engine: &MemoryEngine, key: Vec<u8>) {
    let mut batch = Batch::default();
    batch.put("test", key, b"not a record".to_vec()).unwrap();
    engine.commit(&batch).unwrap();
}

#[test]
fn a_task_that_cannot_be_read_keeps_no_other_in_the_queue() {
    let engine = MemoryEngine::default();
    let store = open(engine.clone());
    let jobs = [(); 3].map(|()| create(&store).unwrap());
    overwrite(&engine, Table::Task.task(plan(jobs[0])));
    overwrite(&engine, Table::Payload.task(plan(jobs[1])));
    let claimed = claim(&store, 2, at(1));
    assert_eq!(claimed.tasks.len(), 1);
    assert_eq!(claimed.tasks[0].job.id, jobs[2]);
    assert!(!claimed.more, "nothing is left that could be leased");
    let after = create(&store).unwrap();
    assert_eq!(claim(&store, 9, at(2)).tasks[0].job.id, after);
    // It can be ended, and what is sound by then is leased.
    store.cancel(jobs[1], at(3)).unwrap();
    let payload = v1::Payload { kind: None }.encode_to_vec();
    let mut batch = Batch::default();
    let key = Table::Payload.task(plan(jobs[1]));
    batch.put("test", key, payload).unwrap();
    engine.commit(&batch).unwrap();
    store.retry(jobs[1], at(4)).unwrap();
    assert_eq!(claim(&store, 9, at(5)).tasks[0].job.id, jobs[1]);
}

#[test]
fn a_lease_that_cannot_be_ended_keeps_no_other_in_force() {
    let engine = MemoryEngine::default();
    let store = open(engine.clone());
    let jobs = [(); 3].map(|()| create(&store).unwrap());
    let tasks = claim(&store, 3, at(1)).tasks;
    overwrite(&engine, Table::Task.task(plan(jobs[0])));
    overwrite(&engine, keys::job(jobs[1]));
    let changes = store.expire(at(1).after(TTL)).unwrap();
    assert_eq!(changes.lost, [("w".to_owned(), plan(jobs[2]))]);
    assert_eq!((changes.queued, changes.jobs), (1, vec![jobs[2]]));
    // They are looked at again, but not at every look.
    assert_eq!(store.counts().unwrap().leased_tasks, 2);
    let soon = at(2).after(TTL);
    let leases: Vec<_> = tasks.iter().map(lease).collect();
    assert_eq!(store.renew(&leases, soon, TTL).unwrap(), [leases[2]]);
    // Nor is a worker kept from what else it holds.
    let task = claim(&store, 1, soon).tasks.remove(0);
    let held = [leases[0], lease(&task)];
    assert_eq!(store.release(&held, soon).unwrap().queued, 1);
}

#[test]
fn a_header_that_cannot_be_read_keeps_no_other_from_going() {
    let engine = MemoryEngine::default();
    let store = open(engine.clone());
    let jobs = [(); 2].map(|()| create(&store).unwrap());
    for job in jobs {
        store.cancel(job, at(1)).unwrap();
    }
    overwrite(&engine, keys::job(jobs[0]));
    let retention = Retention {
        keep_for: Some(Duration::ZERO),
        max_jobs: None,
    };
    assert_eq!(store.prune(retention, at(2)).unwrap().jobs, [jobs[1]]);
    assert_eq!(store.prune(retention, at(2)).unwrap(), Changes::default());
}

#[test]
fn a_job_whose_header_is_full_goes_on_to_its_end() {
    let engine = MemoryEngine::default();
    let store = open(engine.clone());
    let named = |bytes| create_named(&store, &"n".repeat(bytes));
    let header = |id| engine.get(&keys::job(id)).unwrap().unwrap().len();
    let rest = header(named(0).unwrap());
    let full = named(OPEN_HEADER_BYTES - rest).unwrap();
    assert_eq!(header(full), OPEN_HEADER_BYTES);
    let refused = named(OPEN_HEADER_BYTES - rest + 1);
    assert!(matches!(
        refused,
        Err(StoreError::RecordTooLarge { what: "job", .. })
    ));
    let tasks = claim(&store, 2, at(1000)).tasks;
    assert_eq!(tasks[1].job.id, full);
    assert!(header(full) > OPEN_HEADER_BYTES);
    assert_eq!(store.expire(at(1000).after(TTL)).unwrap().lost.len(), 2);
    store.cancel(full, at(2000)).unwrap();
}
