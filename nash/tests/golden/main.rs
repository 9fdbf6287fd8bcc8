//! The kernels against vectors of an independent implementation (`tests/data/golden`): integers to
//! the bit, floats within the tolerance that its README gives.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper that fails fails its test"
)]

mod article;
mod data;
mod linear;
mod mul_sum;
mod quantize;
mod requant;
