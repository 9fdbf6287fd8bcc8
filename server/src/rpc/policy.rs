//! The perimeter on one page: a row for every method says who may call it, what it leaves in the audit
//! log, how its request is read, and what it waits for. Nothing else here decides by a method's name.
//!
//! Deny by default: a path without a row is refused. [`Policies::new`] holds the rows against the
//! descriptors that are served, so that a server with a method that was forgotten does not start.

use std::{collections::HashMap, sync::Arc};

use dual16_telemetry::metrics::OTHER;
use prost::Message as _;

use crate::{
    access::{Role, Roles},
    limits::Limits,
};

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callers {
    /// Anyone, without a word about who they are.
    Anyone,
    /// Whoever is known.
    Known,
    /// Whoever has one of these roles.
    With(Roles),
}

/// What a call leaves in the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audited {
    /// Nothing: it only reads, or only renews what is held.
    No,
    /// A line: a principal changes something.
    Change,
    /// A line, but in the server's own log only at debug: a worker's daily business.
    Work,
}

/// How a request is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Whole, 4 KiB at most: anyone may send it.
    Check,
    /// Whole, 64 KiB at most: it names a job, a blob or a wait.
    Small,
    /// Whole, with as many leases as a request may name.
    Leases,
    /// Whole, up to `message_bytes`: it carries a list or a spec.
    Large,
    /// As it comes: its handler looks after it.
    Stream,
}

/// What a call waits for before its handler runs. All but the first two are counted in `open_calls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// For nothing: health checks have permits that no other call can take (`vital_calls`).
    Checks,
    /// For nothing: nor can any call take those of workers' signs of life (as many).
    Heartbeats,
    /// For nothing: the call itself waits for others, and holds next to nothing meanwhile.
    Idle,
    /// For nothing: it moves a blob (`transfers`).
    Transfers,
    /// For one of the permits to be worked on (`working_calls`), and for room to decode the request in
    /// (`decoded_bytes`).
    Work,
}

/// The row of one method.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Path of the method, such as `/dual16.v1.JobService/GetJob`.
    pub path: &'static str,
    /// Who may call it.
    pub callers: Callers,
    /// What a call leaves behind.
    pub audited: Audited,
    /// How its request is read.
    pub request: Request,
    /// What it waits for.
    pub queue: Queue,
}

const SUBMITTERS: Callers = Callers::With(Roles::of(&[Role::Submit, Role::Admin]));
const WORKERS: Callers = Callers::With(Roles::of(&[Role::Worker]));
/// Blobs pass between all three. A digest is the key to its blob: see docs/security.md.
const MOVERS: Callers = Callers::With(Roles::of(&[Role::Submit, Role::Worker, Role::Admin]));
/// What scales workers needs no other right.
const SCALERS: Callers = Callers::With(Roles::of(&[Role::Scaler]));
/// Probes carry no credentials; the answer says that the server is up, which a connection does too.
const ANYONE: Callers = Callers::Anyone;
const KNOWN: Callers = Callers::Known;

const fn row(
    path: &'static str,
    callers: Callers,
    audited: Audited,
    request: Request,
    queue: Queue,
) -> Policy {
    Policy {
        path,
        callers,
        audited,
        request,
        queue,
    }
}

