//! What people and programs see: stdout carries results, stderr progress.
//!
//! Knows the messages of the API and nothing of how they came here.

mod doctor;
mod grid;
mod json;
mod layer_line;
mod mended;
mod metrics;
mod notices;
mod operators;
mod plan;
mod progress;
mod report;
mod sensitivity;
mod table;
mod terminal;
mod visible;
mod wrap;

pub use doctor::{doctor_json, doctor_table};
pub use dual16_proto::json::{event_json, job_json};
pub use json::{error_json, info_json, submitted_json};
pub use plan::Plan;
pub use progress::{Progress, Transfer};
pub use report::Report;
pub use table::{info_table, job_table, jobs_table};
pub use terminal::{Paint, Terminal};
pub(crate) use wrap::wrapped;

/// "1 batch", "3 batches".
pub(crate) fn counted(count: usize, one: &str, many: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        count => format!("{count} {many}"),
    }
}

/// The rows of a table that are shown, and the line about the others. `top` 0 = all of them.
fn cut<T>(rows: &[T], top: usize) -> (&[T], Option<String>) {
    let left = rows.len().saturating_sub(top);
    if top == 0 || left == 0 {
        return (rows, None);
    }
    let remark = format!("and {left} more; --top 0 for all");
    (&rows[..top], Some(remark))
}
