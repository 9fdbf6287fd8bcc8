//! Every limit of the server, once: its default, its flag, its variable, and its name in Info.

use std::{collections::HashMap, ops::RangeInclusive};

use crate::store::MAX_RECORD_BYTES;

/// What a record or a message needs beside the bytes that a limit allows in it.
const ENVELOPE_BYTES: u64 = 1024;

/// Longer than that nothing is waited for; far longer, and no clock can tell when it is over.
const DAY_SECONDS: u64 = 86_400;

/// Declares [`Limits`] so that no limit can miss its flag or its line in Info.
macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $name:ident: $default:literal, $flag:literal, $env:literal;)+) => {
        /// What the server accepts. Beyond a limit a request is refused, with the limit's name.
        #[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
        pub struct Limits {
            $(
                $(#[doc = $doc])+
                #[arg(long = $flag, env = $env, default_value_t = $default, value_name = "N")]
                #[arg(help_heading = "Limits")]
                pub $name: u64,
            )+
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        impl Limits {
            /// Every limit by its name.
            pub fn report(&self) -> HashMap<String, u64> {
                HashMap::from([$((stringify!($name).to_owned(), self.$name),)+])
            }
        }
    };
}

limits! {
    /// Jobs that may be pending or running
    queued_jobs: 10_000, "limit-queued-jobs", "DUAL16_LIMIT_QUEUED_JOBS";
    /// Jobs of one principal that may be pending or running
    owner_jobs: 10_000, "limit-owner-jobs", "DUAL16_LIMIT_OWNER_JOBS";
    /// Bytes of the blobs that the jobs of one principal keep
    owner_bytes: 17_592_186_044_416, "limit-owner-bytes", "DUAL16_LIMIT_OWNER_BYTES";
    /// Bytes of all blobs; 0 = nine tenths of their volume, without limit in an object store
    stored_bytes: 0, "limit-stored-bytes", "DUAL16_LIMIT_STORED_BYTES";
    /// Bytes of one job spec as encoded
    spec_bytes: 1_048_576, "limit-spec-bytes", "DUAL16_LIMIT_SPEC_BYTES";
    /// Files in one list of a job spec
    spec_files: 10_000, "limit-spec-files", "DUAL16_LIMIT_SPEC_FILES";
    /// Settings by name in a job spec
    spec_settings: 10_000, "limit-spec-settings", "DUAL16_LIMIT_SPEC_SETTINGS";
    /// Bytes of a file, stage, worker, request or display name
    name_bytes: 256, "limit-name-bytes", "DUAL16_LIMIT_NAME_BYTES";
    /// Bytes of an error message; longer ones are cut
    error_bytes: 2_048, "limit-error-bytes", "DUAL16_LIMIT_ERROR_BYTES";
    /// Failed attempts of one task that end its job
    attempts: 3, "limit-attempts", "DUAL16_LIMIT_ATTEMPTS";
    /// Seconds that a task may compute at the least; more where its job's estimate is longer
    task_seconds: 600, "limit-task-seconds", "DUAL16_LIMIT_TASK_SECONDS";
    /// Estimates of its time that a task may compute for
    task_estimates: 4, "limit-task-estimates", "DUAL16_LIMIT_TASK_ESTIMATES";
    /// Stages of one job
    stages: 64, "limit-stages", "DUAL16_LIMIT_STAGES";
    /// Map tasks of one stage
    stage_maps: 10_000, "limit-stage-maps", "DUAL16_LIMIT_STAGE_MAPS";
    /// Artifacts of one job
    artifacts: 96, "limit-artifacts", "DUAL16_LIMIT_ARTIFACTS";
    /// Bytes of an inline payload; larger ones are uploaded as blobs
    inline_bytes: 16_384, "limit-inline-bytes", "DUAL16_LIMIT_INLINE_BYTES";
    /// Bytes of payloads and specs in one lease response; what does not fit becomes blobs
    lease_bytes: 3_145_728, "limit-lease-bytes", "DUAL16_LIMIT_LEASE_BYTES";
    /// Tasks in one lease response
    lease_tasks: 64, "limit-lease-tasks", "DUAL16_LIMIT_LEASE_TASKS";
    /// Leases that one request of a worker may name
    held_leases: 1_024, "limit-held-leases", "DUAL16_LIMIT_HELD_LEASES";
    /// Seconds that a lease request may wait
    lease_wait_seconds: 60, "limit-lease-wait-seconds", "DUAL16_LIMIT_LEASE_WAIT_SECONDS";
    /// Events that one result may carry
    result_events: 10_000, "limit-result-events", "DUAL16_LIMIT_RESULT_EVENTS";
    /// Bytes of one event as encoded
    event_bytes: 16_384, "limit-event-bytes", "DUAL16_LIMIT_EVENT_BYTES";
    /// Bytes of one blob
    blob_bytes: 17_179_869_184, "limit-blob-bytes", "DUAL16_LIMIT_BLOB_BYTES";
    /// Bytes of data in one message of an upload
    chunk_bytes: 1_048_576, "limit-chunk-bytes", "DUAL16_LIMIT_CHUNK_BYTES";
    /// Digests in one request about blobs
    blob_digests: 20_000, "limit-blob-digests", "DUAL16_LIMIT_BLOB_DIGESTS";
    /// Seconds that an upload may stay silent, that another of the same blob waits for it, and that an answer
    /// waits for a reader that takes nothing
    upload_idle_seconds: 30, "limit-upload-idle-seconds", "DUAL16_LIMIT_UPLOAD_IDLE_SECONDS";
    /// Uploads and downloads under way at a time
    transfers: 256, "limit-transfers", "DUAL16_LIMIT_TRANSFERS";
    /// Event streams open at a time
    watchers: 4_096, "limit-watchers", "DUAL16_LIMIT_WATCHERS";
    /// Connections open at a time; more wait in the system's queue
    connections: 4_096, "limit-connections", "DUAL16_LIMIT_CONNECTIONS";
    /// Seconds from a connection to the first words of HTTP/2, the TLS handshake included
    handshake_seconds: 10, "limit-handshake-seconds", "DUAL16_LIMIT_HANDSHAKE_SECONDS";
    /// Calls and streams open at a time, over all connections
    open_calls: 16_384, "limit-open-calls", "DUAL16_LIMIT_OPEN_CALLS";
    /// Calls and streams open at a time on one connection; more wait on the caller's side
    connection_streams: 2_048, "limit-connection-streams", "DUAL16_LIMIT_CONNECTION_STREAMS";
    /// Health checks answered at a time, and as many heartbeats
    vital_calls: 1_024, "limit-vital-calls", "DUAL16_LIMIT_VITAL_CALLS";
    /// Calls worked on at a time; event streams, transfers, leases and heartbeats aside
    working_calls: 256, "limit-working-calls", "DUAL16_LIMIT_WORKING_CALLS";
    /// Calls that may wait to be worked on; more are refused until later
    queued_calls: 4_096, "limit-queued-calls", "DUAL16_LIMIT_QUEUED_CALLS";
    /// Seconds that a call may wait to be worked on
    queued_call_seconds: 10, "limit-queued-call-seconds", "DUAL16_LIMIT_QUEUED_CALL_SECONDS";
    /// Bytes of requests that are decoded and worked on at a time; more wait
    decoded_bytes: 33_554_432, "limit-decoded-bytes", "DUAL16_LIMIT_DECODED_BYTES";
    /// Seconds that a request may take to arrive, and that a call may be worked on with it
    call_seconds: 60, "limit-call-seconds", "DUAL16_LIMIT_CALL_SECONDS";
    /// Bytes of the headers of one call
    header_bytes: 16_384, "limit-header-bytes", "DUAL16_LIMIT_HEADER_BYTES";
    /// Bytes of one message
    message_bytes: 4_194_304, "limit-message-bytes", "DUAL16_LIMIT_MESSAGE_BYTES";
    /// Nodes of a model, those of its subgraphs and functions included
    model_nodes: 100_000, "limit-model-nodes", "DUAL16_LIMIT_MODEL_NODES";
    /// Tensors in one file: of a model, of weights, of a batch
    file_tensors: 100_000, "limit-file-tensors", "DUAL16_LIMIT_FILE_TENSORS";
    /// Bytes of the name of a tensor, value, node, operator or module
    tensor_name_bytes: 1_024, "limit-tensor-name-bytes", "DUAL16_LIMIT_TENSOR_NAME_BYTES";
    /// Subgraphs of a model within one another; no model is read beyond 31
    graph_nesting: 16, "limit-graph-nesting", "DUAL16_LIMIT_GRAPH_NESTING";
    /// Bytes of all tensors of a batch file, unpacked
    unpacked_bytes: 17_179_869_184, "limit-unpacked-bytes", "DUAL16_LIMIT_UNPACKED_BYTES";
}

/// A limit that the server could not keep, or could not work under.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{flag} {found} is not {} to {}: {why}", .range.start(), .range.end())]
pub struct LimitError {
    flag: &'static str,
    found: u64,
    range: RangeInclusive<u64>,
    why: &'static str,
}

impl Limits {
    /// Whether what the limits allow fits where it has to go, and leaves the server able to answer.
    ///
    /// # Errors
    /// [`LimitError`] for the first that does not, with the values that would be right.
    pub fn check(&self) -> Result<(), LimitError> {
        let record = MAX_RECORD_BYTES as u64 - ENVELOPE_BYTES;
        let message = self.message_bytes.saturating_sub(ENVELOPE_BYTES);
        let of_records = [
            ("--limit-inline-bytes", self.inline_bytes),
            ("--limit-event-bytes", self.event_bytes),
        ];
        let of_messages = [
            ("--limit-chunk-bytes", self.chunk_bytes),
            ("--limit-spec-bytes", self.spec_bytes),
        ];
        let to_answer = [
            ("--limit-connections", self.connections),
            ("--limit-open-calls", self.open_calls),
            ("--limit-connection-streams", self.connection_streams),
            ("--limit-working-calls", self.working_calls),
            ("--limit-decoded-bytes", self.decoded_bytes),
            ("--limit-handshake-seconds", self.handshake_seconds),
            ("--limit-call-seconds", self.call_seconds),
        ];
        let to_wait = [
            ("--limit-handshake-seconds", self.handshake_seconds),
            ("--limit-call-seconds", self.call_seconds),
            ("--limit-lease-wait-seconds", self.lease_wait_seconds),
            ("--limit-upload-idle-seconds", self.upload_idle_seconds),
            ("--limit-queued-call-seconds", self.queued_call_seconds),
        ];
        let to_compute = [("--limit-task-seconds", self.task_seconds)];
        let fits_record = "more does not fit into a record of the job store";
        let fits_message = "more does not fit into --limit-message-bytes";
        for (limits, range, why) in [
            (&of_records[..], 0..=record, fits_record),
            (&of_messages, 0..=message, fits_message),
            (&to_answer, 1..=u64::MAX, "with none no call is answered"),
            (&to_compute, 1..=u64::MAX, "with none no task ends in time"),
            (&to_wait, 0..=DAY_SECONDS, "nobody waits longer than a day"),
        ] {
            let wrong = limits.iter().find(|(_, found)| !range.contains(found));
            if let Some(&(flag, found)) = wrong {
                return Err(LimitError {
                    flag,
                    found,
                    range,
                    why,
                });
            }
        }
        Ok(())
    }

    /// A limit as a length in memory.
    pub(crate) fn len(limit: u64) -> usize {
        usize::try_from(limit).unwrap_or(usize::MAX)
    }

    /// A limit as a count of a message.
    pub(crate) fn count(limit: u64) -> u32 {
        u32::try_from(limit).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        limits: Limits,
    }

    #[test]
    fn flags_default_to_the_defaults_and_info_reports_them() {
        let limits = Flags::parse_from(["server", "--limit-queued-jobs", "7"]).limits;
        assert_eq!(
            limits,
            Limits {
                queued_jobs: 7,
                ..Limits::default()
            }
        );
        assert_eq!(limits.report().get("queued_jobs"), Some(&7));
        assert_eq!(limits.report().get("chunk_bytes"), Some(&(1 << 20)));
    }

    #[test]
    fn limits_that_cannot_hold_are_named_with_what_would() {
        assert_eq!(Limits::default().check(), Ok(()));
        let cases = [
            (
                ["--limit-call-seconds", "18446744073709551615"],
                "--limit-call-seconds 18446744073709551615 is not 0 to 86400: nobody waits",
            ),
            (["--limit-call-seconds", "0"], "0 is not 1 to"),
            (
                ["--limit-inline-bytes", "23553"],
                "--limit-inline-bytes 23553 is not 0 to 23552: more does not fit into a record",
            ),
            (["--limit-event-bytes", "30000"], "is not 0 to 23552"),
            (
                ["--limit-message-bytes", "1000000"],
                "--limit-chunk-bytes 1048576 is not 0 to 998976: more does not fit into \
                 --limit-message-bytes",
            ),
            (
                ["--limit-connections", "0"],
                "--limit-connections 0 is not 1 to",
            ),
        ];
        for (flags, expected) in cases {
            let limits = Flags::parse_from([&["server"][..], &flags].concat()).limits;
            let error = limits.check().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
