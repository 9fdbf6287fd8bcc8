//! The suite that every store passes: one list of tests, instantiated for each implementation.

mod clock;
mod deadlines;
mod events;
mod jobs;
mod retention;
mod subject;
mod tasks;
mod turns;
mod uses;

use std::{path::PathBuf, time::Duration};

use dual16_proto::v1::{self, payload::Kind};

use tokio::runtime::{Builder, Runtime};

use self::subject::Subject;
use super::{testing::TestDatabase, *};
use crate::{
    digest::Digest,
    job::{Backoff, Machine, Next, PlannedStage, Priority, TaskName},
    principal::Principal,
};

const TTL: Duration = Duration::from_secs(30);
const MAX_OPEN_JOBS: u64 = 8;

/// Declares the whole suite for one backend.
macro_rules! conformance_suite {
    ($backend:ident: $make:expr) => {
        conformance_suite!(@ $backend: $make;
            jobs::a_created_job_is_pending_with_its_plan_queued,
            jobs::a_request_id_makes_creation_idempotent,
            jobs::the_number_of_open_jobs_is_limited,
            jobs::jobs_are_listed_newest_first_in_pages,
            jobs::a_page_is_bounded_in_bytes,
            jobs::owners_keep_their_jobs_and_request_ids_apart,
            jobs::cancel_revokes_and_stays,
            jobs::only_ended_jobs_are_deleted_and_nothing_remains,
            jobs::a_spec_of_many_files_round_trips,
            tasks::a_job_runs_through_its_stages,
            tasks::tasks_are_claimed_first_in_first_out,
            turns::owners_have_turns,
            turns::a_worker_goes_on_with_the_jobs_that_it_has,
            turns::the_urgent_go_first_and_the_others_in_the_end,
            turns::owners_have_turns_within_a_priority,
            turns::a_priority_survives_a_restart,
            tasks::a_claim_is_bounded_in_bytes,
            tasks::only_the_holder_of_the_lease_writes,
            tasks::a_heartbeat_keeps_a_lease_and_silence_loses_it,
            tasks::attempts_are_limited_and_every_error_is_kept,
            tasks::a_permanent_error_ends_the_job_at_once,
            tasks::a_failed_task_waits_out_its_backoff,
            tasks::a_backoff_survives_a_restart_and_ends_with_its_job,
            tasks::a_release_counts_no_attempt,
            tasks::a_retry_keeps_what_succeeded,
            tasks::concurrent_claims_never_share_a_task,
            tasks::a_worker_completes_after_a_restart,
            tasks::a_lost_worker_is_noticed_after_a_restart,
            tasks::many_failures_stop_neither_their_task_nor_the_others,
            deadlines::a_job_that_no_worker_asks_for_is_ended_by_its_deadline,
            deadlines::a_deadline_counts_anew_from_a_retry,
            deadlines::a_running_task_is_left_to_its_worker_for_a_while,
            retention::what_has_ended_goes_by_age_and_by_number,
            retention::a_clock_that_was_set_makes_no_job_older,
            retention::blobs_are_free_once_no_job_keeps_them,
            retention::an_owner_has_a_quota_of_jobs_and_of_bytes,
            uses::a_blob_may_go_once_it_is_unused_and_kept_by_no_job,
            uses::nobody_is_told_of_a_blob_while_it_goes,
            clock::a_verb_that_comes_late_sees_the_time_of_the_one_before,
            clock::a_clock_that_was_set_back_stops_nothing,
            clock::every_lease_can_get_a_full_term,
            events::events_have_no_gap_and_come_in_pages,
            events::a_large_record_is_refused_whole,
            events::a_closed_store_refuses,
        );
    };
    (@ $backend:ident: $make:expr; $($module:ident::$test:ident,)+) => {
        mod $backend {
            $(
                #[test]
                fn $test() {
                    super::$module::$test(&$make);
                }
            )+
        }
    };
}

conformance_suite!(memory: super::Memory::default());
conformance_suite!(sled: super::Sled::new());
conformance_suite!(postgres: super::TestDatabase::new());

/// A place where a store is kept, opened again and again.
trait Backend {
    fn open_with(&self, config: StoreConfig, now: Timestamp) -> Subject;

    fn open(&self, now: Timestamp) -> Subject {
        self.open_with(config(), now)
    }
}

#[derive(Default)]
struct Memory(MemoryEngine);

impl Backend for Memory {
    fn open_with(&self, config: StoreConfig, now: Timestamp) -> Subject {
        embedded(RecordStore::open(self.0.clone(), config, now, TTL).unwrap())
    }
}

struct Sled {
    directory: tempfile::TempDir,
}

impl Sled {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("store")
    }
}

impl Backend for Sled {
    fn open_with(&self, config: StoreConfig, now: Timestamp) -> Subject {
        let engine = SledEngine::open(&self.path()).unwrap();
        embedded(RecordStore::open(engine, config, now, TTL).unwrap())
    }
}

impl Backend for TestDatabase {
    fn open_with(&self, config: StoreConfig, now: Timestamp) -> Subject {
        let runtime = runtime();
        let store = PostgresStore::open(&self.url, config, Some(now), TTL);
        let store = runtime.block_on(store).unwrap();
        Subject::new(runtime, store)
    }
}

fn embedded(records: RecordStore<impl Engine>) -> Subject {
    Subject::new(runtime(), Embedded::new(records))
}

