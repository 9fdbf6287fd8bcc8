//! The one mapping from the server's errors to gRPC: a status code, and always an ErrorInfo.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::{
    access::Denied,
    blob::BlobError,
    digest::Digest,
    job::{JobId, Refusal},
    store::StoreError,
};

/// Domain of every ErrorInfo.
const DOMAIN: &str = "dual16";
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Reason of what is more than a limit allows, however long one waits.
const LIMIT_EXCEEDED: &str = "LIMIT_EXCEEDED";
/// Violations described at once: the details travel in a header, and headers are small.
const MAX_DESCRIBED: usize = 16;

/// A limit, and what went beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exceeded {
    /// Its name in Info.
    pub(crate) limit: &'static str,
    /// What it allows.
    pub(crate) max: u64,
    /// What the request has.
    pub(crate) found: u64,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The request is malformed; at least one violation, and how many more there were.
    #[error("{}", described(.0, *.1))]
    Invalid(Vec<FieldViolation>, usize),
    /// The request is well-formed and more than the server takes; at least one violation, and
    /// how many more there were.
    #[error("{}", described(.1, *.2))]
    Exceeded(Exceeded, Vec<FieldViolation>, usize),
    /// Blobs that the request names, by field, are not stored.
    #[error("{} of the named blobs must be uploaded first", .0.len())]
    MissingBlobs(Vec<(String, Digest)>),
    /// A watch begins beyond the end.
    #[error("after_sequence is {after}, but the newest event of {job} is {last}")]
    AfterSequence {
        /// The job.
        job: JobId,
        /// What was asked for.
        after: u64,
        /// What there is.
        last: u64,
    },
    /// Too many event streams.
    #[error("{0} event streams are open, the most this server serves")]
    TooManyWatchers(u64),
    /// Too many calls at once.
    #[error("{0} calls are open, the most this server has at a time: try again later")]
    TooManyCalls(u64),
    /// Too many blobs on their way at once.
    #[error(
        "{0} uploads and downloads are under way, the most this server has at a time: try again later"
    )]
    TooManyTransfers(u64),
    /// A request is larger than any of its kind has to be.
    #[error("the request has more than {0} bytes, the most that one of its kind may have")]
    RequestTooLarge(u64),
    /// More calls than can be worked on.
    #[error("the server has more calls than it can work on: try again later")]
    Overloaded,
    /// A call took too long.
    #[error("the call did not end within {0} s")]
    CallTooSlow(u64),
    /// An upload fell silent, or came too slowly.
    #[error("too little data came within {0} s; query the upload and go on from there")]
    UploadIdle(u64),
    /// The caller may not.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The server is going away.
    #[error("the server is shutting down: connect again")]
    ShuttingDown,
    /// From the store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// From the blobs.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

fn described(violations: &[FieldViolation], rest: usize) -> String {
    let mut message = violations
        .iter()
        .take(3)
        .map(|violation| format!("{}: {}", violation.field, violation.description))
        .collect::<Vec<_>>()
        .join("; ");
    let more = violations.len().saturating_sub(3) + rest;
    if more > 0 {
        message.push_str(&format!("; and {more} more"));
    }
    message
}

