//! Judging requests: every violation of a request is found and told with the path of its field.
//!
//! What a checked request contains is the server's own types. Numbers, layers and ways are the
//! workers' business and not looked at.

mod result;
mod spec;

use std::fmt::Display;

use dual16_proto::v1;
use tonic_types::FieldViolation;

pub(super) use self::{
    result::{completion, failure},
    spec::{CheckedSpec, create_job},
};
use super::{ApiError, Exceeded};
use crate::{
    digest::Digest,
    job::{Fence, JobId, LeaseRef, State},
    limits::Limits,
};

/// Bytes of one description: refusals travel in a header, and clients take few KiB of headers.
const MAX_DESCRIPTION: usize = 320;
/// Characters of a text from the request that a description repeats.
const MAX_SHOWN: usize = 80;

/// Violations kept to be told; of the rest only the number. An entry of two bytes can be wrong in
/// three ways, so a request must not decide how much is kept of what is wrong with it.
const MAX_KEPT: usize = 16;

/// Collects what is wrong with a request.
#[derive(Debug)]
pub(super) struct Checker<'a> {
    limits: &'a Limits,
    /// The first ones.
    violations: Vec<FieldViolation>,
    /// How many more there were.
    more: usize,
    /// The first limit that was exceeded.
    exceeded: Option<Exceeded>,
    /// Something is wrong whatever the limits.
    malformed: bool,
}

impl<'a> Checker<'a> {
    pub(super) fn new(limits: &'a Limits) -> Self {
        Self {
            limits,
            violations: Vec::new(),
            more: 0,
            exceeded: None,
            malformed: false,
        }
    }

    /// Notes a violation; `reason` is upper snake case and stable.
    pub(super) fn reject(
        &mut self,
        field: impl Into<String>,
        reason: &str,
        description: impl Into<String>,
    ) {
        self.malformed = true;
        self.violate(field, reason, description);
    }

    /// Notes a violation where more was found than the limit allows, as [`Checker::reject`] does.
    pub(super) fn within(
        &mut self,
        exceeded: Exceeded,
        field: impl Into<String>,
        reason: &str,
        description: impl FnOnce() -> String,
    ) -> bool {
        let within = exceeded.found <= exceeded.max;
        if !within {
            self.exceeded.get_or_insert(exceeded);
            self.violate(field, reason, description());
        }
        within
    }

    fn violate(&mut self, field: impl Into<String>, reason: &str, description: impl Into<String>) {
        if self.violations.len() == MAX_KEPT {
            self.more += 1;
            return;
        }
        let description = cut(description.into(), MAX_DESCRIPTION);
        let mut violation = FieldViolation::new(field, description);
        violation.reason = reason.to_owned();
        self.violations.push(violation);
    }

    /// The verdict. A request that is both malformed and too large is malformed.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        let Self {
            violations, more, ..
        } = self;
        match self.exceeded {
            _ if violations.is_empty() => Ok(()),
            Some(exceeded) if !self.malformed => {
                Err(ApiError::Exceeded(exceeded, violations, more))
            }
            _ => Err(ApiError::Invalid(violations, more)),
        }
    }

    /// A count within the limit of this name. Where it is not, the answer is false, and the entries are
    /// not worth a look: nobody reads ten thousand complaints.
    pub(super) fn count(
        &mut self,
        field: &str,
        found: usize,
        limit: &'static str,
        max: u64,
    ) -> bool {
        let found = found as u64;
        let exceeded = Exceeded { limit, max, found };
        self.within(exceeded, field, "TOO_MANY", || {
            format!("has {found} entries, at most {max} may be")
        })
    }

    /// A size in bytes within the limit of this name; false where it is not.
    pub(super) fn bytes(
        &mut self,
        field: &str,
        reason: &str,
        found: u64,
        limit: &'static str,
        max: u64,
    ) -> bool {
        let exceeded = Exceeded { limit, max, found };
        self.within(exceeded, field, reason, || {
            format!("has {found} bytes, at most {max} may be")
        })
    }

    /// A text for people: within the limit, without control characters. May be empty.
    pub(super) fn label(&mut self, field: &str, text: &str) {
        let (found, max) = (text.len() as u64, self.limits.name_bytes);
        if self.bytes(field, "TOO_LONG", found, "name_bytes", max)
            && text.chars().any(char::is_control)
        {
            self.reject(
                field,
                "INVALID_NAME",
                "has control characters; it must be plain text",
            );
        }
    }

    /// As [`Checker::label`], and not empty.
    pub(super) fn name(&mut self, field: &str, text: &str) {
        if text.is_empty() {
            self.reject(field, "REQUIRED", "is empty; it must be given");
        }
        self.label(field, text);
    }

    /// A relative path that stays inside its folder on every system.
    pub(super) fn path(&mut self, field: &str, path: &str) {
        self.name(field, path);
        if path.is_empty() {
            return;
        }
        let leaves = path.split('/').any(|part| matches!(part, "" | "." | ".."));
        if leaves || path.contains(['\\', ':']) {
            let description = format!(
                "`{}` must be a relative path such as \"calib/000.safetensors\": parts \
                 separated by single '/', none of them \".\" or \"..\", no '\\' and no ':'",
                shown(path)
            );
            self.reject(field, "INVALID_PATH", description);
        }
    }

    pub(super) fn digest(&mut self, field: &str, text: &str) -> Option<Digest> {
        self.parse(field, "INVALID_DIGEST", text)
    }

    pub(super) fn parse<T>(&mut self, field: &str, reason: &str, text: &str) -> Option<T>
    where
        T: std::str::FromStr,
        T::Err: Display,
    {
        text.parse()
            .map_err(|error: T::Err| self.reject(field, reason, error.to_string()))
            .ok()
    }

    pub(super) fn lease(&mut self, field: &str, lease: &v1::LeaseRef) -> Option<LeaseRef> {
        let name = self.parse(&format!("{field}.task"), "INVALID_NAME", &lease.task);
        let id = self.parse(
            &format!("{field}.lease_id"),
            "INVALID_LEASE",
            &lease.lease_id,
        );
        if lease.attempt == 0 {
            self.reject(
                format!("{field}.attempt"),
                "REQUIRED",
                "is 0; attempts count from 1",
            );
        }
        Some(LeaseRef {
            name: name?,
            fence: Fence {
                lease: id?,
                attempt: lease.attempt,
            },
        })
    }
}

