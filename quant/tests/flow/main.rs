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
mod cost;
mod empty;
mod fits;
mod golden;
mod handoff;
#[path = "../frontend/shared/made.rs"]
#[allow(
    dead_code,
    reason = "the tests of the frontend make more kinds of models"
)]
mod made;
mod masks;
mod mend;
mod operators;
mod readers;
mod refused;
mod rescale;
mod rules;
mod shared;
mod support;
mod targets;
mod trouble;

/// What every file of these tests is held to.
const LIMITS: &dual16_quant::InputLimits = &dual16_quant::InputLimits::DEFAULT;
