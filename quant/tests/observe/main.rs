//! Observers and metrics against golden vectors, definitions and naive formulas.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a test fails by panicking and shows what it measured"
)]

mod golden;
mod histogram;
mod metrics_extra;
mod metrics_sums;
mod mse;
mod sketch;
mod statistics;
