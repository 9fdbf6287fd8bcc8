//! The whole system on real processes: what a person types, what a program calls, and what is
//! left when either of them, or the machine, does something stupid.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes the helpers of tests for no tests"
)]

mod access;
mod accuracy;
mod analyze;
mod arrays;
mod article;
mod bad_input;
mod bucket;
mod determinism;
mod disk;
mod doctor;
mod export;
mod formats;
mod independent;
mod interrupt;
mod layer_mode;
mod limits;
mod live_page;
mod memory;
mod operators;
mod ops;
mod outage;
mod presign;
mod python_client;
mod readme;
mod remote;
mod report;
mod rescale;
mod scaler;
mod settings;
mod trace;
