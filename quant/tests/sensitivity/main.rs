//! What fake quants cost at the outputs: derivatives against finite differences, errors against runs
//! of the whole model, the estimate against the errors.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a test fails by panicking and shows what it measured"
)]

mod exact;
mod gradients;
mod islands;
mod planned;
mod rows;
#[path = "../frontend/shared/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod shared;
mod tables;
