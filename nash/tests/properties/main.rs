//! The kernels against plain definitions, over random and extreme inputs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper that fails fails its test"
)]

mod cost;
mod decompose;
mod elementwise;
mod fp16;
mod linear;
mod lut;
mod moves;
mod mul_sum;
mod quantize;
mod reduce;
mod requant;
mod simd_elementwise;
mod simd_linear;
mod simd_mul_sum;
mod simd_quantize;
mod ways;