impl ApiError {
    /// Status code and stable reason, the two things a program may act on.
    fn kind(&self) -> (Code, String) {
        let (code, reason) = match self {
            Self::Invalid(violations, _) => {
                let reason = violations.first().map(|violation| violation.reason.clone());
                return (Code::InvalidArgument, reason.unwrap_or_default());
            }
            Self::Exceeded(..) => (Code::ResourceExhausted, LIMIT_EXCEEDED),
            Self::MissingBlobs(_) => (Code::FailedPrecondition, "BLOBS_MISSING"),
            Self::AfterSequence { .. } => (Code::OutOfRange, "SEQUENCE_OUT_OF_RANGE"),
            Self::TooManyWatchers(_) => (Code::ResourceExhausted, "TOO_MANY_WATCHERS"),
            Self::TooManyCalls(_) => (Code::ResourceExhausted, "TOO_MANY_CALLS"),
            Self::TooManyTransfers(_) => (Code::ResourceExhausted, "TOO_MANY_TRANSFERS"),
            Self::RequestTooLarge(_) => (Code::ResourceExhausted, "LIMIT_EXCEEDED"),
            Self::Overloaded => (Code::Unavailable, "OVERLOADED"),
            Self::CallTooSlow(_) => (Code::DeadlineExceeded, "CALL_TOO_SLOW"),
            Self::UploadIdle(_) => (Code::Aborted, "UPLOAD_IDLE"),
            Self::Denied(denied) if denied.unauthenticated() => {
                (Code::Unauthenticated, denied.reason())
            }
            Self::Denied(Denied::NoMethod) => (Code::Unimplemented, Denied::NoMethod.reason()),
            Self::Denied(denied) => (Code::PermissionDenied, denied.reason()),
            Self::ShuttingDown => (Code::Unavailable, "SHUTTING_DOWN"),
            Self::Store(error) => store_kind(error),
            Self::Blob(error) => blob_kind(error),
        };
        (code, reason.to_owned())
    }

    /// The limit that a call ran into, and its figures, for programs.
    fn limit(&self) -> HashMap<String, String> {
        let (limit, max, found) = match self {
            Self::Exceeded(exceeded, ..) => {
                let Exceeded { limit, max, found } = *exceeded;
                (limit, max, Some(found))
            }
            Self::TooManyWatchers(max) => ("watchers", *max, None),
            Self::TooManyCalls(max) => ("open_calls", *max, None),
            Self::TooManyTransfers(max) => ("transfers", *max, None),
            Self::Blob(BlobError::NoRoom { max, .. }) => ("stored_bytes", *max, None),
            Self::Store(StoreError::QueueFull { max }) => ("queued_jobs", *max, None),
            Self::Store(StoreError::QuotaExceeded { limit, max, .. }) => (*limit, *max, None),
            Self::Store(StoreError::Refused(Refusal::TooManyStages { max, .. })) => {
                ("stages", u64::from(*max), None)
            }
            _ => return HashMap::new(),
        };
        let figures = [("max", Some(max)), ("found", found)];
        let figures = figures
            .into_iter()
            .filter_map(|(key, figure)| Some((key.to_owned(), figure?.to_string())));
        figures
            .chain([("limit".to_owned(), limit.to_owned())])
            .collect()
    }

    /// Whether waiting can mend it. What is too much once is so for ever, and whoever was told to
    /// come back would do so without end.
    fn retryable(&self) -> bool {
        match self {
            Self::TooManyWatchers(_)
            | Self::TooManyCalls(_)
            | Self::TooManyTransfers(_)
            | Self::Overloaded
            | Self::CallTooSlow(_)
            | Self::UploadIdle(_)
            | Self::ShuttingDown => true,
            Self::Store(error) => error.retryable(),
            Self::Blob(error) => error.retryable(),
            Self::Invalid(..)
            | Self::RequestTooLarge(_)
            | Self::Exceeded(..)
            | Self::MissingBlobs(_)
            | Self::AfterSequence { .. }
            | Self::Denied(_) => false,
        }
    }

    /// What a stranger may read: no paths and no inner workings of the machine.
    fn public_message(&self) -> String {
        match self {
            Self::Store(StoreError::Failed(_) | StoreError::Corrupt(_)) => {
                "the job store failed; the server's log says why".into()
            }
            Self::Blob(BlobError::Io(_)) => {
                "the blob storage failed; the server's log says why".into()
            }
            error => error.to_string(),
        }
    }
}

