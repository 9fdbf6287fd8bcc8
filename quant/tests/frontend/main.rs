//! The front end: what comes in, and what it is lowered to.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a test fails by panicking and shows what it measured"
)]

mod batch;
mod doubles;
mod elements;
mod exact;
mod float;
mod functions;
mod graph;
mod layers;
mod limits;
mod lists;
mod mended;
mod model;
mod names;
mod npy;
mod operators;
mod patterns;
mod reading;
mod remedies;
mod robust;
mod shared;
