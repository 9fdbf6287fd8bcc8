//! Which job's task a claim grants: priorities and owners have turns, and a worker goes on with what it has.

use super::*;

fn create_as(store: &Subject, owner: &str, priority: Priority) -> JobId {
    let new = NewJob {
        id: JobId::generate(),
        owner: owner.parse().unwrap(),
        priority,
        display_name: "model".into(),
        spec_digest: Digest::of(b"model"),
        request_id: None,
        blobs: Vec::new(),
        trace: None,
    };
    let created = store.create_job(new, &spec("model"), at(1)).unwrap();
    created.job.job.id
}

/// Ends the plan of the job that is next, which must be `id`, with a stage of `maps` maps.
fn spread(store: &Subject, id: JobId, maps: usize) {
    let plan = claim_one(store, at(1));
    assert_eq!(plan.job.id, id);
    let next = Some(stage("measure", maps));
    complete(store, &plan, result("plan", next), at(1));
}

/// The jobs of so many tasks, claimed one by one by a worker that has the files of the jobs `held`.
fn claimed(store: &Subject, tasks: usize, held: &[JobId]) -> Vec<JobId> {
    let claim = Claim {
        jobs: held.to_vec(),
        ..claim_of("w", 1)
    };
    let mut jobs = Vec::new();
    while jobs.len() < tasks {
        let task = store.claim(&claim, at(2)).unwrap().tasks.pop();
        jobs.push(task.expect("a queued task").job.id);
    }
    jobs
}

pub(super) fn owners_have_turns(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let create = |owner| create_as(&store, owner, Priority::Normal);
    let many: Vec<_> = (0..3).map(|_| create("ana")).collect();
    let late = create("ben");
    let claimed = claim(&store, 9, at(2));
    let order: Vec<_> = claimed.iter().map(|task| task.job.id).collect();
    assert_eq!(order, [many[0], late, many[1], many[2]]);
}

pub(super) fn a_worker_goes_on_with_the_jobs_that_it_has(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let first = create_as(&store, "ana", Priority::Normal);
    spread(&store, first, 3);
    let second = create_as(&store, "ana", Priority::Normal);
    let third = create_as(&store, "ana", Priority::Normal);
    let gone = JobId::generate();
    // Its own first, then the oldest; what there is no more, or is not to be had, counts for nothing.
    assert_eq!(claimed(&store, 2, &[gone, second]), [second, first]);
    assert_eq!(claimed(&store, 1, &[third, first]), [first]);
    // Another owner has its turn all the same.
    let other = create_as(&store, "ben", Priority::Normal);
    assert_eq!(claimed(&store, 3, &[first]), [other, first, third]);
}

pub(super) fn the_urgent_go_first_and_the_others_in_the_end(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let low = create_as(&store, "ana", Priority::Low);
    let high = create_as(&store, "ana", Priority::High);
    spread(&store, high, 30);
    let normal = create_as(&store, "ben", Priority::Normal);
    // One went before, with the plan; and no job that a worker has goes before an urgent one.
    let mut expected = vec![high; 8];
    expected.extend([low, high, normal]);
    assert_eq!(claimed(&store, 11, &[low, normal]), expected);
    assert_eq!(claimed(&store, 20, &[]), vec![high; 20]);
    assert!(claim(&store, 9, at(2)).len() == 1, "one map is left");
}

pub(super) fn owners_have_turns_within_a_priority(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let ana = create_as(&store, "ana", Priority::High);
    spread(&store, ana, 2);
    let normal = create_as(&store, "ana", Priority::Normal);
    let ben = create_as(&store, "ben", Priority::High);
    assert_eq!(claimed(&store, 4, &[]), [ben, ana, ana, normal]);
}

pub(super) fn a_priority_survives_a_restart(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let normal = create(&store, "normal");
    let high = create_as(&store, "ana", Priority::High);
    store.close().unwrap();
    drop(store);
    let store = backend.open(at(2));
    assert_eq!(store.get_job(high).unwrap().job.priority, Priority::High);
    assert_eq!(claimed(&store, 2, &[]), [high, normal]);
}
