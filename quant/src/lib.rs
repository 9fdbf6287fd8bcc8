//! The quantization flow for NASH_M, as a library: no network, no queue, no async runtime.
//!
//! # Layout
//! - [`onnx`], [`model`], [`layers`], [`batch`]: what comes in. A model is ONNX (or, in layer mode,
//!   an ONNX model made from named weights), a batch is named tensors.
//! - [`canonical`]: a model in few operators of one meaning, which everything after it reads.
//! - [`limits`]: how much the files of a job may hold.
//! - [`float`]: float execution through rten, whole or node by node.
//! - `doubles`: what a double loses in the f32 that it is run in, and when that is too much.
//! - [`graph`]: the model as operations that NASH_M has, each Linear, LayerNorm, Softmax and Gelu
//!   recognised; whatever is left is a float island.
//! - [`observe`]: ranges and statistics of every value, merged over batches.
//! - [`settings`], [`plan`]: what was asked, and what will run: dtypes, scales, the way of each Linear.
//! - [`remedy`]: other ways to compute an operation, of operators the chip has.
//! - [`exec`]: VALIDATION and CONVERTED runs of a plan; [`ways`]: one Linear alone, each way.
//! - [`sensitivity`]: what each fake quant alone costs at the model's outputs, exactly or estimated.
//! - [`cost`]: what a plan makes the chip do, and an estimate of how long it takes.
//! - [`fit`]: integer weights fitted to the inputs that a layer has.
//! - [`metrics`]: how far a tensor is from its reference; [`report`]: what is told while a job runs.
//! - [`job`], [`blobs`]: what a job works on, and where its bytes are kept.
//! - [`artifact`]: the files a job leaves; `handoff`: those of them that are for the toolchain.
//! - [`memory`]: how much the tasks of one process may hold together.
//! - [`place`]: which node a task is at, for whoever has to end it.
//! - [`flow`]: the job cut into stages of independent tasks, each a pure function of its inputs.

pub mod artifact;
pub mod batch;
pub mod blobs;
pub mod canonical;
pub mod cost;
mod doubles;
pub mod error;
pub mod exec;
pub mod fit;
pub mod float;
pub mod flow;
pub mod graph;
mod handoff;
pub mod job;
pub mod layers;
pub mod limits;
mod measured;
pub mod memory;
pub mod metrics;
pub mod model;
pub mod notice;
pub mod observe;
pub mod onnx;
pub mod place;
pub mod plan;
pub mod qtensor;
pub mod remedy;
pub mod report;
pub mod sensitivity;
pub mod settings;
pub mod tensor;
pub mod ways;

pub use dual16_nash::NUMERICS_VERSION;
pub use error::{Error, Result};
pub use flow::run;
pub use limits::InputLimits;
