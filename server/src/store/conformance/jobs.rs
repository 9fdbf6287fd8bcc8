//! Jobs: creating, listing, stopping, deleting.

use super::*;

pub(super) fn a_created_job_is_pending_with_its_plan_queued(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let id = create(&store, "model.onnx");
    let stored = store.get_job(id).unwrap();
    assert_eq!(stored.spec, spec("model.onnx"));
    assert_eq!(stored.job.phase.state(), State::Pending);
    assert_eq!(stored.job.stages.len(), 1);
    assert_eq!(
        store.counts().unwrap(),
        Counts {
            open_jobs: 1,
            queued_tasks: 1,
            waiting_tasks: 0,
            leased_tasks: 0,
            oldest_lease: None,
        }
    );
    let plan = claim_one(&store, at(2));
    assert_eq!((plan.payload, plan.inputs.len()), (inline(""), 0));
    assert_eq!(state(&store, id), State::Running);
    let unknown = JobId::generate();
    assert!(matches!(store.get_job(unknown), Err(StoreError::NotFound(id)) if id == unknown));
}

pub(super) fn a_request_id_makes_creation_idempotent(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let first = create_with(&store, "a", Some("r")).unwrap();
    assert_eq!(first.changes.queued, 1);
    let again = create_with(&store, "a", Some("r")).unwrap();
    assert_eq!(again.job.job.id, first.job.job.id);
    assert_eq!(again.changes, Changes::default());
    let other = create_with(&store, "b", Some("r"));
    assert!(matches!(other, Err(StoreError::RequestIdReused(id)) if id == first.job.job.id));
    store.cancel(first.job.job.id, at(2)).unwrap();
    let ended = create_with(&store, "a", Some("r")).unwrap();
    assert_eq!(ended.job.job.id, first.job.job.id);
    assert_eq!(store.counts().unwrap().open_jobs, 0);
}

pub(super) fn the_number_of_open_jobs_is_limited(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let jobs: Vec<_> = (0..MAX_OPEN_JOBS).map(|_| create(&store, "a")).collect();
    let refused = create_with(&store, "a", Some("late"));
    assert!(matches!(&refused, Err(error @ StoreError::QueueFull { .. }) if error.retryable()));
    store.cancel(jobs[0], at(2)).unwrap();
    create_with(&store, "a", Some("late")).unwrap();
}

pub(super) fn jobs_are_listed_newest_first_in_pages(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let jobs: Vec<_> = (0..5).map(|i| create(&store, &format!("{i}"))).collect();
    store.cancel(jobs[1], at(2)).unwrap();
    store.cancel(jobs[3], at(2)).unwrap();
    let list = |before, states: &[State], limit| {
        let query = JobQuery {
            before,
            owner: None,
            states: states.to_vec(),
            limit,
            max_bytes: 1 << 20,
        };
        let page = store.list_jobs(&query).unwrap();
        let found: Vec<_> = page.jobs.iter().map(|stored| stored.job.id).collect();
        (found, page.more)
    };
    assert_eq!(list(None, &[], 2), (vec![jobs[4], jobs[3]], true));
    assert_eq!(
        list(Some(jobs[3]), &[], 3),
        (vec![jobs[2], jobs[1], jobs[0]], false)
    );
    assert_eq!(list(Some(jobs[0]), &[], 3), (vec![], false));
    assert_eq!(list(None, &[State::Cancelled], 1), (vec![jobs[3]], true));
    assert_eq!(
        list(Some(jobs[3]), &[State::Cancelled], 1),
        (vec![jobs[1]], false)
    );
}

pub(super) fn a_page_is_bounded_in_bytes(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let jobs = [create(&store, "a"), create(&store, "b")];
    let query = JobQuery {
        before: None,
        owner: None,
        states: vec![],
        limit: 10,
        max_bytes: 1,
    };
    let page = store.list_jobs(&query).unwrap();
    assert_eq!(
        (page.jobs.len(), page.jobs[0].job.id, page.more),
        (1, jobs[1], true)
    );
}

