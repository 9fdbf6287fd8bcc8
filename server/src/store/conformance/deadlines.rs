//! Deadlines of jobs: whether a worker runs them, ran them once or never came.

use dual16_proto::v1::event_detail::Detail;

use super::*;
use crate::job::{DEADLINE_GRACE, Phase, Refusal};

/// Queued at 1, to be done at 11.
fn create_limited(store: &Subject) -> JobId {
    let spec = v1::JobSpec {
        deadline_seconds: 10,
        ..spec("limited")
    };
    let created = create_of(store, &spec, "limited", None).unwrap();
    created.job.job.id
}

fn assert_ended(store: &Subject, id: JobId, time: u64) {
    match store.get_job(id).unwrap().job.phase {
        Phase::Failed { ended, error } => {
            assert_eq!(
                (error.code.as_str(), ended),
                ("DEADLINE_EXCEEDED", at(time))
            );
        }
        other => panic!("{other:?}"),
    }
}

pub(super) fn a_job_that_no_worker_asks_for_is_ended_by_its_deadline(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let (limited, other) = (create_limited(&store), create(&store, "other"));
    assert_eq!(store.expire(at(10)).unwrap(), Changes::default());
    store.close().unwrap();
    drop(store);
    let store = backend.open(at(10));
    assert_eq!(store.expire(at(10)).unwrap(), Changes::default());
    let changes = store.expire(at(11)).unwrap();
    assert_eq!(changes.jobs, [limited]);
    let failed = Transition::Entered(limited, State::Failed);
    assert_eq!(changes.transitions.first(), Some(&failed));
    assert_ended(&store, limited, 11);
    let last = all_events(&store, limited).pop().unwrap();
    let detail = last.detail.unwrap().detail;
    assert!(
        matches!(detail, Some(Detail::StateChanged(_))),
        "{detail:?}"
    );
    assert_eq!(store.expire(at(12)).unwrap(), Changes::default());
    let counts = store.counts().unwrap();
    assert_eq!((counts.open_jobs, counts.queued_tasks), (1, 1));
    assert_eq!(claim_one(&store, at(12)).job.id, other);
}

pub(super) fn a_deadline_counts_anew_from_a_retry(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let id = create_limited(&store);
    store.cancel(id, at(2)).unwrap();
    assert_eq!(store.expire(at(11)).unwrap(), Changes::default());
    store.retry(id, at(20)).unwrap();
    assert_eq!(store.expire(at(29)).unwrap(), Changes::default());
    assert_eq!(store.expire(at(30)).unwrap().jobs, [id]);
    assert_ended(&store, id, 30);
}

pub(super) fn a_running_task_is_left_to_its_worker_for_a_while(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let [given_back, kept] = [(); 2].map(|()| create_limited(&store));
    let tasks = claim(&store, 2, at(2));
    let leases: Vec<_> = tasks.iter().map(lease).collect();
    store.renew(&leases, at(11), 2 * TTL).unwrap();
    assert_eq!(store.expire(at(11)).unwrap(), Changes::default());
    let [first, second] = [0, 1].map(|i| leases[i]);
    assert_eq!(
        [first, second].map(|lease| lease.name.job),
        [given_back, kept]
    );
    store.release(&[first], at(12)).unwrap();
    assert_eq!(store.expire(at(13)).unwrap().jobs, [given_back]);
    assert_ended(&store, given_back, 13);
    let end = at(11).after(DEADLINE_GRACE).as_millis() / 1000;
    assert_eq!(store.expire(at(end - 1)).unwrap(), Changes::default());
    assert_eq!(store.expire(at(end)).unwrap().jobs, [kept]);
    assert_ended(&store, kept, end);
    let late = store.complete(second, result("", Some(finish())), at(end));
    assert!(matches!(
        late,
        Err(StoreError::Refused(Refusal::LeaseLost(_)))
    ));
}
