//! Tasks: claiming, fencing, attempts, and what a restart keeps.

use std::{collections::HashSet, thread};

use super::*;
use crate::job::{Artifact, Phase, Slot};

pub(super) fn a_job_runs_through_its_stages(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let id = planned(&store, 3);
    let maps = claim(&store, 9, at(2));
    let payloads: Vec<_> = maps.iter().map(|task| task.payload.clone()).collect();
    let expected: Vec<_> = (0..3).map(|i| inline(format!("measure map {i}"))).collect();
    assert_eq!(payloads, expected);
    // In any order: the reduce sees them by index.
    for i in [2, 0, 1] {
        assert!(
            claim(&store, 1, at(3)).is_empty(),
            "the reduce must wait for every map"
        );
        complete(&store, &maps[i], result(format!("r{i}"), None), at(3));
    }
    let reduce = claim_one(&store, at(4));
    assert_eq!(reduce.task.slot, Slot::Reduce);
    assert_eq!(reduce.payload, inline("measure reduce"));
    assert_eq!(reduce.inputs, [inline("r0"), inline("r1"), inline("r2")]);
    complete(
        &store,
        &reduce,
        result("", Some(stage("convert", 0))),
        at(5),
    );
    let last = claim_one(&store, at(6));
    assert_eq!(
        (last.job.stages[2].name.as_str(), last.inputs.len()),
        ("convert", 0)
    );
    let artifact = Artifact {
        name: "out".into(),
        digest: Digest::of(b"out"),
        size: 3,
    };
    let next = Some(Next::Finish(vec![artifact.clone()]));
    complete(&store, &last, result("", next), at(7));
    let job = store.get_job(id).unwrap().job;
    assert_eq!(
        job.phase,
        Phase::Succeeded {
            ended: at(7),
            artifacts: vec![artifact]
        }
    );
    assert_eq!(store.counts().unwrap(), Counts::default());
}

pub(super) fn tasks_are_claimed_first_in_first_out(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let first = planned(&store, 2);
    let second = create(&store, "second");
    let claimed = claim(&store, 9, at(2));
    let order: Vec<_> = claimed
        .iter()
        .map(|task| (task.job.id, task.task.slot))
        .collect();
    let expected = [
        (first, Slot::Map(0)),
        (first, Slot::Map(1)),
        (second, Slot::Reduce),
    ];
    assert_eq!(order, expected);
    // What comes back goes to its old place.
    store
        .release(&[lease(&claimed[2]), lease(&claimed[1])], at(3))
        .unwrap();
    assert_eq!(claim_one(&store, at(4)).task, claimed[1].task);
}

pub(super) fn a_claim_is_bounded_in_bytes(backend: &dyn Backend) {
    let store = backend.open(at(0));
    planned(&store, 3);
    let claim = Claim {
        max_bytes: 0,
        ..claim_of("w", 9)
    };
    assert_eq!(store.claim(&claim, at(2)).unwrap().tasks.len(), 1);
}

pub(super) fn only_the_holder_of_the_lease_writes(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let id = planned(&store, 1);
    let zombie = claim_one(&store, at(2));
    store.expire(at(2).after(TTL)).unwrap();
    let holder = claim_one(&store, at(40));
    assert_eq!(
        (zombie.grant.fence.attempt, holder.grant.fence.attempt),
        (1, 2)
    );
    assert!(is_lost(&store, &zombie, at(41)));
    assert!(is_lease_lost(store.fail(
        lease(&zombie),
        failure("zombie", true),
        at(41)
    )));
    store.release(&[lease(&zombie)], at(41)).unwrap();
    assert_eq!(
        store
            .renew(&[lease(&zombie), lease(&holder)], at(41), TTL)
            .unwrap(),
        [lease(&zombie)]
    );
    complete(&store, &holder, result("holder", None), at(42));
    let before = store.get_job(id).unwrap().job;
    // The holder may not have heard the answer.
    complete(&store, &holder, result("again", None), at(43));
    assert!(is_lost(&store, &zombie, at(43)));
    assert_eq!(store.get_job(id).unwrap().job, before);
    assert_eq!(claim_one(&store, at(44)).inputs, [inline("holder")]);
}