pub(super) fn owners_keep_their_jobs_and_request_ids_apart(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let [ann, bob]: [Principal; 2] = ["ann", "bob"].map(|name| name.parse().unwrap());
    let create_as = |owner: &Principal, request_id: &str| {
        let new = NewJob {
            id: JobId::generate(),
            owner: owner.clone(),
            priority: Priority::Normal,
            display_name: "model".into(),
            spec_digest: Digest::of(b"model"),
            request_id: Some(request_id.into()),
            blobs: Vec::new(),
            trace: None,
        };
        store
            .create_job(new, &spec("model"), at(1))
            .unwrap()
            .job
            .job
            .id
    };
    let first = create_as(&ann, "r");
    let theirs = create_as(&bob, "r");
    assert_ne!(first, theirs);
    assert_eq!(create_as(&ann, "r"), first);
    let second = create_as(&ann, "s");
    assert_eq!(store.job_owner(theirs).unwrap(), bob);
    let unknown = JobId::generate();
    assert!(matches!(store.job_owner(unknown), Err(StoreError::NotFound(id)) if id == unknown));
    let of = |owner: Option<&Principal>| {
        let query = JobQuery {
            before: None,
            owner: owner.cloned(),
            states: vec![],
            limit: 10,
            max_bytes: 1 << 20,
        };
        let page = store.list_jobs(&query).unwrap();
        let found = page.jobs.iter().map(|stored| stored.job.id);
        found.collect::<Vec<_>>()
    };
    assert_eq!(of(Some(&ann)), [second, first]);
    assert_eq!(of(Some(&bob)), [theirs]);
    assert_eq!(of(None).len(), 3);
    // The id is free again once its job is deleted, and only for its owner.
    store.cancel(first, at(2)).unwrap();
    store.delete(first).unwrap();
    assert_ne!(create_as(&ann, "r"), first);
    assert_eq!(create_as(&bob, "r"), theirs);
}

pub(super) fn cancel_revokes_and_stays(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let id = planned(&store, 3);
    let running = claim_one(&store, at(2));
    let (cancelled, changes) = store.cancel(id, at(3)).unwrap();
    assert_eq!(
        cancelled.job.phase,
        crate::job::Phase::Cancelled { ended: at(3) }
    );
    assert_eq!(changes.jobs, [id]);
    assert_eq!(
        store.renew(&[lease(&running)], at(3), TTL).unwrap(),
        [lease(&running)]
    );
    assert!(is_lost(&store, &running, at(4)));
    assert_eq!(store.counts().unwrap(), Counts::default());
    assert!(claim(&store, 9, at(4)).is_empty());
    let (again, changes) = store.cancel(id, at(9)).unwrap();
    assert_eq!((again.job, changes), (cancelled.job, Changes::default()));
}

pub(super) fn only_ended_jobs_are_deleted_and_nothing_remains(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let other = create(&store, "other");
    let id = create_with(&store, "a", Some("r")).unwrap().job.job.id;
    assert!(matches!(store.delete(id), Err(StoreError::NotEnded(_))));
    store.cancel(id, at(2)).unwrap();
    store.delete(id).unwrap();
    assert!(matches!(store.get_job(id), Err(StoreError::NotFound(_))));
    assert!(matches!(
        store.read_events(id, 0),
        Err(StoreError::NotFound(_))
    ));
    assert!(matches!(store.delete(id), Err(StoreError::NotFound(_))));
    assert_ne!(create_with(&store, "b", Some("r")).unwrap().job.job.id, id);
    assert_eq!(claim_one(&store, at(3)).job.id, other);
}

pub(super) fn a_spec_of_many_files_round_trips(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let file = |i| v1::InputFile {
        name: format!("calib/{i:06}"),
        digest: "d".repeat(71),
        size: i,
    };
    let spec = v1::JobSpec {
        calibration: (0..8000).map(file).collect(),
        ..Default::default()
    };
    let new = NewJob {
        id: JobId::generate(),
        owner: Principal::anonymous(),
        priority: Priority::Normal,
        display_name: "large".into(),
        spec_digest: Digest::of(b"large"),
        request_id: None,
        blobs: Vec::new(),
        trace: None,
    };
    let id = store.create_job(new, &spec, at(1)).unwrap().job.job.id;
    store.close().unwrap();
    drop(store);
    assert!(backend.open(at(2)).get_job(id).unwrap().spec == spec);
}
