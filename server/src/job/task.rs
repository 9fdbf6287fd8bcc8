//! One task: who holds it, how often it failed, how it ended.

use serde::{Deserialize, Serialize};

use super::{Failure, LeaseId, TaskId};
use crate::clock::Timestamp;

/// Tells the grants of one task apart. Every write of a worker carries it, so that one who lost
/// the task cannot touch it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fence {
    /// The grant.
    pub lease: LeaseId,
    /// Number of the grant, from 1. It grows with every grant, also after a release that counts
    /// as no failure: a fence that could come back would not be one.
    pub attempt: u32,
}

/// A task in the hands of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Proof of the grant.
    pub fence: Fence,
    /// The holder, for people to read.
    pub worker: String,
    /// When the lease ran out as granted. Renewals are not stored.
    pub deadline: Timestamp,
}

/// Where a task stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskState {
    /// Not done and nobody's. A map is then in the queue; a reduce is once its maps are done.
    Pending,
    /// It failed and is nobody's; it can be leased again from then on.
    Waiting {
        /// The end of its backoff.
        until: Timestamp,
    },
    /// A worker has it.
    Leased(Grant),
    /// Done, by this grant: the same worker may say so again.
    Done(Fence),
    /// Failed for good.
    Failed,
}

/// A task as it is stored. Its payload and its result are records of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Which task.
    pub id: TaskId,
    /// Number of the newest grant, 0 before the first.
    pub attempt: u32,
    /// Failed attempts since the job was created or retried, oldest first; without those forgotten.
    pub failures: Vec<Failure>,
    /// Failed attempts beyond what a record has room for.
    #[serde(default, rename = "forgotten_failures")]
    pub forgotten: u32,
    /// Where it stands.
    pub state: TaskState,
}

/// Most bytes of the failures of one task, as stored.
pub const FAILURES_BYTES: usize = 8 * 1024;
/// Most bytes of the message of one of them, as stored; a longer one is cut. Three have room, and one as
/// long as the default of `--limit-error-bytes` that has nothing to escape is not cut.
const MESSAGE_BYTES: usize = 2 * 1024 + 256;

/// Bytes of a value as JSON, whose strings may be six times as long as they are.
fn json_bytes(value: &impl Serialize) -> usize {
    serde_json::to_string(value).map_or(usize::MAX, |json| json.len())
}

/// Cuts a text to at most `max` bytes of JSON.
fn cut(text: &mut String, max: usize) {
    const CUT: char = '…';
    if json_bytes(text) <= max {
        return;
    }
    let mut room = max.saturating_sub(json_bytes(&CUT));
    let mut end = 0;
    for (at, character) in text.char_indices() {
        // Without the quotes.
        let bytes = json_bytes(&character).saturating_sub(2);
        if bytes > room {
            break;
        }
        room -= bytes;
        end = at + character.len_utf8();
    }
    text.truncate(end);
    text.push(CUT);
}

impl Task {
    /// A task that nobody has tried yet.
    pub fn new(id: TaskId) -> Self {
        Self {
            id,
            attempt: 0,
            failures: Vec::new(),
            forgotten: 0,
            state: TaskState::Pending,
        }
    }

    /// Failed attempts since the job was created or retried.
    pub fn tried(&self) -> usize {
        self.failures.len() + self.forgotten as usize
    }

    /// Notes a failed attempt. However many there are and whatever they say, the record stays small
    /// ([`FAILURES_BYTES`]): of many, the first and the newest are kept.
    pub fn failed(&mut self, mut failure: Failure) {
        cut(&mut failure.message, MESSAGE_BYTES);
        self.failures.push(failure);
        while self.failures.len() > 2 && json_bytes(&self.failures) > FAILURES_BYTES {
            self.failures.remove(1);
            self.forgotten = self.forgotten.saturating_add(1);
        }
    }

    /// Nothing has been tried yet.
    pub fn forget_failures(&mut self) {
        self.failures.clear();
        self.forgotten = 0;
    }

    /// The task was completed.
    pub fn is_done(&self) -> bool {
        matches!(self.state, TaskState::Done(_))
    }

    /// The task is nobody's, and no backoff keeps it from being leased at `now`.
    pub fn is_due(&self, now: Timestamp) -> bool {
        match self.state {
            TaskState::Pending => true,
            TaskState::Waiting { until } => until <= now,
            TaskState::Leased(_) | TaskState::Done(_) | TaskState::Failed => false,
        }
    }

    /// The grant that holds the task now.
    pub fn grant(&self) -> Option<&Grant> {
        match &self.state {
            TaskState::Leased(grant) => Some(grant),
            TaskState::Pending
            | TaskState::Waiting { .. }
            | TaskState::Done(_)
            | TaskState::Failed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Slot;

    fn failure(attempt: u32, message: &str) -> Failure {
        Failure {
            attempt,
            worker: "w".repeat(256),
            message: message.to_owned(),
            time: Timestamp::from_millis(u64::MAX),
        }
    }

    #[test]
    fn failures_are_counted_for_ever_and_kept_in_little_room() {
        let mut task = Task::new(TaskId {
            stage: 0,
            slot: Slot::Reduce,
        });
        for attempt in 1..=1000 {
            // Six bytes each in JSON.
            let message = "\u{1}".repeat(attempt as usize * 7);
            task.failed(failure(attempt, &message));
            assert_eq!(task.tried(), attempt as usize);
            assert!(json_bytes(&task) < FAILURES_BYTES + 512);
        }
        let kept: Vec<_> = task
            .failures
            .iter()
            .map(|failure| failure.attempt)
            .collect();
        assert_eq!((kept[0], kept[1..].last()), (1, Some(&1000)), "{kept:?}");
        let read: Task = serde_json::from_str(&serde_json::to_string(&task).unwrap()).unwrap();
        assert_eq!(read, task);
        task.forget_failures();
        assert_eq!(task.tried(), 0);
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        for max in 10..60 {
            let mut text = "no \"Δ\"\n".repeat(9);
            cut(&mut text, max);
            assert!(json_bytes(&text) <= max, "{max}: {text}");
            assert!(text.ends_with('…'), "{text}");
        }
        let mut short = "short".to_owned();
        cut(&mut short, 7);
        assert_eq!(short, "short");
    }
}
