//! What a store would hold of one job, for the tests of the machine: the plainest reading of the
//! effects, which checks after every step that no task is lost, none is in two places and none is
//! completed twice.

use std::collections::{BTreeMap, BTreeSet};

use dual16_proto::v1;

use super::*;
use crate::{clock::Timestamp, digest::Digest, principal::Principal};

pub(super) const NOW: Timestamp = Timestamp::from_millis(1_000);

/// One job and the indexes beside it.
#[derive(Clone)]
pub(super) struct ReferenceStore {
    pub(super) machine: Machine,
    pub(super) job: Job,
    pub(super) tasks: BTreeMap<TaskId, Task>,
    pub(super) now: Timestamp,
    pub(super) queue: BTreeSet<TaskId>,
    pub(super) waiting: BTreeMap<TaskId, Timestamp>,
    pub(super) leases: BTreeMap<TaskId, Fence>,
    /// Every fence ever granted, also those long lost.
    pub(super) granted: Vec<(TaskId, Fence)>,
    pub(super) results: BTreeSet<TaskId>,
    sequence: u64,
    /// Maps of each stage still to come, the next one last.
    plan: Vec<u32>,
}

impl ReferenceStore {
    pub(super) fn new(machine: Machine, plan: Vec<u32>) -> Self {
        let new = NewJob {
            id: JobId::from_bytes([7; 16]),
            owner: Principal::anonymous(),
            priority: Priority::Normal,
            display_name: "model.onnx".into(),
            spec_digest: Digest::of(b"spec"),
            request_id: None,
            blobs: Vec::new(),
            trace: None,
        };
        let step = machine.create(new, NOW);
        let mut store = Self {
            machine,
            job: step.job.clone(),
            tasks: BTreeMap::new(),
            now: NOW,
            queue: BTreeSet::new(),
            waiting: BTreeMap::new(),
            leases: BTreeMap::new(),
            granted: Vec::new(),
            results: BTreeSet::new(),
            sequence: 0,
            plan,
        };
        store.apply(step);
        store
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
                Effect::SavePayload(..) | Effect::Refer(_) => {}
                Effect::SaveResult(task, _) => {
                    assert!(self.results.insert(task), "{task:?} was completed twice");
                }
                Effect::Enqueue(task) => assert!(self.queue.insert(task), "{task:?} queued twice"),
                Effect::EnqueueAt(task, until) => {
                    assert!(until > self.now, "{task:?} waits for the past");
                    assert_eq!(self.waiting.insert(task, until), None);
                }
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
                    self.waiting.clear();
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
            assert!(self.queue.is_empty() && self.leases.is_empty() && self.waiting.is_empty());
            return;
        }
        for task in self.tasks.values() {
            let maps_done = self.job.stages[task.id.stage as usize].maps_are_done();
            let waits_for_maps = task.id.slot == Slot::Reduce && !maps_done;
            let places = [
                self.queue.contains(&task.id),
                self.waiting.contains_key(&task.id),
                self.leases.contains_key(&task.id),
                task.is_done(),
                waits_for_maps,
            ];
            let known = places.into_iter().filter(|there| *there).count();
            assert_eq!(known, 1, "{task:?} is lost or in two places: {places:?}");
            assert!((task.failures.len() as u32) < self.machine.max_attempts);
        }
    }

    pub(super) fn on_task(&mut self, id: TaskId, event: TaskEvent) -> Result<(), Refusal> {
        let phase = self.job.phase.clone();
        let task = self.tasks[&id].clone();
        let step = self
            .machine
            .on_task(self.job.clone(), task, event, self.now)?;
        if phase.ended().is_some() {
            assert!(step.is_empty(), "a task event changed a job that had ended");
        }
        self.apply(step);
        Ok(())
    }

    pub(super) fn on_job(&mut self, event: JobEvent) -> Result<(), Refusal> {
        let last = self.job.stages.len() as u32 - 1;
        let current = self
            .tasks
            .values()
            .filter(|task| task.id.stage == last)
            .cloned()
            .collect();
        let step = self
            .machine
            .on_job(self.job.clone(), current, event, self.now)?;
        self.apply(step);
        Ok(())
    }

    /// A fence as the store makes them, but the same one on every way to the same state.
    fn next_fence(&self, id: TaskId) -> Fence {
        let attempt = self.tasks[&id].attempt + 1;
        let slot = match id.slot {
            Slot::Map(index) => u64::from(index),
            Slot::Reduce => u64::from(u32::MAX),
        };
        let unique = format!("{:08x}{:08x}{slot:016x}", id.stage, attempt);
        Fence {
            lease: unique.parse().unwrap(),
            attempt,
        }
    }

    /// Time passes until no task waits out a backoff any more.
    pub(super) fn wait(&mut self) {
        for (task, until) in std::mem::take(&mut self.waiting) {
            let too_early = Grant {
                fence: self.next_fence(task),
                worker: "w".into(),
                deadline: NOW,
            };
            if self.now < until {
                let refused = self.on_task(task, TaskEvent::Claim(too_early));
                assert!(matches!(refused, Err(Refusal::NotClaimable(_))));
            }
            self.now = self.now.max(until);
            self.queue.insert(task);
        }
    }

    /// A worker takes the task at the head of the queue.
    pub(super) fn claim(&mut self) -> Option<(TaskId, Fence)> {
        if self.queue.is_empty() {
            self.wait();
        }
        let id = *self.queue.first()?;
        let fence = self.next_fence(id);
        let grant = Grant {
            fence,
            worker: "w".into(),
            deadline: NOW,
        };
        self.on_task(id, TaskEvent::Claim(grant)).unwrap();
        Some((id, fence))
    }

    pub(super) fn completion(&self, id: TaskId) -> Completion {
        let payload = || v1::Payload { kind: None };
        let next = (id.slot == Slot::Reduce).then(|| match self.plan.get(id.stage as usize) {
            None => Next::Finish(Vec::new()),
            Some(maps) => Next::Stage(PlannedStage {
                name: format!("stage {}", id.stage + 1),
                maps: (0..*maps).map(|_| payload()).collect(),
                reduce: payload(),
                seconds: 0,
            }),
        });
        Completion {
            result: payload(),
            blobs: Vec::new(),
            details: Vec::new(),
            next,
        }
    }

    pub(super) fn complete(&mut self, id: TaskId, fence: Fence) -> Result<(), Refusal> {
        let completion = self.completion(id);
        self.on_task(id, TaskEvent::Complete(fence, completion))
    }
}
