//! Names of jobs, tasks and leases, and their one text form.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Identifies a job. Later jobs have greater ids (UUID version 7), which is what makes the queue
/// first in, first out and the list newest first without a second index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(Uuid);

impl JobId {
    /// A new id, greater than every earlier one of this process.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id that these bytes are.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The id as bytes; their order is the order of the ids.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

/// Written as the resource name "jobs/{id}".
impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "jobs/{}", self.0)
    }
}

/// A resource name that does not name what it should.
#[derive(Debug, thiserror::Error)]
#[error("`{found}` is not a name of the form \"{expected}\"")]
pub struct InvalidName {
    found: String,
    expected: &'static str,
}

impl InvalidName {
    fn new(found: &str, expected: &'static str) -> Self {
        Self {
            found: found.chars().take(100).collect(),
            expected,
        }
    }
}

impl FromStr for JobId {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, InvalidName> {
        let id = name
            .strip_prefix("jobs/")
            .and_then(|id| Uuid::try_parse(id).ok())
            .map(Self);
        // Uuid reads several spellings; a resource has one name.
        id.filter(|id| id.to_string() == name)
            .ok_or_else(|| InvalidName::new(name, "jobs/{id}"))
    }
}

/// Place of a task in its stage. The reduce comes after every map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Slot {
    /// One of the independent parts, by index from 0.
    Map(u32),
    /// The fold of all maps.
    Reduce,
}

/// Identifies a task within its job. The order is the order of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId {
    /// Index of the stage, from 0.
    pub stage: u32,
    /// Place in the stage.
    pub slot: Slot,
}

/// Identifies a task among all jobs: "jobs/{id}/tasks/{stage}-{index|reduce}".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskName {
    /// The job.
    pub job: JobId,
    /// The task in it.
    pub task: TaskId,
}

impl TaskName {
    /// The least name of a job's tasks, whether or not there is such a task.
    pub(crate) fn first(job: JobId) -> Self {
        let task = TaskId {
            stage: 0,
            slot: Slot::Map(0),
        };
        Self { job, task }
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/tasks/{}-", self.job, self.task.stage)?;
        match self.task.slot {
            Slot::Map(index) => write!(f, "{index}"),
            Slot::Reduce => f.write_str("reduce"),
        }
    }
}

impl FromStr for TaskName {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, InvalidName> {
        let parse = || {
            let (job, task) = name.split_once("/tasks/")?;
            let (stage, slot) = task.split_once('-')?;
            let slot = match slot {
                "reduce" => Slot::Reduce,
                index => Slot::Map(index.parse().ok()?),
            };
            Some(Self {
                job: job.parse().ok()?,
                task: TaskId {
                    stage: stage.parse().ok()?,
                    slot,
                },
            })
        };
        parse()
            .filter(|parsed| parsed.to_string() == name)
            .ok_or_else(|| InvalidName::new(name, "jobs/{id}/tasks/{stage}-{index or \"reduce\"}"))
    }
}

/// Identifies one grant of one task; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseId(Uuid);

impl LeaseId {
    /// A new, unguessable id.
    pub fn generate() -> Self {
        Self(Uuid::new_v4())
    }

    /// The id that these bytes are.
    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The id as bytes.
    pub(crate) const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for LeaseId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Uuid::try_parse(text)
            .map(Self)
            .map_err(|_| InvalidName::new(text, "{uuid}"))
    }
}

/// What a worker shows to prove that a task is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseRef {
    /// The leased task.
    pub name: TaskName,
    /// The grant that it holds.
    pub fence: super::Fence,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_have_one_spelling() {
        let job = JobId::generate();
        assert_eq!(job.to_string().parse::<JobId>().unwrap(), job);
        for slot in [Slot::Map(0), Slot::Map(17), Slot::Reduce] {
            let name = TaskName {
                job,
                task: TaskId { stage: 3, slot },
            };
            assert_eq!(name.to_string().parse::<TaskName>().unwrap(), name);
        }
        for bad in ["", "jobs/", "jobs/x", &job.to_string().to_uppercase()] {
            assert!(bad.parse::<JobId>().is_err(), "{bad}");
        }
        for bad in ["0-", "0-01", "+0-1", "0", "0-Reduce", "0-4294967296"] {
            assert!(
                format!("{job}/tasks/{bad}").parse::<TaskName>().is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn tasks_are_ordered_by_stage_then_maps_then_reduce() {
        let task = |stage, slot| TaskId { stage, slot };
        let ordered = [
            task(0, Slot::Map(0)),
            task(0, Slot::Map(9)),
            task(0, Slot::Map(10)),
            task(0, Slot::Reduce),
            task(1, Slot::Map(0)),
        ];
        assert!(ordered.is_sorted());
    }
}
