//! Softmax in five steps, in integers.

use super::{Operand, Step, StepOp, check_rows};
use crate::dtype::{IntDtype, QInt};
use crate::elementwise::{mul, sub};
use crate::error::Error;
use crate::lut::{Lut, LutFunction, LutSpec};
use crate::reduce::{reduce_max, reduce_sum};
use crate::requant::Rescale;
use crate::scale::Scale;
use crate::tensor::{Tensor, TensorRef};

/// The steps, named as the debug tool prints them `[pub]`.
pub const SOFTMAX: [Step; 5] = [
    Step {
        name: "sub",
        op: StepOp::SubMax,
        operands: &[Operand::Input],
    },
    Step {
        name: "exp",
        op: StepOp::Exp,
        operands: &[Operand::Step(0)],
    },
    Step {
        name: "sum",
        op: StepOp::Sum,
        operands: &[Operand::Step(1)],
    },
    Step {
        name: "reciprocal",
        op: StepOp::Reciprocal,
        operands: &[Operand::Step(2)],
    },
    Step {
        name: "mul",
        op: StepOp::Mul,
        operands: &[Operand::Step(1), Operand::Step(3)],
    },
];

/// Scale of every tensor of a Softmax, in the order in which they come to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SoftmaxScales {
    /// x.
    pub input: Scale,
    /// `sub`.
    pub sub: Scale,
    /// `exp`.
    pub exp: Scale,
    /// `sum`.
    pub sum: Scale,
    /// `reciprocal`.
    pub reciprocal: Scale,
    /// `mul`.
    pub output: Scale,
}

/// A Softmax over the last axis, ready to run on integers.
#[derive(Debug, Clone, PartialEq)]
pub struct Softmax {
    columns: usize,
    shift: Rescale,
    exp: Lut,
    sum: Rescale,
    reciprocal: Lut,
    output: Rescale,
}

impl Softmax {
    /// The tables are placed by what is known without observing: `sub` is never positive, and the
    /// sum lies in [1, columns] because the largest entry contributes e^0 `[our]`.
    ///
    /// # Errors
    /// [`Error::Lut`] from a table.
    pub fn new(scales: &SoftmaxScales, columns: usize) -> Result<Self, Error> {
        let s = scales;
        let table = |function, input_scale, output_scale, observed| {
            Lut::build(&LutSpec {
                function,
                input: IntDtype::Int16,
                input_scale,
                output: IntDtype::Int16,
                output_scale,
                observed: Some(observed),
            })
        };
        Ok(Self {
            columns,
            shift: Rescale::between(s.input, s.sub),
            exp: table(LutFunction::Exp, s.sub, s.exp, (f32::MIN, 0.0))?,
            sum: Rescale::between(s.exp, s.sum),
            reciprocal: table(
                LutFunction::Reciprocal,
                s.sum,
                s.reciprocal,
                (1.0, columns.max(1) as f32),
            )?,
            output: Rescale::of_product(s.exp, s.reciprocal, s.output),
        })
    }

    /// Softmax of each of `rows` rows of x `[rows, columns]`.
    ///
    /// # Errors
    /// [`Error::Shape`] unless x has that shape with at least one column.
    pub fn run<A: QInt, Y: QInt>(&self, x: &[A], rows: usize) -> Result<Vec<Y>, Error> {
        check_rows(x.len(), rows, self.columns)?;
        let shape = [rows, self.columns];
        let x = TensorRef::new(x, &shape)?;

        let max = reduce_max(x, &[-1], true)?;
        let shifted: Tensor<i16> = sub(x, self.shift, max.view()?, self.shift)?;
        let mut exp = Tensor {
            data: vec![0i16; shifted.data.len()],
            shape: shifted.shape,
        };
        self.exp.apply(&shifted.data, &mut exp.data)?;
        let sum: Tensor<i16> = reduce_sum(exp.view()?, &[-1], true, self.sum)?;
        let mut inverse = Tensor {
            data: vec![0i16; sum.data.len()],
            shape: sum.shape,
        };
        self.reciprocal.apply(&sum.data, &mut inverse.data)?;
        Ok(mul(exp.view()?, inverse.view()?, self.output)?.data)
    }

    /// The exp and the reciprocal table, whose errors are reported.
    pub fn tables(&self) -> [&Lut; 2] {
        [&self.exp, &self.reciprocal]
    }
}
