//! Properties of the state machine under random sequences of events: no task is lost, none is
//! completed twice, what ended stays ended, the events have no gap, and every job ends when workers
//! keep succeeding.

use std::time::Duration;

use proptest::{collection::vec, prelude::*};

use super::{reference_store::ReferenceStore, *};

const MACHINE: Machine = Machine {
    max_attempts: 3,
    max_stages: 16,
    backoff: Backoff {
        first: Duration::from_secs(1),
        cap: Duration::from_secs(60),
    },
};
#[derive(Clone, Debug)]
enum Action {
    Claim,
    Complete(prop::sample::Index),
    Fail(prop::sample::Index, bool),
    Expire(prop::sample::Index),
    Release(prop::sample::Index),
    Cancel,
    Retry,
}

fn actions() -> impl Strategy<Value = Action> {
    let grant = any::<prop::sample::Index>;
    prop_oneof![
        8 => Just(Action::Claim),
        8 => grant().prop_map(Action::Complete),
        2 => (grant(), prop::bool::weighted(0.1)).prop_map(|(g, p)| Action::Fail(g, p)),
        2 => grant().prop_map(Action::Expire),
        1 => grant().prop_map(Action::Release),
        1 => Just(Action::Cancel),
        2 => Just(Action::Retry),
    ]
}

fn perform(store: &mut ReferenceStore, action: Action) {
    // Grants that were lost long ago are among the choices: they must be refused.
    let choose = |index: &prop::sample::Index| {
        (!store.granted.is_empty()).then(|| *index.get(&store.granted))
    };
    let refused = match action {
        Action::Claim => {
            store.claim();
            return;
        }
        Action::Cancel => store.on_job(JobEvent::Cancel).err(),
        Action::Retry => store.on_job(JobEvent::Retry).err(),
        Action::Complete(index) => {
            let Some((id, fence)) = choose(&index) else {
                return;
            };
            let done_by_it = store.tasks[&id].state == TaskState::Done(fence);
            let holds = store.leases.get(&id) == Some(&fence);
            let outcome = store.complete(id, fence);
            assert_eq!(outcome.is_ok(), holds || done_by_it);
            return;
        }
        Action::Fail(index, permanent) => choose(&index).and_then(|(id, fence)| {
            let report = FailureReport {
                code: "X".into(),
                message: "x".into(),
                permanent,
            };
            store.on_task(id, TaskEvent::Fail(fence, report)).err()
        }),
        Action::Expire(index) => {
            choose(&index).and_then(|(id, fence)| store.on_task(id, TaskEvent::Expire(fence)).err())
        }
        Action::Release(index) => choose(&index)
            .and_then(|(id, fence)| store.on_task(id, TaskEvent::Release(fence)).err()),
    };
    let expected = matches!(
        refused,
        None | Some(Refusal::LeaseLost(_) | Refusal::NotRetryable { .. })
    );
    assert!(expected, "{refused:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_and_every_job_ends(
        plan in vec(0u32..4, 0..4),
        actions in vec(actions(), 0..80),
    ) {
        let mut store = ReferenceStore::new(MACHINE, plan);
        for action in actions {
            perform(&mut store, action);
        }
        // From wherever that led: workers that die give up their leases, the others succeed.
        for (id, fence) in store.leases.clone() {
            if store.leases.get(&id) == Some(&fence) {
                store.on_task(id, TaskEvent::Expire(fence)).unwrap();
            }
        }
        if matches!(store.job.phase.state(), State::Failed | State::Cancelled) {
            store.on_job(JobEvent::Retry).unwrap();
        }
        let mut steps = 0;
        while let Some((id, fence)) = store.claim() {
            store.complete(id, fence).unwrap();
            store.complete(id, fence).unwrap();
            steps += 1;
            prop_assert!(steps < 100, "the job does not end");
        }
        prop_assert_eq!(store.job.phase.state(), State::Succeeded);
        prop_assert!(store.tasks.values().all(Task::is_done));
    }

    #[test]
    fn a_task_that_always_fails_ends_its_job_after_the_last_attempt(maps in 1u32..4) {
        let mut store = ReferenceStore::new(MACHINE, vec![maps]);
        let (plan, fence) = store.claim().unwrap();
        store.complete(plan, fence).unwrap();
        let poisoned = TaskId { stage: 1, slot: Slot::Map(0) };
        let mut attempts = 0;
        while let Some((id, fence)) = store.claim() {
            if id != poisoned {
                store.complete(id, fence).unwrap();
                continue;
            }
            attempts += 1;
            let message = format!("crash {attempts}");
            let report = FailureReport { code: "CRASH".into(), message, permanent: false };
            store.on_task(id, TaskEvent::Fail(fence, report)).unwrap();
        }
        prop_assert_eq!(attempts, 3);
        let Phase::Failed { error, .. } = &store.job.phase else {
            panic!("{:?}", store.job.phase)
        };
        prop_assert_eq!(error.code.as_str(), "ATTEMPTS_EXHAUSTED");
        let messages: Vec<_> = error.attempts.iter().map(|a| a.message.as_str()).collect();
        prop_assert_eq!(messages, ["crash 1", "crash 2", "crash 3"]);
    }
}

#[test]
fn a_record_of_an_older_server_is_read() {
    let grant = r#"{"fence":{"lease":"0123456789abcdef0123456789abcdef","attempt":2},"worker":"w","deadline":1,"busy":true}"#;
    let failure =
        r#"{"attempt":1,"worker":"w","message":"the lease ran out","time":1,"lost":true}"#;
    let mut store = ReferenceStore::new(MACHINE, Vec::new());
    let (plan, _) = store.claim().unwrap();
    let mut record = serde_json::to_value(&store.tasks[&plan]).unwrap();
    record["forgotten"] = serde_json::json!({"count": 1, "lost": true});
    record["failures"] = serde_json::from_str(&format!("[{failure}]")).unwrap();
    record["state"]["Leased"] = serde_json::from_str(grant).unwrap();
    let task: Task = serde_json::from_value(record).unwrap();
    assert_eq!((task.failures.len(), task.tried()), (1, 1));
    assert_eq!(task.grant().map(|grant| grant.fence.attempt), Some(2));
}

#[test]
fn a_reduce_that_always_names_another_stage_is_stopped() {
    let mut store = ReferenceStore::new(MACHINE, vec![0; 100]);
    for _ in 1..MACHINE.max_stages {
        let (id, fence) = store.claim().unwrap();
        store.complete(id, fence).unwrap();
    }
    let (id, fence) = store.claim().unwrap();
    let refused = store.complete(id, fence).unwrap_err();
    assert_eq!(
        refused,
        Refusal::TooManyStages {
            job: store.job.id,
            max: 16
        }
    );
}

#[test]
fn only_a_reduce_says_what_follows() {
    let mut store = ReferenceStore::new(MACHINE, vec![1]);
    let (plan, fence) = store.claim().unwrap();
    let without = Completion {
        next: None,
        ..store.completion(plan)
    };
    let refused = store
        .on_task(plan, TaskEvent::Complete(fence, without))
        .unwrap_err();
    assert!(matches!(refused, Refusal::NextMissing(_)));
    store.complete(plan, fence).unwrap();
    let (map, fence) = store.claim().unwrap();
    let with = Completion {
        next: Some(Next::Finish(Vec::new())),
        ..store.completion(map)
    };
    let refused = store
        .on_task(map, TaskEvent::Complete(fence, with))
        .unwrap_err();
    assert!(matches!(refused, Refusal::NextUnexpected(_)));
}
