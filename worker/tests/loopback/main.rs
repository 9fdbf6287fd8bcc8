//! Workers against a real server over loopback, with scripted runners in place of the numerics.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "clippy's exception for tests does not reach their helpers"
)]

mod cluster;
mod faults;
mod jobs;
mod networks;
mod preference;
mod proxy;
mod starting;