/// The first `max` bytes, whole characters only.
fn cut(mut text: String, max: usize) -> String {
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max));
        text.push('…');
    }
    text
}

/// A text of the request, as far as a description repeats it.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN).collect()
}

/// Runs checks that give a value; the value exists if nothing was wrong.
pub(super) fn check<T>(
    limits: &Limits,
    checks: impl FnOnce(&mut Checker<'_>) -> Option<T>,
) -> Result<T, ApiError> {
    let mut checker = Checker::new(limits);
    let checked = checks(&mut checker);
    checker.finish()?;
    // Whatever gives no value has said why.
    checked.ok_or_else(|| ApiError::Invalid(Vec::new(), 0))
}

/// The job that a request names.
pub(super) fn job_name(limits: &Limits, name: &str) -> Result<JobId, ApiError> {
    check(limits, |checker| {
        checker.parse("name", "INVALID_NAME", name)
    })
}

/// The blob that a request names.
pub(super) fn digest(limits: &Limits, digest: &str) -> Result<Digest, ApiError> {
    check(limits, |checker| checker.digest("digest", digest))
}

/// Digests by field, such as `digests[3]`.
pub(super) fn digests(limits: &Limits, digests: &[String]) -> Result<Vec<Digest>, ApiError> {
    check(limits, |checker| {
        let max = limits.blob_digests;
        if !checker.count("digests", digests.len(), "blob_digests", max) {
            return None;
        }
        let parsed = digests.iter().enumerate();
        Some(
            parsed
                .filter_map(|(i, text)| checker.digest(&format!("digests[{i}]"), text))
                .collect(),
        )
    })
}

/// The leases that a worker names in `field`.
pub(super) fn leases(
    limits: &Limits,
    worker: &str,
    field: &str,
    leases: &[v1::LeaseRef],
) -> Result<Vec<LeaseRef>, ApiError> {
    check(limits, |checker| {
        checker.name("worker", worker);
        if !checker.count(field, leases.len(), "held_leases", limits.held_leases) {
            return None;
        }
        let leases = leases.iter().enumerate();
        Some(
            leases
                .filter_map(|(i, l)| checker.lease(&format!("{field}[{i}]"), l))
                .collect(),
        )
    })
}

/// The lease of a task whose job's spec is asked for.
pub(super) fn spec_lease(
    limits: &Limits,
    request: &v1::GetJobSpecRequest,
) -> Result<LeaseRef, ApiError> {
    check(limits, |checker| {
        checker.required_lease(request.lease.as_ref())
    })
}

/// The states to list, each once; empty = all.
pub(super) fn states(limits: &Limits, states: &[i32]) -> Result<Vec<State>, ApiError> {
    check(limits, |checker| {
        let mut known = Vec::new();
        for (i, state) in states.iter().enumerate() {
            let state = match v1::JobState::try_from(*state) {
                Ok(v1::JobState::Pending) => State::Pending,
                Ok(v1::JobState::Running) => State::Running,
                Ok(v1::JobState::Succeeded) => State::Succeeded,
                Ok(v1::JobState::Failed) => State::Failed,
                Ok(v1::JobState::Cancelled) => State::Cancelled,
                Ok(v1::JobState::Unspecified) | Err(_) => {
                    let description = format!("{state} is not a state of a job");
                    checker.reject(format!("states[{i}]"), "INVALID_STATE", description);
                    continue;
                }
            };
            if !known.contains(&state) {
                known.push(state);
            }
        }
        Some(known)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_kept_of_what_is_wrong_and_all_of_it_is_counted() {
        let limits = Limits::default();
        let wrong = vec![String::new(); 1000];
        let Err(ApiError::Invalid(violations, more)) = digests(&limits, &wrong) else {
            panic!("empty digests are wrong");
        };
        assert_eq!((violations.len(), more), (MAX_KEPT, 1000 - MAX_KEPT));
        let message = ApiError::Invalid(violations, more).to_string();
        assert!(message.ends_with("and 997 more"), "{message}");
    }

    #[test]
    fn a_list_beyond_its_limit_is_not_looked_into() {
        let limits = Limits {
            held_leases: 10,
            ..Limits::default()
        };
        let wrong = vec![v1::LeaseRef::default(); 11];
        let refused = leases(&limits, "w", "leases", &wrong);
        let Err(ApiError::Exceeded(exceeded, violations, 0)) = refused else {
            panic!("there are too many: {refused:?}");
        };
        let Exceeded { limit, max, found } = exceeded;
        assert_eq!((limit, max, found), ("held_leases", 10, 11));
        let told: Vec<_> = violations.iter().map(|v| v.reason.as_str()).collect();
        assert_eq!(told, ["TOO_MANY"]);
    }

    #[test]
    fn each_state_counts_once() {
        let asked = [v1::JobState::Failed.into(), v1::JobState::Running.into()].repeat(1000);
        let known = states(&Limits::default(), &asked).unwrap();
        assert_eq!(known, [State::Failed, State::Running]);
    }
}
