//! What a claim reads for its worker, it reads while others write.

use super::*;
use crate::{
    job::{Completion, Fence, LeaseRef, Next, PlannedStage, Priority, Slot},
    store::{Claim, Claimed, LeasedTask},
};

/// Memory in which results are read through a gate.
#[derive(Clone, Default)]
struct Gate(Script);

impl Hooks for Gate {
    fn reading(&self, key: &[u8]) {
        let results = Table::Result.range();
        if results.contains(&key.to_vec()) {
            self.0.pass_gate();
        }
    }
}

fn claim(store: &RecordStore<impl Engine>) -> Claimed {
    let claim = Claim {
        worker: "w".into(),
        jobs: Vec::new(),
        max_tasks: 1,
        max_bytes: usize::MAX,
        ttl: TTL,
    };
    store.claim(&claim, Timestamp::MIN).unwrap()
}

fn inline(text: &str) -> v1::Payload {
    v1::Payload {
        kind: Some(v1::payload::Kind::Inline(text.into())),
    }
}

fn lease(task: &LeasedTask) -> LeaseRef {
    let fence: Fence = task.grant.fence;
    LeaseRef {
        name: task.job.task_name(task.task),
        fence,
    }
}

fn complete(store: &RecordStore<impl Engine>, result: &str, next: Option<Next>) {
    let task = claim(store).tasks.remove(0);
    let completion = Completion {
        result: inline(result),
        blobs: Vec::new(),
        details: Vec::new(),
        next,
    };
    let done = store.complete(lease(&task), completion, Timestamp::MIN);
    done.unwrap();
}

/// A job whose two maps are done and whose reduce is queued.
fn mapped(store: &RecordStore<impl Engine>) -> JobId {
    let job = create(store).unwrap();
    let stage = PlannedStage {
        name: "measure".into(),
        maps: vec![inline(""); 2],
        reduce: inline("reduce"),
        seconds: 0,
    };
    complete(store, "", Some(Next::Stage(stage)));
    complete(store, "first", None);
    complete(store, "second", None);
    job
}

/// Claims the reduce, does `meanwhile` while its inputs are read, and returns what was claimed.
fn claim_slowly(
    store: &RecordStore<Hooked<Gate>>,
    engine: &Hooked<Gate>,
    meanwhile: impl FnOnce() + Send,
) -> Claimed {
    let script = &engine.hooks.0;
    script.close_gate(true);
    thread::scope(|scope| {
        let claiming = scope.spawn(|| claim(store));
        while !script.waiting.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        let other = scope.spawn(meanwhile);
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while !other.is_finished() && std::time::Instant::now() < deadline {
            thread::yield_now();
        }
        let answered = other.is_finished();
        script.close_gate(false);
        assert!(answered, "others waited for what a claim reads");
        claiming.join().unwrap()
    })
}

#[test]
fn a_reduce_that_waits_for_the_disk_keeps_nobody_waiting() {
    let engine = Hooked::<Gate>::default();
    let store = open(engine.clone());
    let job = mapped(&store);
    let claimed = claim_slowly(&store, &engine, || {
        let other = create(&store).unwrap();
        assert_eq!(claim(&store).tasks[0].job.id, other);
    });
    let reduce = &claimed.tasks[0];
    assert_eq!((reduce.job.id, reduce.task.slot), (job, Slot::Reduce));
    assert_eq!(reduce.inputs, [inline("first"), inline("second")]);
    assert_eq!(reduce.payload, inline("reduce"));
}

#[test]
fn a_job_that_goes_while_its_task_is_read_leaves_the_claim_to_the_next() {
    let engine = Hooked::<Gate>::default();
    let store = open(engine.clone());
    let job = mapped(&store);
    let next = create(&store).unwrap();
    let claimed = claim_slowly(&store, &engine, || {
        store.cancel(job, Timestamp::MIN).unwrap();
        store.delete(job).unwrap();
    });
    let jobs: Vec<_> = claimed.tasks.iter().map(|task| task.job.id).collect();
    assert_eq!(jobs, [next]);
    assert_eq!(store.counts().unwrap().leased_tasks, 1);
}

#[test]
fn a_spec_is_told_to_who_holds_a_lease_of_its_job() {
    let store = open(MemoryEngine::default());
    let job = create(&store).unwrap();
    let task = claim(&store).tasks.remove(0);
    let spec = store.get_job(job).unwrap().spec;
    let facts = task.job.spec.unwrap();
    assert_eq!(facts.bytes, spec.encoded_len() as u64);
    assert_eq!(store.leased_spec(lease(&task)).unwrap(), spec);
    store.release(&[lease(&task)], Timestamp::MIN).unwrap();
    let lost = store.leased_spec(lease(&task));
    assert!(matches!(lost, Err(StoreError::Refused(_))), "{lost:?}");
}

#[test]
fn a_job_of_an_older_server_is_leased_with_what_it_did_not_write() {
    let engine = MemoryEngine::default();
    let store = open(engine.clone());
    let id = create(&store).unwrap();
    let mut job = store.get_job(id).unwrap().job;
    let facts = job.spec.take();
    let mut batch = Batch::default();
    let mut header = serde_json::to_value(&job).unwrap();
    assert_eq!(
        header.as_object_mut().unwrap().remove("priority"),
        Some("normal".into())
    );
    let header = header.to_string().into_bytes();
    batch.put("test", keys::job(id), header).unwrap();
    engine.commit(&batch).unwrap();
    let leased = claim(&store).tasks.remove(0).job;
    assert_eq!((leased.spec, leased.priority), (facts, Priority::Normal));
}
