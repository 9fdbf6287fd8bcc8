//! The client against a server over real connections that are cut on purpose, and the program
//! itself as a person runs it.

#![allow(
    clippy::unwrap_used,
    reason = "clippy takes the helpers of tests for no tests"
)]

mod cli;
mod config;
mod fake;
mod interrupts;
mod proxy;
mod repeats;
mod transfer;
mod watch;
