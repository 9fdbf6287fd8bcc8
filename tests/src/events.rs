//! A job's events as `--output jsonl` prints them, one JSON object a line.

use serde_json::Value;

use crate::schema;

/// The event on a line.
///
/// # Panics
/// Where the line is no JSON, or breaks its schema.
pub fn parse(line: &str) -> Value {
    schema::check_printed(line);
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?} is no event: {error}"))
}

/// Every event of a command's whole stdout.
pub fn parse_all(stdout: &str) -> Vec<Value> {
    stdout.lines().map(parse).collect()
}

/// Whether the event on a line is the end of a task of `stage`.
pub fn is_task_done(line: &str, stage: &str) -> bool {
    parse(line)["task_done"]["stage"] == stage
}
