//! Whole jobs in this process, task by task, as workers would run them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a test fails by panicking and shows what it measured"
)]

mod article;
mod golden;
mod rules;
mod support;
