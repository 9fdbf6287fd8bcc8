//! A model check: every state that a small job can reach, in every order of events.
//!
//! The job is a stage of two maps and its reduce, two workers, leases that run out under workers who
//! go on all the same, errors, and once each: a cancellation, a retry, and one of a crash, a drain, or
//! an answer that gets lost (the worker says again what it said).
//! Time is abstract: a lease may run out and a backoff may end at any moment. In every state [`ReferenceStore`]
//! checks that no task is lost; here, that no step undoes what is final, and that every job can always
//! end by its workers alone.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use super::{
    reference_store::{NOW, ReferenceStore},
    *,
};

/// Beyond this the job is not small any more, and the test not quick.
const MAX_STATES: usize = 100_000;

const MACHINE: Machine = Machine {
    max_attempts: 2,
    max_stages: 4,
    backoff: Backoff {
        first: Duration::from_secs(1),
        cap: Duration::from_secs(60),
    },
};

/// The job, and what its workers believe.
#[derive(Clone)]
struct Model {
    store: ReferenceStore,
    /// The grant that each worker works on, whether or not it still holds.
    workers: [Option<(TaskId, Fence)>; 2],
    /// What may still happen once.
    left: Left,
}

#[derive(Clone, Copy, Debug, Hash)]
struct Left {
    /// A crash, a drain or a lost answer.
    trouble: bool,
    cancel: bool,
    retry: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// A worker without a task takes the task at the head of the queue.
    Claim(usize),
    /// It hands in its result, and hears the answer, or does not.
    Complete(usize, Answer),
    /// It hands in an error.
    Fail(usize),
    /// It gives its task back.
    Release(usize),
    /// It dies, without a word to the server, and another one takes its place.
    Crash(usize),
    /// The lease of a task runs out.
    Expire(TaskId),
    /// The backoff of a task ends.
    Due(TaskId),
    Cancel,
    Retry,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Heard,
    Lost,
}

impl Action {
    /// Happens by itself in a cluster that has a worker; nobody has to ask for it.
    fn is_progress(self) -> bool {
        !matches!(self, Self::Cancel | Self::Retry)
    }
}

impl Model {
    fn new() -> Self {
        let mut store = ReferenceStore::new(MACHINE, vec![2]);
        let (plan, fence) = store.claim().unwrap();
        store.complete(plan, fence).unwrap();
        let left = Left {
            trouble: true,
            cancel: true,
            retry: true,
        };
        Self {
            store,
            workers: [None, None],
            left,
        }
    }

    fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        for (worker, held) in self.workers.iter().enumerate() {
            if held.is_none() {
                if !self.store.queue.is_empty() {
                    actions.push(Action::Claim(worker));
                }
                continue;
            }
            actions.push(Action::Complete(worker, Answer::Heard));
            actions.push(Action::Fail(worker));
            if self.left.trouble {
                actions.push(Action::Complete(worker, Answer::Lost));
                actions.push(Action::Release(worker));
                actions.push(Action::Crash(worker));
            }
        }
        actions.extend(self.store.leases.keys().copied().map(Action::Expire));
        actions.extend(self.store.waiting.keys().copied().map(Action::Due));
        if self.left.cancel {
            actions.push(Action::Cancel);
        }
        if self.left.retry {
            actions.push(Action::Retry);
        }
        actions
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Claim(worker) => self.workers[worker] = self.store.claim(),
            Action::Complete(worker, answer) => {
                let (id, fence) = self.workers[worker].unwrap();
                let holds = self.store.leases.get(&id) == Some(&fence);
                let done_by_it = self.store.tasks[&id].state == TaskState::Done(fence);
                let outcome = self.store.complete(id, fence);
                assert_eq!(outcome.is_ok(), holds || done_by_it, "{outcome:?}");
                match answer {
                    Answer::Heard => self.workers[worker] = None,
                    Answer::Lost => self.left.trouble = false,
                }
            }
            Action::Fail(worker) => {
                let (id, fence) = self.workers[worker].take().unwrap();
                let holds = self.store.leases.get(&id) == Some(&fence);
                let report = FailureReport {
                    code: "FLAKY".into(),
                    message: "flaky".into(),
                    permanent: false,
                };
                let outcome = self.store.on_task(id, TaskEvent::Fail(fence, report));
                assert_eq!(outcome.is_ok(), holds, "{outcome:?}");
            }
            Action::Release(worker) => {
                let (id, fence) = self.workers[worker].take().unwrap();
                let failures = self.store.tasks[&id].failures.len();
                let holds = self.store.leases.get(&id) == Some(&fence);
                let outcome = self.store.on_task(id, TaskEvent::Release(fence));
                assert_eq!(outcome.is_ok(), holds, "{outcome:?}");
                assert_eq!(self.store.tasks[&id].failures.len(), failures);
                self.left.trouble = false;
            }
            Action::Crash(worker) => {
                self.workers[worker] = None;
                self.left.trouble = false;
            }
            Action::Expire(id) => {
                let fence = self.store.leases[&id];
                self.store.on_task(id, TaskEvent::Expire(fence)).unwrap();
            }
            Action::Due(id) => {
                self.store.waiting.remove(&id).unwrap();
                self.store.queue.insert(id);
            }
            Action::Cancel => {
                self.store.on_job(JobEvent::Cancel).unwrap();
                self.left.cancel = false;
            }
            Action::Retry => {
                let retryable = [State::Failed, State::Cancelled];
                let may = retryable.contains(&self.store.job.phase.state());
                assert_eq!(self.store.on_job(JobEvent::Retry).is_ok(), may);
                self.left.retry = false;
            }
        }
    }

    /// Tells states apart. Left out is what decides nothing that comes after: the texts of failures,
    /// how many events there were, and which of two equal workers has a task.
    fn fingerprint(&self) -> u128 {
        let store = &self.store;
        let stages = format!("{:?} {:?}", store.job.phase.state(), store.job.stages);
        let tasks = store.tasks.values();
        let tasks = tasks.map(|task| (&task.state, task.attempt, task.failures.len()));
        let tasks = format!("{:?}", tasks.collect::<Vec<_>>());
        let mut workers = self.workers;
        workers.sort_by_key(|held| held.map(|(task, fence)| (task, fence.lease)));
        let hash = |salt: u64| {
            let mut hasher = DefaultHasher::new();
            (salt, &stages, &tasks, &store.queue, workers, self.left).hash(&mut hasher);
            hasher.finish()
        };
        u128::from(hash(1)) << 64 | u128::from(hash(2))
    }

    fn state(&self) -> State {
        self.store.job.phase.state()
    }
}

