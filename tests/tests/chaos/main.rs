//! Everything that can be killed, stopped or cut is, again and again, while clients submit: no job
//! that was acknowledged is lost, no event is lost or told twice, and the results are those of a
//! run that nothing disturbed. Real processes, loopback only; docs/testing.md has the promises and
//! how to run longer.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes the helpers of tests for no tests"
)]

mod connections;
mod crashing_task;
mod databases;
mod flipped_bits;
mod hostile_jobs;
mod power_cuts;
mod replicas;
mod server_kills;
mod soak;
mod support;
mod uploads;
mod watchers;
mod worker_faults;
