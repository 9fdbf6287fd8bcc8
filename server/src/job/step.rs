//! What one transition changes: the records it writes and the effects beside them.

use dual16_proto::v1::{self, event_detail::Detail};

use super::{BlobRef, Fence, Grant, Job, Phase, PlannedStage, Slot, Stage, Task, TaskId};
use crate::clock::Timestamp;

/// A change beside the job's and the tasks' own records. All effects of one step are committed
/// together with them, or not at all.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Append an event.
    Emit(v1::JobEvent),
    /// Store what a new task is to do.
    SavePayload(TaskId, v1::Payload),
    /// Store the result of a task.
    SaveResult(TaskId, v1::Payload),
    /// The job keeps these blobs from now on; some may be its own already.
    Refer(Vec<BlobRef>),
    /// The task can be leased from now on.
    Enqueue(TaskId),
    /// The task can be leased from that moment on; until then it is in no queue.
    EnqueueAt(TaskId, Timestamp),
    /// The task is leased: it leaves the queue.
    Lease(TaskId, Grant),
    /// The grant is over.
    Unlease(TaskId, Fence),
    /// The job has ended: nothing of it is queued or leased any more.
    ClearJob,
}

/// The outcome of one transition.
#[derive(Clone, Debug)]
pub struct Step {
    /// The job after it.
    pub job: Job,
    /// Tasks that are new or have changed.
    pub tasks: Vec<Task>,
    /// Everything else, in order.
    pub effects: Vec<Effect>,
    now: Timestamp,
}

impl Step {
    pub(super) fn new(job: Job, now: Timestamp) -> Self {
        Self {
            job,
            tasks: Vec::new(),
            effects: Vec::new(),
            now,
        }
    }

    /// The step changes nothing and need not be committed.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.effects.is_empty()
    }

    pub(super) fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(super) fn refer(&mut self, blobs: Vec<BlobRef>) {
        if !blobs.is_empty() {
            self.push(Effect::Refer(blobs));
        }
    }

    pub(super) fn emit(&mut self, detail: Detail) {
        self.emit_opaque(v1::EventDetail {
            detail: Some(detail),
        });
    }

    pub(super) fn emit_opaque(&mut self, detail: v1::EventDetail) {
        self.job.last_sequence += 1;
        self.push(Effect::Emit(v1::JobEvent {
            sequence: self.job.last_sequence,
            time: Some(self.now.into()),
            detail: Some(detail),
        }));
    }

    /// Moves the job into `phase` and says so. A phase that ends the job empties its queue.
    pub(super) fn enter(&mut self, phase: Phase) {
        if phase.ended().is_some() {
            for stage in &mut self.job.stages {
                stage.running = 0;
            }
            self.push(Effect::ClearJob);
        }
        self.job.phase = phase;
        let changed = v1::StateChanged::from(&self.job.phase);
        self.emit(Detail::StateChanged(changed));
    }

    /// Appends a stage with its tasks; those that can run at once are queued.
    pub(super) fn start_stage(&mut self, planned: PlannedStage) {
        let PlannedStage {
            name,
            maps,
            reduce,
            seconds,
        } = planned;
        let number = u32::try_from(self.job.stages.len()).unwrap_or(u32::MAX);
        let maps_len = u32::try_from(maps.len()).unwrap_or(u32::MAX);
        let stage = Stage {
            name,
            maps: maps_len,
            maps_done: 0,
            reduce_done: false,
            running: 0,
            seconds,
        };
        self.emit(Detail::StageStarted(v1::StageStarted {
            stage: stage.name.clone(),
            tasks: stage.tasks(),
        }));
        let reduce_is_first = stage.maps_are_done();
        self.job.stages.push(stage);
        for (index, payload) in (0..maps_len).zip(maps) {
            self.create_task(
                TaskId {
                    stage: number,
                    slot: Slot::Map(index),
                },
                payload,
                true,
            );
        }
        let reduce_id = TaskId {
            stage: number,
            slot: Slot::Reduce,
        };
        self.create_task(reduce_id, reduce, reduce_is_first);
    }

    fn create_task(&mut self, id: TaskId, payload: v1::Payload, queued: bool) {
        self.tasks.push(Task::new(id));
        self.push(Effect::SavePayload(id, payload));
        if queued {
            self.push(Effect::Enqueue(id));
        }
    }
}
