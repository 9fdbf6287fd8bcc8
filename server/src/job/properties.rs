//! Properties of the state machine under random sequences of events: no task is lost, none is
//! completed twice, what ended stays ended, the events have no gap, and every job ends when
//! workers keep succeeding.

use std::collections::{BTreeMap, BTreeSet};

use dual16_proto::v1;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{clock::Timestamp, digest::Digest};

const MACHINE: Machine = Machine {
    max_attempts: 3,
    max_stages: 16,
};
const NOW: Timestamp = Timestamp::from_millis(1_000);

/// What a store would hold: the plainest reading of the effects.
struct World {
    job: Job,
    tasks: BTreeMap<TaskId, Task>,
    queue: BTreeSet<TaskId>,
    leases: BTreeMap<TaskId, Fence>,
    /// Every fence ever granted, also those long lost.
    granted: Vec<(TaskId, Fence)>,
    results: BTreeSet<TaskId>,
    sequence: u64,
    /// Maps of each stage still to come, the next one last.
    plan: Vec<u32>,
}

impl World {
    fn new(plan: Vec<u32>) -> Self {
        let new = NewJob {
            id: JobId::generate(),
            display_name: "model.onnx".into(),
            spec_digest: Digest::of(b"spec"),
            request_id: None,
            trace: None,
        };
        let step = MACHINE.create(new, NOW);
        let mut world = Self {
            job: step.job.clone(),
            tasks: BTreeMap::new(),
            queue: BTreeSet::new(),
            leases: BTreeMap::new(),
            granted: Vec::new(),
            results: BTreeSet::new(),
            sequence: 0,
            plan,
        };
        world.apply(step);
        world
    }

    fn apply(&mut self, step: Step) {
        self.job = step.job;
        self.tasks
            .extend(step.tasks.into_iter().map(|task| (task.id, task)));
        for effect in step.effects {
            match effect {
                Effect::Emit(event) => {
                    self.sequence += 1;
                    assert_eq!(event.sequence, self.sequence, "a gap in the events");
                }
                Effect::SavePayload(..) => {}
                Effect::SaveResult(task, _) => {
                    assert!(self.results.insert(task), "{task:?} was completed twice");
                }
                Effect::Enqueue(task) => assert!(self.queue.insert(task), "{task:?} queued twice"),
                Effect::Lease(task, grant) => {
                    assert!(self.queue.remove(&task), "{task:?} was not queued");
                    assert_eq!(self.leases.insert(task, grant.fence), None);
                    self.granted.push((task, grant.fence));
                }
                Effect::Unlease(task, fence) => {
                    assert_eq!(self.leases.remove(&task), Some(fence));
                }
                Effect::ClearJob => {
                    self.queue.clear();
                    self.leases.clear();
                }
            }
        }
        self.check();
    }

    /// What must hold after every step.
    fn check(&self) {
        assert_eq!(self.job.last_sequence, self.sequence);
        let running: u32 = self.job.stages.iter().map(|stage| stage.running).sum();
        assert_eq!(running as usize, self.leases.len());
        let done = self.tasks.values().filter(|task| task.is_done()).count();
        let counted: u32 = self.job.stages.iter().map(Stage::done).sum();
        assert_eq!(counted as usize, done);
        assert_eq!(self.results.len(), done);
        if self.job.phase.ended().is_some() {
            assert!(self.queue.is_empty() && self.leases.is_empty());
            return;
        }
        for task in self.tasks.values() {
            let maps_done = self.job.stages[task.id.stage as usize].maps_are_done();
            let waits_for_maps = task.id.slot == Slot::Reduce && !maps_done;
            let places = [
                self.queue.contains(&task.id),
                self.leases.contains_key(&task.id),
                task.is_done(),
                waits_for_maps,
            ];
            let known = places.into_iter().filter(|there| *there).count();
            assert_eq!(known, 1, "{task:?} is lost or in two places: {places:?}");
            assert!((task.failures.len() as u32) < MACHINE.max_attempts);
        }
    }

    fn on_task(&mut self, id: TaskId, event: TaskEvent) -> Result<(), Refusal> {
        let phase = self.job.phase.clone();
        let task = self.tasks[&id].clone();
        let step = MACHINE.on_task(self.job.clone(), task, event, NOW)?;
        if phase.ended().is_some() {
            assert!(step.is_empty(), "a task event changed a job that had ended");
        }
        self.apply(step);
        Ok(())
    }

    fn on_job(&mut self, event: JobEvent) -> Result<(), Refusal> {
        let last = self.job.stages.len() as u32 - 1;
        let current = self
            .tasks
            .values()
            .filter(|task| task.id.stage == last)
            .cloned()
            .collect();
        let step = MACHINE.on_job(self.job.clone(), current, event, NOW)?;
        self.apply(step);
        Ok(())
    }

    fn claim(&mut self) -> Option<(TaskId, Fence)> {
        let id = *self.queue.first()?;
        let attempt = self.tasks[&id].attempt + 1;
        let fence = Fence {
            lease: LeaseId::generate(),
            attempt,
        };
        let grant = Grant {
            fence,
            worker: "w".into(),
            deadline: NOW,
        };
        self.on_task(id, TaskEvent::Claim(grant)).unwrap();
        Some((id, fence))
    }

