//! What a store keeps, and for whom: retention, references to blobs, quotas.

use super::*;
use crate::job::BlobRef;

pub(super) fn blob(bytes: &[u8], size: u64) -> BlobRef {
    BlobRef {
        digest: Digest::of(bytes),
        size,
    }
}

pub(super) fn create_for(
    store: &Subject,
    owner: &str,
    blobs: &[BlobRef],
) -> Result<JobId, StoreError> {
    let new = NewJob {
        id: JobId::generate(),
        owner: owner.parse().unwrap(),
        priority: Priority::Normal,
        display_name: "model".into(),
        spec_digest: Digest::of(b"model"),
        request_id: None,
        blobs: blobs.to_vec(),
        trace: None,
    };
    let created = store.create_job(new, &spec("model"), at(1))?;
    Ok(created.job.job.id)
}

pub(super) fn what_has_ended_goes_by_age_and_by_number(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let jobs: Vec<_> = (0..4).map(|i| create(&store, &format!("{i}"))).collect();
    for (job, time) in [(jobs[2], 10), (jobs[0], 20), (jobs[1], 30)] {
        store.cancel(job, at(time)).unwrap();
    }
    store.close().unwrap();
    drop(store);
    // What ended, and when, is known again after a restart.
    let store = backend.open(at(40));
    let day = Retention {
        keep_for: Some(Duration::from_secs(86_400)),
        max_jobs: None,
    };
    assert_eq!(store.prune(day, at(40)).unwrap(), Changes::default());
    assert_eq!(store.prune(day, at(86_415)).unwrap().jobs, [jobs[2]]);
    let three = Retention {
        keep_for: None,
        max_jobs: Some(2),
    };
    assert_eq!(store.prune(three, at(50)).unwrap().jobs, [jobs[0]]);
    assert_eq!(store.prune(three, at(50)).unwrap(), Changes::default());
    for gone in [jobs[0], jobs[2]] {
        assert!(matches!(store.get_job(gone), Err(StoreError::NotFound(id)) if id == gone));
    }
    assert_eq!(state(&store, jobs[1]), State::Cancelled);
    assert_eq!(state(&store, jobs[3]), State::Pending);
}

pub(super) fn a_clock_that_was_set_makes_no_job_older(backend: &dyn Backend) {
    let minute = Retention {
        keep_for: Some(Duration::from_secs(60)),
        max_jobs: None,
    };
    let store = backend.open(at(0));
    let job = create(&store, "model");
    store.cancel(job, at(10)).unwrap();
    assert_eq!(store.prune(minute, at(20)).unwrap(), Changes::default());
    store.close().unwrap();
    drop(store);
    // Ten years on, says the machine that starts again.
    let later = 315_000_000;
    let store = backend.open(at(later));
    assert_eq!(store.prune(minute, at(later)).unwrap(), Changes::default());
    assert_eq!(
        store.prune(minute, at(later + 49)).unwrap(),
        Changes::default()
    );
    // It was 10 s old when it was last seen.
    assert_eq!(store.prune(minute, at(later + 50)).unwrap().jobs, [job]);
}

pub(super) fn blobs_are_free_once_no_job_keeps_them(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let [shared, own, result_blob] = [b"s", b"o", b"r"].map(|name| blob(name, 10));
    let all = [shared, own, result_blob].map(|blob| blob.digest);
    assert_eq!(store.unreferenced(&all).unwrap(), all);
    let first = create_for(&store, "ann", &[shared, own, own]).unwrap();
    let second = create_for(&store, "bob", &[shared]).unwrap();
    assert_eq!(store.get_job(first).unwrap().job.bytes, 20);
    let plan = claim_one(&store, at(2));
    let completion = Completion {
        blobs: vec![own, result_blob],
        ..result("", Some(finish()))
    };
    store.complete(lease(&plan), completion, at(3)).unwrap();
    assert_eq!(store.get_job(first).unwrap().job.bytes, 30);
    assert_eq!(store.unreferenced(&all).unwrap(), []);
    store.close().unwrap();
    drop(store);
    let store = backend.open(at(4));
    store.delete(first).unwrap();
    assert_eq!(
        store.unreferenced(&all).unwrap(),
        [own.digest, result_blob.digest]
    );
    store.cancel(second, at(5)).unwrap();
    assert_eq!(
        store.unreferenced(&[shared.digest]).unwrap(),
        [],
        "it can be retried"
    );
    store.delete(second).unwrap();
    assert_eq!(store.unreferenced(&all).unwrap(), all);
}

pub(super) fn an_owner_has_a_quota_of_jobs_and_of_bytes(backend: &dyn Backend) {
    let quota = Quota {
        open_jobs: 2,
        bytes: 100,
    };
    let config = StoreConfig { quota, ..config() };
    let store = backend.open_with(config, at(0));
    let first = create_for(&store, "ann", &[blob(b"a", 60)]).unwrap();
    let refused = create_for(&store, "ann", &[blob(b"b", 41)]).unwrap_err();
    assert!(refused.retryable());
    assert_eq!(
        refused.to_string(),
        "ann has 60 bytes of jobs, 41 more would exceed the quota of 100: delete jobs, or wait \
         for some to end"
    );
    create_for(&store, "ann", &[blob(b"b", 40)]).unwrap();
    let refused = create_for(&store, "ann", &[]).unwrap_err();
    assert!(matches!(
        refused,
        StoreError::QuotaExceeded {
            used: 2,
            max: 2,
            ..
        }
    ));
    // Others are not concerned. What has ended counts as bytes, not as an open job.
    create_for(&store, "bob", &[blob(b"a", 100)]).unwrap();
    store.cancel(first, at(2)).unwrap();
    create_for(&store, "ann", &[]).unwrap();
    let refused = store.retry(first, at(3)).unwrap_err();
    assert!(matches!(refused, StoreError::QuotaExceeded { .. }));
    store.delete(first).unwrap();
    assert_eq!(store.counts().unwrap().open_jobs, 3);
}
