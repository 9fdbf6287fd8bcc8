//! Since when: the stages that run and the leases in force, to tell how long each took. In memory
//! only, so what began before a restart is not timed.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::{
    job::{JobId, State, TaskName},
    store::Fact,
};

#[derive(Debug, Default)]
pub(super) struct Ledger {
    stages: HashMap<JobId, Begun>,
    leases: HashMap<TaskName, Begun>,
}

#[derive(Debug)]
struct Begun {
    stage: String,
    at: Instant,
}

/// Something that took its time.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Task { stage: String, took: Duration },
    Stage { stage: String, took: Duration },
}

impl Ledger {
    /// Takes in a fact; answers with what ended by it.
    pub(super) fn follow(&mut self, fact: &Fact, now: Instant) -> Option<Ended> {
        match fact {
            // Its first task was leased: what it waited in the queue is no time of the stage.
            Fact::Entered(job, State::Running) => {
                if let Some(begun) = self.stages.get_mut(job) {
                    begun.at = now;
                }
                None
            }
            Fact::Entered(_, State::Pending) | Fact::DeadLetter | Fact::Retried => None,
            Fact::Entered(job, state) => {
                self.leases.retain(|task, _| task.job != *job);
                let begun = self.stages.remove(job)?;
                // A stage that was broken off says nothing about how long one takes.
                (*state == State::Succeeded).then(|| begun.stage_ended(now))
            }
            Fact::StageStarted(job, stage) => {
                let stage = stage.clone();
                let begun = self.stages.insert(*job, Begun { stage, at: now });
                begun.map(|begun| begun.stage_ended(now))
            }
            Fact::Leased(task, stage) => {
                let stage = stage.clone();
                self.leases.insert(*task, Begun { stage, at: now });
                None
            }
            Fact::Completed(task) => {
                let Begun { stage, at } = self.leases.remove(task)?;
                let took = now.saturating_duration_since(at);
                Some(Ended::Task { stage, took })
            }
            Fact::Unleased(task) => {
                self.leases.remove(task);
                None
            }
        }
    }

    /// When the oldest lease was granted.
    pub(super) fn oldest_lease(&self) -> Option<Instant> {
        self.leases.values().map(|begun| begun.at).min()
    }
}

impl Begun {
    fn stage_ended(self, now: Instant) -> Ended {
        Ended::Stage {
            stage: self.stage,
            took: now.saturating_duration_since(self.at),
        }
    }
}