pub(super) fn a_heartbeat_keeps_a_lease_and_silence_loses_it(backend: &dyn Backend) {
    let store = backend.open(at(0));
    planned(&store, 2);
    let tasks = claim(&store, 2, at(10));
    assert!(
        store
            .renew(&[lease(&tasks[0])], at(30), TTL)
            .unwrap()
            .is_empty()
    );
    assert_eq!(store.expire(at(39)).unwrap(), Changes::default());
    let changes = store.expire(at(40)).unwrap();
    assert_eq!(changes.queued, 1);
    assert_eq!(claim_one(&store, at(40)).task, tasks[1].task);
    assert_eq!(store.expire(at(59)).unwrap(), Changes::default());
    assert_eq!(store.expire(at(60)).unwrap().queued, 1);
}

pub(super) fn attempts_are_limited_and_every_error_is_kept(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let id = planned(&store, 2);
    assert_eq!(claim(&store, 2, at(2)).len(), 2);
    store.expire(at(2).after(TTL)).unwrap();
    let held = [claim_one(&store, at(40)), claim_one(&store, at(40))];
    fail(&store, &held[0], failure("second", false), at(41));
    assert_eq!(state(&store, id), State::Running);
    let last = claim_one(&store, at(42));
    assert_eq!((last.task, last.grant.fence.attempt), (held[0].task, 3));
    fail(&store, &last, failure("third", false), at(43));

    let Phase::Failed { error, .. } = store.get_job(id).unwrap().job.phase else {
        panic!()
    };
    assert_eq!(error.code, "ATTEMPTS_EXHAUSTED");
    assert_eq!(error.attempts.len(), 3);
    assert!(
        error.attempts[0].message.contains("lease ran out"),
        "{error:?}"
    );
    assert_eq!(error.attempts[2].message, "third");
    assert_eq!(error.attempts[2].worker, "w");
    assert!(is_lost(&store, &held[1], at(44)));
}

pub(super) fn a_permanent_error_ends_the_job_at_once(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let id = planned(&store, 2);
    let tasks = claim(&store, 2, at(2));
    fail(&store, &tasks[0], failure("NaN in batch 3", true), at(3));
    let Phase::Failed { error, ended } = store.get_job(id).unwrap().job.phase else {
        panic!()
    };
    assert_eq!(
        (error.code.as_str(), error.message.as_str()),
        ("BAD_INPUT", "NaN in batch 3")
    );
    assert_eq!(
        (error.task, ended),
        (lease(&tasks[0]).name.to_string(), at(3))
    );
    assert_eq!(
        store.renew(&[lease(&tasks[1])], at(3), TTL).unwrap(),
        [lease(&tasks[1])]
    );
}

pub(super) fn a_failed_task_waits_out_its_backoff(backend: &dyn Backend) {
    let store = backend.open_with(with_backoff(), at(0));
    let id = planned(&store, 1);
    let first = claim_one(&store, at(2));
    let changes = fail(&store, &first, failure("flaky", false), at(2));
    assert_eq!(changes.queued, 0, "nobody is woken for a task that waits");
    assert!(claim(&store, 1, at(6)).is_empty());
    let counts = store.counts().unwrap();
    assert_eq!((counts.queued_tasks, counts.waiting_tasks), (0, 1));
    assert_eq!(store.expire(at(12)).unwrap().queued, 1);
    let second = claim_one(&store, at(12));
    assert_eq!((second.task, second.grant.fence.attempt), (first.task, 2));
    // A lease that runs out is a failure too; this time a claim finds that the wait is over.
    store.expire(at(12).after(TTL)).unwrap();
    assert!(claim(&store, 1, at(51)).is_empty());
    let third = claim_one(&store, at(62));
    complete(&store, &third, result("", None), at(62));
    assert_eq!(store.counts().unwrap().waiting_tasks, 0);
    assert_eq!(state(&store, id), State::Running);
}

pub(super) fn a_backoff_survives_a_restart_and_ends_with_its_job(backend: &dyn Backend) {
    let store = backend.open_with(with_backoff(), at(0));
    let id = planned(&store, 1);
    let task = claim_one(&store, at(2));
    fail(&store, &task, failure("flaky", false), at(2));
    store.close().unwrap();
    drop(store);
    let store = backend.open_with(with_backoff(), at(3));
    assert!(claim(&store, 1, at(6)).is_empty());
    store.cancel(id, at(7)).unwrap();
    assert_eq!(store.counts().unwrap(), Counts::default());
    assert!(claim(&store, 1, at(100)).is_empty());
    // What was cancelled in its backoff is asked for again now, not later.
    let (_, changes) = store.retry(id, at(101)).unwrap();
    assert_eq!(changes.queued, 1);
    assert_eq!(claim_one(&store, at(101)).task, task.task);
}

