//! Time as the verbs are told it: by callers who waited for each other, and by a clock that may have
//! been set back while no server ran.

use super::*;

/// The one task of a job has failed, and waits for 10 s at most.
fn failed_at(store: &Subject, now: Timestamp) {
    planned(store, 1);
    let task = claim_one(store, now);
    store
        .fail(lease(&task), failure("flaky", false), now)
        .unwrap();
}

pub(super) fn a_verb_that_comes_late_sees_the_time_of_the_one_before(backend: &dyn Backend) {
    let store = backend.open_with(with_backoff(), at(0));
    failed_at(&store, at(100));
    assert_eq!(store.expire(at(110)).unwrap().queued, 1);
    // Told the time before `expire` was, it got the lock after it.
    let task = claim_one(&store, at(101));
    assert_eq!(task.grant.fence.attempt, 2);
    // Nor does it shorten the lease of one who was quicker.
    store.renew(&[lease(&task)], at(120), TTL).unwrap();
    store.renew(&[lease(&task)], at(111), TTL).unwrap();
    // Nor does a look for those who fell silent go by the time of one who was: the next heartbeat may
    // wait behind it.
    store.renew(&[], at(151), TTL).unwrap();
    assert_eq!(store.expire(at(149)).unwrap(), Changes::default());
    complete(&store, &task, result("", None), at(149));
}

pub(super) fn a_clock_that_was_set_back_stops_nothing(backend: &dyn Backend) {
    let store = backend.open_with(with_backoff(), at(10_000));
    planned(&store, 1);
    create(&store, "second");
    let tasks = claim(&store, 2, at(10_000));
    for (task, time) in tasks.iter().zip([at(10_000), at(10_009)]) {
        store
            .fail(lease(task), failure("flaky", false), time)
            .unwrap();
    }
    assert_eq!(store.expire(at(10_010)).unwrap().queued, 1);
    store.close().unwrap();
    drop(store);
    let store = backend.open_with(with_backoff(), at(100));
    // The one that was queued already can be had at once, the other after the longest wait there is.
    assert_eq!(claim_one(&store, at(100)).grant.fence.attempt, 2);
    assert!(claim(&store, 1, at(159)).is_empty());
    assert_eq!(claim_one(&store, at(160)).grant.fence.attempt, 2);
}

pub(super) fn every_lease_can_get_a_full_term(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let id = planned(&store, 2);
    let held = claim(&store, 2, at(2));
    store.renew(&[lease(&held[0])], at(60), TTL).unwrap();
    // A renewal makes no lease younger.
    assert_eq!(store.counts().unwrap().oldest_lease, Some(at(2)));
    store.extend_leases(at(80)).unwrap();
    assert_eq!(store.expire(at(79)).unwrap(), Changes::default());
    assert_eq!(store.expire(at(80)).unwrap().lost.len(), 1);
    // It never shortens one.
    store.extend_leases(at(81)).unwrap();
    assert_eq!(store.expire(at(89)).unwrap(), Changes::default());
    assert_eq!(store.expire(at(90)).unwrap().lost.len(), 1);
    assert_eq!(state(&store, id), State::Running);
}
