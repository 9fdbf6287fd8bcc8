//! What people and programs see: stdout carries results, stderr progress.
//!
//! Knows the messages of the API and nothing of how they came here.

mod doctor;
mod json;
mod metrics;
mod notices;
mod plan;
mod progress;
mod report;
mod table;
mod terminal;
mod visible;

pub use doctor::{doctor_json, doctor_table};
pub use json::{event_json, info_json, job_json};
pub use plan::Plan;
pub use progress::{Progress, Transfer};
pub use report::Report;
pub use table::{info_table, job_table, jobs_table};
pub use terminal::{Paint, Terminal};