#[rustfmt::skip]
const ROWS: &[Policy] = &[
    //   method                                    callers     audited          request          queue
    row("/dual16.v1.JobService/CreateJob",         SUBMITTERS, Audited::Change, Request::Large,  Queue::Work),
    row("/dual16.v1.JobService/GetJob",            SUBMITTERS, Audited::No,     Request::Small,  Queue::Work),
    row("/dual16.v1.JobService/ListJobs",          SUBMITTERS, Audited::No,     Request::Small,  Queue::Work),
    row("/dual16.v1.JobService/CancelJob",         SUBMITTERS, Audited::Change, Request::Small,  Queue::Work),
    row("/dual16.v1.JobService/RetryJob",          SUBMITTERS, Audited::Change, Request::Small,  Queue::Work),
    row("/dual16.v1.JobService/DeleteJob",         SUBMITTERS, Audited::Change, Request::Small,  Queue::Work),
    row("/dual16.v1.JobService/WatchJob",          SUBMITTERS, Audited::No,     Request::Small,  Queue::Idle),
    row("/dual16.v1.BlobService/FindMissing",      MOVERS,     Audited::No,     Request::Large,  Queue::Work),
    row("/dual16.v1.BlobService/Upload",           MOVERS,     Audited::Change, Request::Stream, Queue::Transfers),
    row("/dual16.v1.BlobService/QueryUpload",      MOVERS,     Audited::No,     Request::Small,  Queue::Work),
    row("/dual16.v1.BlobService/Download",         MOVERS,     Audited::No,     Request::Small,  Queue::Transfers),
    row("/dual16.v1.WorkerService/Lease",          WORKERS,    Audited::No,     Request::Small,  Queue::Idle),
    row("/dual16.v1.WorkerService/GetJobSpec",     WORKERS,    Audited::No,     Request::Small,  Queue::Work),
    row("/dual16.v1.WorkerService/Heartbeat",      WORKERS,    Audited::No,     Request::Leases, Queue::Heartbeats),
    row("/dual16.v1.WorkerService/Complete",       WORKERS,    Audited::Work,   Request::Large,  Queue::Work),
    row("/dual16.v1.WorkerService/Fail",           WORKERS,    Audited::Work,   Request::Large,  Queue::Work),
    row("/dual16.v1.WorkerService/Release",        WORKERS,    Audited::Work,   Request::Leases, Queue::Work),
    row("/dual16.v1.InfoService/GetInfo",          KNOWN,      Audited::No,     Request::Small,  Queue::Work),
    row("/externalscaler.ExternalScaler/IsActive", SCALERS,    Audited::No,     Request::Small,  Queue::Work),
    row("/externalscaler.ExternalScaler/StreamIsActive",
                                                   SCALERS,    Audited::No,     Request::Small,  Queue::Idle),
    row("/externalscaler.ExternalScaler/GetMetricSpec",
                                                   SCALERS,    Audited::No,     Request::Small,  Queue::Work),
    row("/externalscaler.ExternalScaler/GetMetrics",
                                                   SCALERS,    Audited::No,     Request::Small,  Queue::Work),
    row("/grpc.health.v1.Health/Check",            ANYONE,     Audited::No,     Request::Check,  Queue::Checks),
    row("/grpc.health.v1.Health/Watch",            KNOWN,      Audited::No,     Request::Check,  Queue::Idle),
    row("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                                                   KNOWN,      Audited::No,     Request::Stream, Queue::Idle),
    row("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                                                   KNOWN,      Audited::No,     Request::Stream, Queue::Idle),
];

/// Bytes of a health check, which anyone may send.
pub(crate) const CHECK_BYTES: u64 = 4 << 10;
const SMALL_BYTES: u64 = 64 << 10;
/// Bytes of one lease in a request; a real one has some 120.
const LEASE_BYTES: u64 = 256;

impl Policy {
    /// The method as people write it: `JobService/GetJob`.
    pub fn rpc(&self) -> &'static str {
        let name = self.path.rsplit_once('.');
        name.map_or(self.path, |(_package, name)| name)
    }

    /// Bytes that a request has at most; `None` = it is read as it comes.
    pub(crate) fn request_bytes(&self, limits: &Limits) -> Option<u64> {
        let bytes = match self.request {
            Request::Check => CHECK_BYTES,
            Request::Small => SMALL_BYTES,
            Request::Leases => {
                SMALL_BYTES.saturating_add(limits.held_leases.saturating_mul(LEASE_BYTES))
            }
            Request::Large => limits.message_bytes,
            Request::Stream => return None,
        };
        Some(bytes.min(limits.message_bytes))
    }
}

/// The descriptors of everything that is served.
const DESCRIPTORS: [&[u8]; 4] = [
    dual16_proto::FILE_DESCRIPTOR_SET,
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
];

/// A method without a row, or a row without a method.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path} must have exactly one row in the table of policies, and be served")]
pub struct Mismatch {
    path: String,
}

/// The policy of every method that is served. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Policies(Arc<HashMap<&'static str, &'static Policy>>);

impl Policies {
    /// The table, held against the descriptors.
    ///
    /// # Errors
    /// [`Mismatch`] for the first method without a row, and the first row without a method.
    pub fn new() -> Result<Self, Mismatch> {
        Self::of(ROWS, &methods())
    }

    fn of(rows: &'static [Policy], methods: &[String]) -> Result<Self, Mismatch> {
        let table: HashMap<_, _> = rows.iter().map(|policy| (policy.path, policy)).collect();
        let known = |path: &str| methods.iter().filter(|method| *method == path).count() == 1;
        let bare = methods
            .iter()
            .find(|path| !table.contains_key(path.as_str()));
        let unserved = rows.iter().map(|row| row.path).find(|path| !known(path));
        match bare.map(String::as_str).or(unserved) {
            Some(path) => Err(Mismatch { path: path.into() }),
            None => Ok(Self(Arc::new(table))),
        }
    }

    /// The row of a path, if it has one.
    pub fn find(&self, path: &str) -> Option<&'static Policy> {
        self.0.get(path).copied()
    }
}