    fn completion(&self, id: TaskId) -> Completion {
        let payload = || v1::Payload { kind: None };
        let next = (id.slot == Slot::Reduce).then(|| match self.plan.get(id.stage as usize) {
            None => Next::Finish(Vec::new()),
            Some(maps) => Next::Stage(PlannedStage {
                name: format!("stage {}", id.stage + 1),
                maps: (0..*maps).map(|_| payload()).collect(),
                reduce: payload(),
            }),
        });
        Completion {
            result: payload(),
            details: Vec::new(),
            next,
        }
    }

    fn complete(&mut self, id: TaskId, fence: Fence) -> Result<(), Refusal> {
        let completion = self.completion(id);
        self.on_task(id, TaskEvent::Complete(fence, completion))
    }
}

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

fn perform(world: &mut World, action: Action) {
    // Grants that were lost long ago are among the choices: they must be refused.
    let choose = |index: &prop::sample::Index| {
        (!world.granted.is_empty()).then(|| *index.get(&world.granted))
    };
    let refused = match action {
        Action::Claim => {
            world.claim();
            return;
        }
        Action::Cancel => world.on_job(JobEvent::Cancel).err(),
        Action::Retry => world.on_job(JobEvent::Retry).err(),
        Action::Complete(index) => {
            let Some((id, fence)) = choose(&index) else {
                return;
            };
            let done_by_it = world.tasks[&id].state == TaskState::Done(fence);
            let holds = world.leases.get(&id) == Some(&fence);
            let outcome = world.complete(id, fence);
            assert_eq!(outcome.is_ok(), holds || done_by_it);
            return;
        }
        Action::Fail(index, permanent) => choose(&index).and_then(|(id, fence)| {
            let report = FailureReport {
                code: "X".into(),
                message: "x".into(),
                permanent,
            };
            world.on_task(id, TaskEvent::Fail(fence, report)).err()
        }),
        Action::Expire(index) => {
            choose(&index).and_then(|(id, fence)| world.on_task(id, TaskEvent::Expire(fence)).err())
        }
        Action::Release(index) => choose(&index)
            .and_then(|(id, fence)| world.on_task(id, TaskEvent::Release(fence)).err()),
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
        let mut world = World::new(plan);
        for action in actions {
            perform(&mut world, action);
        }
        // From wherever that led: workers that die give up their leases, the others succeed.
        for (id, fence) in world.leases.clone() {
            if world.leases.get(&id) == Some(&fence) {
                world.on_task(id, TaskEvent::Expire(fence)).unwrap();
            }
        }
        if matches!(world.job.phase.state(), State::Failed | State::Cancelled) {
            world.on_job(JobEvent::Retry).unwrap();
        }
        let mut steps = 0;
        while let Some((id, fence)) = world.claim() {
            world.complete(id, fence).unwrap();
            world.complete(id, fence).unwrap();
            steps += 1;
            prop_assert!(steps < 100, "the job does not end");
        }
        prop_assert_eq!(world.job.phase.state(), State::Succeeded);
        prop_assert!(world.tasks.values().all(Task::is_done));
    }

    #[test]
    fn a_task_that_always_fails_ends_its_job_after_the_last_attempt(maps in 1u32..4) {
        let mut world = World::new(vec![maps]);
        let (plan, fence) = world.claim().unwrap();
        world.complete(plan, fence).unwrap();
        let poisoned = TaskId { stage: 1, slot: Slot::Map(0) };
        let mut attempts = 0;
        while let Some((id, fence)) = world.claim() {
            if id != poisoned {
                world.complete(id, fence).unwrap();
                continue;
            }
            attempts += 1;
            let message = format!("crash {attempts}");
            let report = FailureReport { code: "CRASH".into(), message, permanent: false };
            world.on_task(id, TaskEvent::Fail(fence, report)).unwrap();
        }
        prop_assert_eq!(attempts, 3);
        let Phase::Failed { error, .. } = &world.job.phase else {
            panic!("{:?}", world.job.phase)
        };
        prop_assert_eq!(error.code.as_str(), "ATTEMPTS_EXHAUSTED");
        let messages: Vec<_> = error.attempts.iter().map(|a| a.message.as_str()).collect();
        prop_assert_eq!(messages, ["crash 1", "crash 2", "crash 3"]);
    }
}

#[test]
fn a_reduce_that_always_names_another_stage_is_stopped() {
    let mut world = World::new(vec![0; 100]);
    for _ in 1..MACHINE.max_stages {
        let (id, fence) = world.claim().unwrap();
        world.complete(id, fence).unwrap();
    }
    let (id, fence) = world.claim().unwrap();
    let refused = world.complete(id, fence).unwrap_err();
    assert_eq!(
        refused,
        Refusal::TooManyStages {
            job: world.job.id,
            max: 16
        }
    );
}

#[test]
fn only_a_reduce_says_what_follows() {
    let mut world = World::new(vec![1]);
    let (plan, fence) = world.claim().unwrap();
    let without = Completion {
        next: None,
        ..world.completion(plan)
    };
    let refused = world
        .on_task(plan, TaskEvent::Complete(fence, without))
        .unwrap_err();
    assert!(matches!(refused, Refusal::NextMissing(_)));
    world.complete(plan, fence).unwrap();
    let (map, fence) = world.claim().unwrap();
    let with = Completion {
        next: Some(Next::Finish(Vec::new())),
        ..world.completion(map)
    };
    let refused = world
        .on_task(map, TaskEvent::Complete(fence, with))
        .unwrap_err();
    assert!(matches!(refused, Refusal::NextUnexpected(_)));
}
