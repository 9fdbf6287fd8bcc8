//! The simulated NASH_M chip: number formats, scales, integer kernels, look-up tables, and what
//! is legal and costly on which toolchain.
//!
//! Everything here is pure, synchronous and deterministic: the same input gives the same bytes on
//! every machine, thread count and optimization level (transcendentals come from `libm`, not from
//! the system). The crate knows no files, models, graphs or jobs; it works on plain slices and
//! shapes that the caller owns.
//!
//! # Layout
//! | module | what |
//! |---|---|
//! | [`dtype`], [`scale`], [`quantize`] | int8 and int16, the rules from a range to a scale, f32 to integer and back |
//! | [`requant`] | the fixed-point multiplier that carries every integer result to its output scale |
//! | [`linear`], [`mul_sum`], [`split`] | the kernels behind the [`ways`] of running a Linear |
//! | [`elementwise`], [`reduce`], [`moves`], [`lut`] | all other operations with an integer kernel |
//! | [`simd`] | which instruction sets the kernels may use |
//! | [`decompose`] | LayerNorm and Softmax as lists of those operations |
//! | [`ways`], [`legality`], [`cost`] | which ways there are, which are legal, what they cost |
//! | [`compare`] | sums over a float tensor and a quantized one |
//! | [`tensor`], [`error`] | a slice with its shape; every error |
//!
//! # Fidelity
//! `[pub]` marks what public toolchain material states, `[our]` what this project chose where the
//! public record is silent. The result is a simulation; nobody outside the vendor can promise
//! bit-exactness to silicon. `docs/numerics.md` is the same account for users.
//!
//! # Kernels
//! A kernel with a hot loop keeps its scalar reference in a module of its own, behind a
//! slice-level signature (`linear::scalar`, `mul_sum::scalar`). A SIMD version goes beside it,
//! is chosen at run time by [`simd`], and must be equal to it bit for bit. Only [`linear`] and what
//! is made of it use more than the caller's thread. `docs/kernels.md` has their figures.

/// The version of what is computed: it grows with every change after which the same job may give other
/// bytes (`docs/numerics.md`). Results of one version can be compared.
pub const NUMERICS_VERSION: u32 = 3;

pub mod compare;
pub mod cost;
pub mod decompose;
pub mod dtype;
pub mod elementwise;
pub mod error;
pub mod legality;
pub mod linear;
pub mod lut;
pub mod moves;
pub mod mul_sum;
pub mod quantize;
pub mod reduce;
pub mod requant;
pub mod scale;
pub mod simd;
pub mod split;
pub mod tensor;
pub mod ways;

pub use dtype::{IntDtype, QInt};
pub use error::{
    ChipError, Error, LutError, ParseError, QuantizeError, RescaleError, ScaleError, ShapeError,
};
pub use legality::{Legality, March, Toolchain};
pub use linear::{AccumulatorPeak, GemmShape};
pub use lut::{Lut, LutFunction};
pub use requant::Rescale;
pub use scale::{Scale, ScaleRule};
pub use simd::Isa;
pub use tensor::{Tensor, TensorRef};
pub use ways::Way;
