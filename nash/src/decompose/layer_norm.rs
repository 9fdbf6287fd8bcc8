//! LayerNorm in eight steps, in integers.

use super::{Operand, Step, StepOp, check_rows};
use crate::dtype::{IntDtype, QInt};
use crate::elementwise::{add, mul, sub};
use crate::error::{Error, check_len};
use crate::lut::{Lut, LutFunction, LutSpec};
use crate::reduce::reduce_sum;
use crate::requant::Rescale;
use crate::scale::Scale;
use crate::tensor::{Tensor, TensorRef};

/// The steps, named as the debug tool prints them `[pub]`.
pub const LAYER_NORM: [Step; 8] = [
    Step {
        name: "input_mean.pre_mean",
        op: StepOp::Mean,
        operands: &[Operand::Input],
    },
    Step {
        name: "sub",
        op: StepOp::Sub,
        operands: &[Operand::Input, Operand::Step(0)],
    },
    Step {
        name: "mul",
        op: StepOp::Mul,
        operands: &[Operand::Step(1), Operand::Step(1)],
    },
    Step {
        name: "var_mean.pre_mean",
        op: StepOp::Mean,
        operands: &[Operand::Step(2)],
    },
    Step {
        name: "rsqrt",
        op: StepOp::Rsqrt,
        operands: &[Operand::Step(3)],
    },
    Step {
        name: "out_mul",
        op: StepOp::Mul,
        operands: &[Operand::Step(1), Operand::Step(4)],
    },
    Step {
        name: "weight_mul",
        op: StepOp::Mul,
        operands: &[Operand::Step(5), Operand::Weight],
    },
    Step {
        name: "bias_add",
        op: StepOp::Add,
        operands: &[Operand::Step(6), Operand::Bias],
    },
];

/// Scale of every tensor of a LayerNorm, in the order in which they come to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerNormScales {
    /// x.
    pub input: Scale,
    /// `input_mean.pre_mean`.
    pub input_mean: Scale,
    /// `sub`.
    pub sub: Scale,
    /// `mul`, the square.
    pub square: Scale,
    /// `var_mean.pre_mean`.
    pub var_mean: Scale,
    /// `rsqrt`.
    pub rsqrt: Scale,
    /// `out_mul`, the normalized value.
    pub normalized: Scale,
    /// The int16 weight.
    pub weight: Scale,
    /// `weight_mul`.
    pub weight_mul: Scale,
    /// The int16 bias.
    pub bias: Scale,
    /// `bias_add`.
    pub output: Scale,
}

/// A LayerNorm over the last axis, ready to run on integers.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerNorm {
    columns: usize,
    weight: Vec<i16>,
    bias: Vec<i16>,
    mean: Rescale,
    sub_input: Rescale,
    sub_mean: Rescale,
    square: Rescale,
    variance: Rescale,
    rsqrt: Lut,
    normalize: Rescale,
    weight_mul: Rescale,
    add_product: Rescale,
    add_bias: Rescale,
}

impl LayerNorm {
    /// `weight` and `bias` are already quantized, one entry for each column. `variance` is the range
    /// (min, max) that the variance was seen in; it places the segments of the rsqrt table.
    ///
    /// # Errors
    /// [`Error::Shape`] if weight and bias differ in length, [`Error::Lut`] from the table.
    pub fn new(
        scales: &LayerNormScales,
        eps: f64,
        weight: Vec<i16>,
        bias: Vec<i16>,
        variance: Option<(f32, f32)>,
    ) -> Result<Self, Error> {
        let columns = weight.len();
        check_len("bias", bias.len(), columns)?;
        let s = scales;
        let rsqrt = Lut::build(&LutSpec {
            function: LutFunction::Rsqrt { eps },
            input: IntDtype::Int16,
            input_scale: s.var_mean,
            output: IntDtype::Int16,
            output_scale: s.rsqrt,
            // A variance is never negative, whatever was observed.
            observed: Some(variance.unwrap_or((0.0, f32::MAX))),
        })?;
        // Nothing runs on no columns, and a mean over none has no ratio.
        let count = columns.max(1);
        Ok(Self {
            columns,
            weight,
            bias,
            mean: Rescale::of_mean(s.input, count, s.input_mean),
            sub_input: Rescale::between(s.input, s.sub),
            sub_mean: Rescale::between(s.input_mean, s.sub),
            square: Rescale::of_product(s.sub, s.sub, s.square),
            variance: Rescale::of_mean(s.square, count, s.var_mean),
            rsqrt,
            normalize: Rescale::of_product(s.sub, s.rsqrt, s.normalized),
            weight_mul: Rescale::of_product(s.normalized, s.weight, s.weight_mul),
            add_product: Rescale::between(s.weight_mul, s.output),
            add_bias: Rescale::between(s.bias, s.output),
        })
    }

    /// Normalizes each of `rows` rows of x `[rows, columns]`.
    ///
    /// # Errors
    /// [`Error::Shape`] unless x has that shape with at least one column.
    pub fn run<A: QInt, Y: QInt>(&self, x: &[A], rows: usize) -> Result<Vec<Y>, Error> {
        check_rows(x.len(), rows, self.columns)?;
        let shape = [rows, self.columns];
        let row_shape = [self.columns];
        let x = TensorRef::new(x, &shape)?;
        let weight = TensorRef::new(&self.weight, &row_shape)?;
        let bias = TensorRef::new(&self.bias, &row_shape)?;

        let mean: Tensor<i16> = reduce_sum(x, &[-1], true, self.mean)?;
        let centred: Tensor<i16> = sub(x, self.sub_input, mean.view()?, self.sub_mean)?;
        let square: Tensor<i16> = mul(centred.view()?, centred.view()?, self.square)?;
        let variance: Tensor<i16> = reduce_sum(square.view()?, &[-1], true, self.variance)?;
        let mut inverse = Tensor {
            shape: variance.shape,
            data: vec![0i16; rows],
        };
        self.rsqrt.apply(&variance.data, &mut inverse.data)?;
        let normalized: Tensor<i16> = mul(centred.view()?, inverse.view()?, self.normalize)?;
        let weighted: Tensor<i16> = mul(normalized.view()?, weight, self.weight_mul)?;
        Ok(add(weighted.view()?, self.add_product, bias, self.add_bias)?.data)
    }

    /// The rsqrt table, whose error is reported.
    pub fn rsqrt_table(&self) -> &Lut {
        &self.rsqrt
    }
}
