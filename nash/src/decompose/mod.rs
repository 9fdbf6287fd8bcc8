//! LayerNorm and Softmax as the chip runs them: a list of small ops, every inner tensor int16, the
//! last one in the user's dtype `[pub]`. The lists are data, for observers and for the float
//! VALIDATION; [`LayerNorm`] and [`Softmax`] run them in integers.

mod fp16;
mod layer_norm;
mod softmax;

pub use fp16::layer_norm_fp16;
pub use layer_norm::{LAYER_NORM, LayerNorm, LayerNormScales};
pub use softmax::{SOFTMAX, Softmax, SoftmaxScales};

use crate::error::{Error, ShapeError, check_len};
use crate::tensor::element_count;

/// One op of a decomposition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Name as the vendor's debug tool prints it.
    pub name: &'static str,
    /// What it computes.
    pub op: StepOp,
    /// Its inputs, in order.
    pub operands: &'static [Operand],
}

/// What a step computes; axes are the normalized ones, kept with size 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StepOp {
    /// ReduceMean.
    Mean,
    /// ReduceSum.
    Sum,
    /// a - b.
    Sub,
    /// a - max(a). The maximum keeps a's scale and has none of its own.
    SubMax,
    /// a * b.
    Mul,
    /// a + b.
    Add,
    /// 1 / sqrt(a + eps), a table.
    Rsqrt,
    /// e^a, a table.
    Exp,
    /// 1 / a, a table.
    Reciprocal,
}

/// Where a step's input comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operand {
    /// The decomposed op's input.
    Input,
    /// LayerNorm's weight.
    Weight,
    /// LayerNorm's bias.
    Bias,
    /// An earlier step, by its index in the list.
    Step(usize),
}

fn check_rows(got: usize, rows: usize, columns: usize) -> Result<(), Error> {
    check_len("x", got, element_count(&[rows, columns])?)?;
    if columns == 0 {
        return Err(ShapeError::Empty {
            what: "normalized axis",
        }
        .into());
    }
    Ok(())
}
