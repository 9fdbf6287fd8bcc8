//! Who is let in to what, over real connections: every RPC that reflection knows, every role.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the helpers of tests fail as the tests themselves do"
)]

mod audit;
mod authority;
mod guarded;
mod rotation;
mod rpcs;
mod shedding;
#[path = "../support/mod.rs"]
mod support;
mod tls;
