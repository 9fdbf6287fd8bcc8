//! One Linear in one way: its integers, its CONVERTED run and its VALIDATION run
//! ([`QuantizedLinear`]), and its error measured alone ([`isolated`]).

mod float_gemm;
mod gemm;
mod integers;
pub mod isolated;
mod linear;
mod low_rank;
mod mul_sum;
mod saturation;
mod split;

pub(crate) use float_gemm::{add_product, gemm_f32, gemm_f32_on};
pub(crate) use integers::weight_bytes;
pub use integers::{IntegerWeights, Parameter};
pub use linear::{Integers, LinearOutput, LinearRun, QuantizedLinear, RunCounts};
