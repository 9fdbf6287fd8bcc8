//! Events, and what a store does at its limits.

use dual16_proto::v1::event_detail::Detail;

use super::*;

pub(super) fn events_have_no_gap_and_come_in_pages(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let id = planned(&store, 40);
    let maps = claim(&store, 64, at(2));
    fail(&store, &maps[7], failure("flaky", false), at(3));
    for task in maps.iter().filter(|task| task.task != maps[7].task) {
        let notice = v1::Notice {
            code: "FLOAT_ISLAND".into(),
            ..v1::Notice::default()
        };
        let detail = v1::EventDetail {
            detail: Some(Detail::Notice(notice)),
        };
        let completion = Completion {
            details: vec![detail],
            ..result("", None)
        };
        store.complete(lease(task), completion, at(4)).unwrap();
    }
    let again = claim_one(&store, at(5));
    complete(&store, &again, result("", None), at(6));
    let reduce = claim_one(&store, at(7));
    complete(&store, &reduce, result("", Some(finish())), at(8));

    let events = all_events(&store, id);
    for (expected, event) in (1..).zip(&events) {
        assert_eq!(event.sequence, expected);
    }
    let kinds = events.iter().map(|event| {
        match event
            .detail
            .as_ref()
            .and_then(|detail| detail.detail.as_ref())
        {
            Some(Detail::StateChanged(_)) => "state",
            Some(Detail::StageStarted(_)) => "stage",
            Some(Detail::TaskDone(_)) => "done",
            Some(Detail::TaskRetried(_)) => "retried",
            Some(Detail::Notice(_)) => "notice",
            _ => "other",
        }
    });
    let kinds: Vec<_> = kinds.collect();
    // Created, planned, running; the plan done and its stage; then the stage.
    assert_eq!(
        kinds[..6],
        ["state", "stage", "state", "done", "stage", "retried"]
    );
    let count = |kind| kinds.iter().filter(|found| **found == kind).count();
    assert_eq!(
        [count("done"), count("notice"), count("state")],
        [42, 39, 3]
    );
    assert_eq!(kinds.last(), Some(&"state"));
    let page = store.read_events(id, 50).unwrap();
    assert_eq!((page.events[0].sequence, page.ended), (51, true));
    assert_eq!(page.last_sequence, events.len() as u64);
}

pub(super) fn a_large_record_is_refused_whole(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let id = planned(&store, 1);
    let task = claim_one(&store, at(2));
    let before = store.get_job(id).unwrap().job;
    let large = result("x".repeat(MAX_RECORD_BYTES), None);
    let refused = store.complete(lease(&task), large, at(3));
    assert!(matches!(
        refused,
        Err(StoreError::RecordTooLarge { what: "result", .. })
    ));
    assert_eq!(store.get_job(id).unwrap().job, before);
    assert!(store.renew(&[lease(&task)], at(3), TTL).unwrap().is_empty());
    complete(&store, &task, result("small", None), at(4));
}

pub(super) fn a_closed_store_refuses(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let id = create(&store, "a");
    store.close().unwrap();
    store.close().unwrap();
    assert!(matches!(store.get_job(id), Err(StoreError::Closed)));
    assert!(matches!(
        create_with(&store, "b", None),
        Err(StoreError::Closed)
    ));
}
