//! Weights fitted to inputs: the ladder on the article's layer, and each step on small problems.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and shows what it measured"
)]

mod article;
mod small;
