//! The table of every RPC: who may call it, and whether a call changes something.
//!
//! Deny by default: a path that is not here is refused, so a new RPC cannot be forgotten, only
//! fail its first test.

use super::caller::{Role, Roles};

/// Who may call an RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Anyone, without a word about who they are.
    Nothing,
    /// Any known caller.
    Identity,
    /// A caller with one of these roles.
    Role(Roles),
}

/// What a call leaves in the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// Nothing: it only reads, or only renews what is held.
    No,
    /// A line: a principal changes something.
    Change,
    /// A line, but in the server's own log only at debug: a worker's daily business.
    Work,
}

/// The rule of one RPC.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Path of the RPC, such as `/dual16.v1.JobService/GetJob`.
    pub path: &'static str,
    /// Who may call it.
    pub need: Need,
    /// What a call leaves behind.
    pub trace: Trace,
}

impl Rule {
    /// The RPC as people write it: `JobService/GetJob`.
    pub fn rpc(&self) -> &'static str {
        let path = self.path;
        path.strip_prefix("/dual16.v1.").unwrap_or(path)
    }
}

const SUBMITTERS: Need = Need::Role(Roles::of(&[Role::Submit, Role::Admin]));
const WORKERS: Need = Need::Role(Roles::of(&[Role::Worker]));
/// Blobs pass between all three. A digest is the key to its blob: see docs/security.md.
const ANY_ROLE: Need = Need::Role(Roles::ALL);

const fn rule(path: &'static str, need: Need, trace: Trace) -> Rule {
    Rule { path, need, trace }
}

/// Every RPC that the server serves.
pub const RULES: &[Rule] = &[
    rule("/dual16.v1.JobService/CreateJob", SUBMITTERS, Trace::Change),
    rule("/dual16.v1.JobService/GetJob", SUBMITTERS, Trace::No),
    rule("/dual16.v1.JobService/ListJobs", SUBMITTERS, Trace::No),
    rule("/dual16.v1.JobService/CancelJob", SUBMITTERS, Trace::Change),
    rule("/dual16.v1.JobService/RetryJob", SUBMITTERS, Trace::Change),
    rule("/dual16.v1.JobService/DeleteJob", SUBMITTERS, Trace::Change),
    rule("/dual16.v1.JobService/WatchJob", SUBMITTERS, Trace::No),
    rule("/dual16.v1.BlobService/FindMissing", ANY_ROLE, Trace::No),
    rule("/dual16.v1.BlobService/Upload", ANY_ROLE, Trace::Change),
    rule("/dual16.v1.BlobService/QueryUpload", ANY_ROLE, Trace::No),
    rule("/dual16.v1.BlobService/Download", ANY_ROLE, Trace::No),
    rule("/dual16.v1.WorkerService/Lease", WORKERS, Trace::No),
    rule("/dual16.v1.WorkerService/GetJobSpec", WORKERS, Trace::No),
    rule("/dual16.v1.WorkerService/Heartbeat", WORKERS, Trace::No),
    rule("/dual16.v1.WorkerService/Complete", WORKERS, Trace::Work),
    rule("/dual16.v1.WorkerService/Fail", WORKERS, Trace::Work),
    rule("/dual16.v1.WorkerService/Release", WORKERS, Trace::Work),
    rule("/dual16.v1.InfoService/GetInfo", Need::Identity, Trace::No),
    // Probes carry no credentials; the answer says that the server is up, which a connection does too.
    rule("/grpc.health.v1.Health/Check", Need::Nothing, Trace::No),
    rule("/grpc.health.v1.Health/Watch", Need::Identity, Trace::No),
    rule(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        Need::Identity,
        Trace::No,
    ),
    rule(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        Need::Identity,
        Trace::No,
    ),
];

/// The rule of a path, if there is one.
pub fn find(path: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_one_rule_and_what_is_not_there_has_none() {
        for rule in RULES {
            assert_eq!(RULES.iter().filter(|r| r.path == rule.path).count(), 1);
        }
        assert_eq!(
            find("/dual16.v1.JobService/GetJob").map(Rule::rpc),
            Some("JobService/GetJob")
        );
        for unknown in [
            "",
            "/",
            "/dual16.v1.JobService/getJob",
            "/dual16.v1.JobService/GetJob/",
        ] {
            assert!(find(unknown).is_none(), "{unknown:?}");
        }
    }
}