fn store_kind(error: &StoreError) -> (Code, &'static str) {
    match error {
        StoreError::NotFound(_) => (Code::NotFound, "JOB_NOT_FOUND"),
        StoreError::RequestIdReused(_) => (Code::AlreadyExists, "REQUEST_ID_REUSED"),
        StoreError::QueueFull { .. } => (Code::ResourceExhausted, "QUEUE_FULL"),
        StoreError::QuotaExceeded { .. } => (Code::ResourceExhausted, "QUOTA_EXCEEDED"),
        StoreError::NotEnded(_) => (Code::FailedPrecondition, "JOB_NOT_ENDED"),
        StoreError::Refused(refusal) => match refusal {
            Refusal::LeaseLost(_) => (Code::FailedPrecondition, "LEASE_LOST"),
            Refusal::NotClaimable(_) => (Code::Internal, "NOT_CLAIMABLE"),
            Refusal::NextMissing(_) => (Code::InvalidArgument, "NEXT_MISSING"),
            Refusal::NextUnexpected(_) => (Code::InvalidArgument, "NEXT_UNEXPECTED"),
            Refusal::TooManyStages { .. } => (Code::ResourceExhausted, LIMIT_EXCEEDED),
            Refusal::NotRetryable { .. } => (Code::FailedPrecondition, "JOB_NOT_RETRYABLE"),
        },
        StoreError::RecordTooLarge { .. } => (Code::ResourceExhausted, "RECORD_TOO_LARGE"),
        StoreError::Corrupt(_) => (Code::DataLoss, "STORE_CORRUPT"),
        StoreError::Format { .. } => (Code::Internal, "STORE_FORMAT"),
        StoreError::Failed(_) => (Code::Unavailable, "STORE_FAILED"),
        StoreError::Unavailable(_) | StoreError::Contended(_) => {
            (Code::Unavailable, "STORE_UNAVAILABLE")
        }
        StoreError::Closed => (Code::Unavailable, "SHUTTING_DOWN"),
    }
}

fn blob_kind(error: &BlobError) -> (Code, &'static str) {
    match error {
        BlobError::NotFound(_) => (Code::NotFound, "BLOB_NOT_FOUND"),
        BlobError::OffsetOutOfRange { .. } => (Code::OutOfRange, "OFFSET_OUT_OF_RANGE"),
        BlobError::Busy(_) => (Code::Aborted, "UPLOAD_IDLE"),
        BlobError::TooLong { .. } => (Code::InvalidArgument, "UPLOAD_TOO_LONG"),
        BlobError::Incomplete { .. } => (Code::Aborted, "UPLOAD_INCOMPLETE"),
        BlobError::DigestMismatch { .. } => (Code::DataLoss, "DIGEST_MISMATCH"),
        BlobError::Damaged(_) => (Code::DataLoss, "BLOB_DAMAGED"),
        BlobError::StorageFull => (Code::ResourceExhausted, "STORAGE_FULL"),
        BlobError::NoRoom { .. } => (Code::ResourceExhausted, "QUOTA_EXCEEDED"),
        BlobError::Io(_) => (Code::Unavailable, "BLOB_STORAGE_FAILED"),
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let (code, reason) = error.kind();
        if matches!(code, Code::Internal | Code::DataLoss)
            || matches!(
                error,
                ApiError::Store(StoreError::Failed(_)) | ApiError::Blob(BlobError::Io(_))
            )
        {
            tracing::error!(%reason, %error, "a call failed");
        }
        let mut details = ErrorDetails::new();
        details.set_error_info(reason, DOMAIN, error.limit());
        if error.retryable() {
            details.set_retry_info(Some(RETRY_DELAY));
        }
        let message = error.public_message();
        match error {
            ApiError::Invalid(mut violations, _) | ApiError::Exceeded(_, mut violations, _) => {
                violations.truncate(MAX_DESCRIBED);
                details.set_bad_request(violations);
            }
            ApiError::Store(StoreError::QuotaExceeded { owner, .. }) => {
                details.add_quota_failure_violation(owner.to_string(), message.clone());
            }
            ApiError::Blob(BlobError::NoRoom { .. }) => {
                details.add_quota_failure_violation("blobs", message.clone());
            }
            ApiError::MissingBlobs(missing) => {
                for (field, digest) in missing.into_iter().take(MAX_DESCRIBED) {
                    let description = format!("{field} is not stored: upload it, then call again");
                    details.add_precondition_failure_violation(
                        "BLOB_MISSING",
                        digest.to_string(),
                        description,
                    );
                }
            }
            _ => {}
        }
        Self::with_error_details(code, message, details)
    }
}