fn runtime() -> Runtime {
    let mut runtime = Builder::new_multi_thread();
    runtime.worker_threads(1).enable_all().build().unwrap()
}

fn config() -> StoreConfig {
    let machine = Machine {
        max_attempts: 3,
        max_stages: 8,
        backoff: Backoff::NONE,
    };
    StoreConfig {
        machine,
        max_open_jobs: MAX_OPEN_JOBS,
        quota: Quota {
            open_jobs: u64::MAX,
            bytes: u64::MAX,
        },
    }
}

/// Waits of half to all of 10 s after the first failure, of 10 to 20 s after the second.
fn with_backoff() -> StoreConfig {
    let mut config = config();
    config.machine.backoff = Backoff {
        first: Duration::from_secs(10),
        cap: Duration::from_secs(60),
    };
    config
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn spec(label: &str) -> v1::JobSpec {
    let file = v1::InputFile {
        name: label.into(),
        digest: "sha256:…".into(),
        size: 1,
    };
    v1::JobSpec {
        calibration: vec![file],
        ..v1::JobSpec::default()
    }
}

fn create(store: &Subject, label: &str) -> JobId {
    create_with(store, label, None).unwrap().job.job.id
}

fn create_with(
    store: &Subject,
    label: &str,
    request_id: Option<&str>,
) -> Result<Created, StoreError> {
    create_of(store, &spec(label), label, request_id)
}

fn create_of(
    store: &Subject,
    spec: &v1::JobSpec,
    label: &str,
    request_id: Option<&str>,
) -> Result<Created, StoreError> {
    let new = NewJob {
        id: JobId::generate(),
        owner: Principal::anonymous(),
        priority: Priority::Normal,
        display_name: label.into(),
        spec_digest: Digest::of(label.as_bytes()),
        request_id: request_id.map(Into::into),
        blobs: Vec::new(),
        trace: None,
    };
    store.create_job(new, spec, at(1))
}

fn claim(store: &Subject, max_tasks: usize, now: Timestamp) -> Vec<LeasedTask> {
    store.claim(&claim_of("w", max_tasks), now).unwrap().tasks
}

/// What a worker asks for that runs nothing.
fn claim_of(worker: &str, max_tasks: usize) -> Claim {
    Claim {
        worker: worker.into(),
        jobs: Vec::new(),
        max_tasks,
        max_bytes: 1 << 20,
        ttl: TTL,
    }
}

fn claim_one(store: &Subject, now: Timestamp) -> LeasedTask {
    claim(store, 1, now).pop().expect("a queued task")
}

fn lease(task: &LeasedTask) -> LeaseRef {
    LeaseRef {
        name: TaskName {
            job: task.job.id,
            task: task.task,
        },
        fence: task.grant.fence,
    }
}

fn inline(text: impl Into<String>) -> v1::Payload {
    v1::Payload {
        kind: Some(Kind::Inline(text.into().into_bytes())),
    }
}

fn result(text: impl Into<String>, next: Option<Next>) -> Completion {
    Completion {
        result: inline(text),
        blobs: Vec::new(),
        details: Vec::new(),
        next,
    }
}

fn stage(name: &str, maps: usize) -> Next {
    Next::Stage(PlannedStage {
        name: name.into(),
        maps: (0..maps)
            .map(|i| inline(format!("{name} map {i}")))
            .collect(),
        reduce: inline(format!("{name} reduce")),
        seconds: 0,
    })
}

fn finish() -> Next {
    Next::Finish(Vec::new())
}

/// Hands in the result of a task, which must be taken.
fn complete(store: &Subject, task: &LeasedTask, result: Completion, now: Timestamp) -> Changes {
    store.complete(lease(task), result, now).unwrap()
}

/// The same for an error.
fn fail(store: &Subject, task: &LeasedTask, report: FailureReport, now: Timestamp) -> Changes {
    store.fail(lease(task), report, now).unwrap()
}

/// Whether the result of a task is refused, because it is another's by now.
fn is_lost(store: &Subject, task: &LeasedTask, now: Timestamp) -> bool {
    is_lease_lost(store.complete(lease(task), result("late", None), now))
}

/// A job whose plan is done and whose first stage has `maps` maps queued.
fn planned(store: &Subject, maps: usize) -> JobId {
    let id = create(store, "planned");
    let plan = claim_one(store, at(1));
    complete(
        store,
        &plan,
        result("plan", Some(stage("measure", maps))),
        at(1),
    );
    id
}

fn state(store: &Subject, id: JobId) -> State {
    store.get_job(id).unwrap().job.phase.state()
}

fn failure(message: &str, permanent: bool) -> FailureReport {
    FailureReport {
        code: "BAD_INPUT".into(),
        message: message.into(),
        permanent,
    }
}

fn is_lease_lost<T>(outcome: Result<T, StoreError>) -> bool {
    matches!(
        outcome,
        Err(StoreError::Refused(crate::job::Refusal::LeaseLost(_)))
    )
}

/// Every event of a job, page by page.
fn all_events(store: &Subject, id: JobId) -> Vec<v1::JobEvent> {
    let mut events = Vec::new();
    loop {
        let page = store.read_events(id, events.len() as u64).unwrap();
        if page.events.is_empty() {
            assert_eq!(events.len() as u64, page.last_sequence);
            return events;
        }
        events.extend(page.events);
    }
}
