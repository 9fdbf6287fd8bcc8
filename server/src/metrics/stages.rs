//! Since when the stages run, to tell how long each took. In memory only, so what began before a
//! restart is not timed.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::{
    job::{JobId, State},
    store::Transition,
};

#[derive(Debug, Default)]
pub(super) struct StageTimes(HashMap<JobId, Begun>);

#[derive(Debug)]
struct Begun {
    stage: String,
    at: Instant,
}

impl StageTimes {
    /// Takes in a transition; answers with the stage that ended by it, and the time it took.
    pub(super) fn follow(
        &mut self,
        transition: &Transition,
        now: Instant,
    ) -> Option<(String, Duration)> {
        let ended = match transition {
            // Its first task was leased: what it waited in the queue is no time of the stage.
            Transition::Entered(job, State::Running) => {
                if let Some(begun) = self.0.get_mut(job) {
                    begun.at = now;
                }
                None
            }
            Transition::StageStarted(job, stage) => {
                let stage = stage.clone();
                self.0.insert(*job, Begun { stage, at: now })
            }
            // A stage that was broken off says nothing about how long one takes.
            Transition::Entered(job, State::Failed | State::Cancelled) => {
                self.0.remove(job);
                None
            }
            Transition::Entered(job, State::Succeeded) => self.0.remove(job),
            _ => None,
        }?;
        Some((ended.stage, now.saturating_duration_since(ended.at)))
    }
}