pub(super) fn a_release_counts_no_attempt(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let id = planned(&store, 1);
    for _ in 0..5 {
        let task = claim_one(&store, at(2));
        assert_eq!(store.release(&[lease(&task)], at(2)).unwrap().queued, 1);
        assert!(is_lost(&store, &task, at(2)));
    }
    assert_eq!(state(&store, id), State::Running);
    let task = claim_one(&store, at(3));
    complete(&store, &task, result("", None), at(3));
}

pub(super) fn a_retry_keeps_what_succeeded(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let id = planned(&store, 3);
    let tasks = claim(&store, 2, at(2));
    assert!(matches!(
        store.retry(id, at(2)),
        Err(StoreError::Refused(
            crate::job::Refusal::NotRetryable { .. }
        ))
    ));
    complete(&store, &tasks[0], result("kept", None), at(3));
    fail(&store, &tasks[1], failure("x", true), at(4));
    let (retried, changes) = store.retry(id, at(5)).unwrap();
    assert_eq!((retried.job.phase, changes.queued), (Phase::Running, 2));
    let rest = claim(&store, 9, at(6));
    let slots: Vec<_> = rest.iter().map(|task| task.task.slot).collect();
    assert_eq!(slots, [Slot::Map(1), Slot::Map(2)]);
    for task in &rest {
        complete(&store, task, result("new", None), at(7));
    }
    let reduce = claim_one(&store, at(8));
    assert_eq!(
        reduce.inputs,
        [inline("kept"), inline("new"), inline("new")]
    );
    complete(&store, &reduce, result("", Some(finish())), at(9));
    assert_eq!(state(&store, id), State::Succeeded);
}

pub(super) fn concurrent_claims_never_share_a_task(backend: &dyn Backend) {
    let store = backend.open(at(0));
    planned(&store, 60);
    let claimed: Vec<LeaseRef> = thread::scope(|scope| {
        let workers: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    let mut mine = Vec::new();
                    while let Some(task) = claim(&store, 1, at(2)).pop() {
                        // Queued by whoever completed the last map.
                        if task.task.slot == Slot::Reduce {
                            break;
                        }
                        complete(&store, &task, result("", None), at(3));
                        mine.push(lease(&task));
                    }
                    mine
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap())
            .collect()
    });
    let tasks: HashSet<_> = claimed.iter().map(|lease| lease.name.task).collect();
    assert_eq!(claimed.len(), tasks.len(), "a task was claimed twice");
    assert_eq!(tasks.len(), 60);
}

pub(super) fn a_worker_completes_after_a_restart(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let id = planned(&store, 2);
    let task = claim_one(&store, at(2));
    let counts = store.counts().unwrap();
    store.close().unwrap();
    drop(store);
    let store = backend.open(at(1000));
    // How old a lease is is known from the start on only.
    let counts = Counts {
        oldest_lease: Some(at(1000)),
        ..counts
    };
    assert_eq!(store.counts().unwrap(), counts);
    // Long past its deadline, but nobody was there to hear its heartbeats.
    assert_eq!(store.expire(at(1000)).unwrap(), Changes::default());
    complete(&store, &task, result("first", None), at(1001));
    let rest = claim_one(&store, at(1002));
    complete(&store, &rest, result("second", None), at(1002));
    let reduce = claim_one(&store, at(1003));
    assert_eq!(reduce.inputs, [inline("first"), inline("second")]);
    complete(&store, &reduce, result("", Some(finish())), at(1004));
    assert_eq!(state(&store, id), State::Succeeded);
}

pub(super) fn a_lost_worker_is_noticed_after_a_restart(backend: &dyn Backend) {
    let store = backend.open(at(0));
    planned(&store, 1);
    let task = claim_one(&store, at(2));
    store.close().unwrap();
    drop(store);
    let store = backend.open(at(1000));
    assert_eq!(store.expire(at(1000).after(TTL)).unwrap().queued, 1);
    assert_eq!(claim_one(&store, at(1031)).task, task.task);
}

pub(super) fn many_failures_stop_neither_their_task_nor_the_others(backend: &dyn Backend) {
    let mut config = config();
    config.machine.max_attempts = 1000;
    let store = backend.open_with(config, at(0));
    planned(&store, 1);
    create(&store, "the other");
    let told = "\u{1}".repeat(2048);
    let mut now = 100;
    for attempt in 0..300 {
        let tasks = claim(&store, 2, at(now));
        now += 1;
        if attempt % 2 == 0 {
            fail(&store, &tasks[0], failure(&told, false), at(now));
        }
        now += TTL.as_secs();
        store.expire(at(now)).unwrap();
        assert_eq!(store.counts().unwrap().leased_tasks, 0, "after {attempt}");
    }
}