/// What metrics and traces call a method; a stranger's path has no name of its own.
pub(crate) fn label(policy: Option<&'static Policy>) -> &'static str {
    policy.map_or(OTHER, Policy::rpc)
}

/// The path of every method that is served. What is no descriptor has none, and its rows are missed.
fn methods() -> Vec<String> {
    let sets = DESCRIPTORS
        .iter()
        .filter_map(|set| prost_types::FileDescriptorSet::decode(*set).ok());
    let mut paths = Vec::new();
    for file in sets.flat_map(|set| set.file) {
        for service in &file.service {
            let service_name = format!("/{}.{}", file.package(), service.name());
            let methods = service.method.iter();
            paths.extend(methods.map(|method| format!("{service_name}/{}", method.name())));
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_one_row_and_a_table_that_misses_one_is_not_built() {
        let policies = Policies::new().unwrap();
        let get = policies.find("/dual16.v1.JobService/GetJob").unwrap();
        assert_eq!(get.rpc(), "JobService/GetJob");
        for unknown in ["", "/", "/dual16.v1.JobService/getJob", "/x/GetJob"] {
            assert!(policies.find(unknown).is_none(), "{unknown:?}");
        }
        for (index, row) in ROWS.iter().enumerate() {
            let rows: &'static [Policy] = [&ROWS[..index], &ROWS[index + 1..]].concat().leak();
            assert_eq!(Policies::of(rows, &methods()).unwrap_err().path, row.path);
        }
        let rows: &'static [Policy] = [
            ROWS,
            &[Policy {
                path: "/x/Y",
                ..*get
            }],
        ]
        .concat()
        .leak();
        assert_eq!(Policies::of(rows, &methods()).unwrap_err().path, "/x/Y");
        assert_eq!(label(None), OTHER);
    }

    #[test]
    fn only_streams_are_read_as_they_come_and_what_anyone_may_send_is_tiny() {
        let limits = Limits::default();
        for row in ROWS {
            let bytes = row.request_bytes(&limits);
            assert_eq!(bytes.is_none(), row.request == Request::Stream, "{row:?}");
            if row.callers == Callers::Anyone {
                assert_eq!((bytes, row.queue), (Some(CHECK_BYTES), Queue::Checks));
            }
            // What is worked on is bounded in bytes as well, and that needs a whole request.
            assert!(row.queue != Queue::Work || bytes.is_some(), "{row:?}");
        }
    }
}