/// What no step may undo.
fn check_step(before: &Model, action: Action, after: &Model) {
    let was = before.state();
    if before.store.job.phase.ended().is_some() && action != Action::Retry {
        assert_eq!(
            before.store.job, after.store.job,
            "{action:?} after the end"
        );
    }
    if was == State::Succeeded {
        assert_eq!(
            before.store.job, after.store.job,
            "{action:?} after success"
        );
    }
    for (id, task) in &before.store.tasks {
        if task.is_done() {
            let now = &after.store.tasks[id];
            assert_eq!(task, now, "{action:?} touched a task that was done");
        }
    }
}

#[test]
fn in_every_reachable_state_no_task_is_lost_and_the_job_can_end() {
    let start = Model::new();
    let mut known = HashMap::from([(start.fingerprint(), 0_usize)]);
    // For each state, those that lead to it by progress alone; and whether its job has ended.
    let mut before: Vec<Vec<usize>> = vec![Vec::new()];
    let mut ended = vec![false];
    let mut reached = HashSet::new();
    let mut open = VecDeque::from([(0, start)]);
    while let Some((number, model)) = open.pop_front() {
        reached.insert(model.state());
        for action in model.actions() {
            let mut next = model.clone();
            // Far beyond every backoff: when one ends is the choice of `Due`.
            next.store.now = match action {
                Action::Claim(_) => NOW.after(Duration::from_secs(3600)),
                _ => NOW,
            };
            next.perform(action);
            check_step(&model, action, &next);
            let found = *known.entry(next.fingerprint()).or_insert_with(|| {
                before.push(Vec::new());
                ended.push(next.store.job.phase.ended().is_some());
                open.push_back((before.len() - 1, next));
                before.len() - 1
            });
            if action.is_progress() {
                before[found].push(number);
            }
            assert!(known.len() < MAX_STATES, "the job is not small any more");
        }
    }
    assert_eq!(
        reached.len(),
        4,
        "{reached:?}: every state but PENDING, which the plan has left"
    );

    // Backwards from the ends: what is not met cannot end.
    let mut can_end = ended;
    let mut open: Vec<usize> = (0..can_end.len()).filter(|i| can_end[*i]).collect();
    while let Some(state) = open.pop() {
        for previous in &before[state] {
            if !std::mem::replace(&mut can_end[*previous], true) {
                open.push(*previous);
            }
        }
    }
    let stuck = can_end.iter().filter(|can_end| !**can_end).count();
    assert_eq!(stuck, 0, "of {} states these cannot end", known.len());
    assert!(
        known.len() > 1_000,
        "only {} states were reached",
        known.len()
    );
}
