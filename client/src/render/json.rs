//! What a program is told of a command itself; the API's messages are [`dual16_proto::json`]'s.

use dual16_proto::v1::{GetInfoResponse, Job};
use serde_json::{Map, Value, json};

use crate::error::Error;

/// An error that ended a command: its code, which is stable, its message, and the exit code.
pub fn error_json(error: &Error) -> Value {
    let mut told = json!({
        "code": error.code(),
        "message": error.to_string(),
        "exit_code": error.exit_code(),
    });
    if let Some(job) = error.job() {
        told["job"] = json!(job);
    }
    json!({"error": told})
}

/// The first line of what is told of a job on a server: where it can be found again.
pub fn submitted_json(job: &Job, url: &str) -> Value {
    json!({"submitted": {"job": job.name, "server": url}})
}

/// The server's answer to GetInfo.
pub fn info_json(url: &str, info: &GetInfoResponse) -> Value {
    json!({
        "server": url,
        "version": info.version,
        "queued_tasks": info.queued_tasks,
        "leased_tasks": info.leased_tasks,
        "quarantined_workers": info.quarantined_workers,
        "stored_bytes": info.stored_bytes,
        "limits": info.limits.iter().map(|(name, limit)| (name.clone(), json!(limit))).collect::<Map<_, _>>(),
    })
}
