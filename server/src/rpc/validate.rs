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

/// Collects what is wrong with a request.
#[derive(Debug)]
pub(super) struct Checker<'a> {
    limits: &'a Limits,
    violations: Vec<FieldViolation>,
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
        let description = cut(description.into(), MAX_DESCRIPTION);
        let mut violation = FieldViolation::new(field, description);
        violation.reason = reason.to_owned();
        self.violations.push(violation);
    }

    /// The verdict. A request that is both malformed and too large is malformed.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        match self.exceeded {
            _ if self.violations.is_empty() => Ok(()),
            Some(exceeded) if !self.malformed => Err(ApiError::Exceeded(exceeded, self.violations)),
            _ => Err(ApiError::Invalid(self.violations)),
        }
    }

    /// A count within the limit of this name.
    pub(super) fn count(&mut self, field: &str, found: usize, limit: &'static str, max: u64) {
        let found = found as u64;
        let exceeded = Exceeded { limit, max, found };
        self.within(exceeded, field, "TOO_MANY", || {
            format!("has {found} entries, at most {max} may be")
        });
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
fn shown(text: &str) -> String {
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
    checked.ok_or_else(|| ApiError::Invalid(Vec::new()))
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
        checker.count(
            "digests",
            digests.len(),
            "blob_digests",
            limits.blob_digests,
        );
        let parsed = digests.iter().enumerate();
        Some(
            parsed
                .filter_map(|(i, text)| checker.digest(&format!("digests[{i}]"), text))
                .collect(),
        )
    })
}

/// The leases that a worker names.
pub(super) fn leases(
    limits: &Limits,
    worker: &str,
    leases: &[v1::LeaseRef],
) -> Result<Vec<LeaseRef>, ApiError> {
    check(limits, |checker| {
        checker.name("worker", worker);
        let leases = leases.iter().enumerate();
        Some(
            leases
                .filter_map(|(i, l)| checker.lease(&format!("leases[{i}]"), l))
                .collect(),
        )
    })
}

/// The states to list; empty = all.
pub(super) fn states(limits: &Limits, states: &[i32]) -> Result<Vec<State>, ApiError> {
    check(limits, |checker| {
        let mut known = Vec::new();
        for (i, state) in states.iter().enumerate() {
            match v1::JobState::try_from(*state) {
                Ok(v1::JobState::Pending) => known.push(State::Pending),
                Ok(v1::JobState::Running) => known.push(State::Running),
                Ok(v1::JobState::Succeeded) => known.push(State::Succeeded),
                Ok(v1::JobState::Failed) => known.push(State::Failed),
                Ok(v1::JobState::Cancelled) => known.push(State::Cancelled),
                Ok(v1::JobState::Unspecified) | Err(_) => {
                    let description = format!("{state} is not a state of a job");
                    checker.reject(format!("states[{i}]"), "INVALID_STATE", description);
                }
            }
        }
        Some(known)
    })
}
