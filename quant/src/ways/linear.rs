//! A Linear made ready to run one way.

use dual16_nash::{
    dtype::{IntDtype, QInt},
    linear::{AccumulatorPeak, GemmShape},
    quantize::{Rounding, dequantize_per_channel},
    scale::{Scale, ScaleRule},
    ways::Way,
};
use ndarray::IxDyn;
use serde::{Deserialize, Serialize};

use super::{
    float_gemm::gemm_f32, gemm::Gemm, integers::IntegerWeights, low_rank::LowRankBranch,
    mul_sum::MulSum, saturation, split::Split,
};
use crate::{
    Error, Result,
    error::KernelContext,
    fit::Fitted,
    graph::Linear,
    plan::{InnerParams, LinearParams, QParams},
    qtensor::{QData, QTensor},
    settings::Settings,
    tensor::Tensor,
};

/// What a way counted and what its accumulators needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct RunCounts {
    /// Values looked at: products of `mul_sum`, outputs of the others.
    pub total: u64,
    /// Of these, how many are 0.
    pub zero: u64,
    /// Of these, how many saturated.
    pub clipped: u64,
    /// Largest |accumulator|.
    pub peak: u64,
}

impl RunCounts {
    /// Magnitude bits that the largest accumulator needs.
    pub fn accumulator_bits(self) -> u32 {
        AccumulatorPeak::new(self.peak).bits()
    }

    /// Sums of both, and the larger peak.
    pub fn merge(self, other: Self) -> Self {
        RunCounts {
            total: self.total + other.total,
            zero: self.zero + other.zero,
            clipped: self.clipped + other.clipped,
            peak: self.peak.max(other.peak),
        }
    }
}

/// What a CONVERTED run of one Linear gives.
#[derive(Debug)]
pub struct LinearRun {
    /// The output.
    pub output: LinearOutput,
    /// Zeros, clips and the accumulator.
    pub counts: RunCounts,
}

/// An output, requantized or not.
#[derive(Debug, Clone)]
pub enum LinearOutput {
    /// Integers at the output's scale.
    Quantized(QTensor),
    /// High precision: the accumulator times its scale.
    Float(Tensor),
}

impl LinearOutput {
    /// The float tensor it stands for.
    pub fn to_float(&self) -> Tensor {
        match self {
            LinearOutput::Quantized(tensor) => tensor.dequantize(),
            LinearOutput::Float(tensor) => tensor.clone(),
        }
    }
}

/// A Linear in one way: integer weights and multipliers. VALIDATION makes its float weights from the
/// integers when it runs, so that a model held in every way is not held in floats as well.
#[derive(Debug)]
pub struct QuantizedLinear {
    name: String,
    params: LinearParams,
    rounding: Rounding,
    inputs: usize,
    outputs: usize,
    kernel: Kernel,
}

#[derive(Debug)]
enum Kernel {
    Gemm(Gemm),
    MulSum(MulSum),
    Split(Split),
    LowRank(LowRankBranch),
}

/// Where the integers of a Linear's weight come from.
#[derive(Debug, Clone, Copy)]
pub struct Integers<'a> {
    /// The layer: its weight is rounded to the nearest.
    pub linear: &'a Linear,
    /// What was fitted to its inputs, which is taken instead.
    pub fitted: Option<&'a Fitted>,
}

impl<'a> From<&'a Linear> for Integers<'a> {
    fn from(linear: &'a Linear) -> Self {
        Self {
            linear,
            fitted: None,
        }
    }
}

/// Scales and shapes that the kernels share while they are made.
pub(super) struct Making<'a> {
    pub(super) name: &'a str,
    pub(super) weight: &'a [f32],
    pub(super) bias: Option<&'a [f32]>,
    pub(super) shape: [usize; 2],
    pub(super) input: Scale,
    pub(super) output: Option<QParams>,
    pub(super) rounding: Rounding,
    pub(super) scale_rule: ScaleRule,
    pub(super) power_of_two: bool,
}

impl Making<'_> {
    /// The output's parameters, for a way that always requantizes.
    pub(super) fn requantized_output(&self) -> Result<(IntDtype, Scale)> {
        let output = self.output.ok_or_else(|| Error::Setting {
            setting: format!("output of '{}'", self.name),
            reason: "this way has no high-precision output".to_owned(),
        })?;
        Ok((output.dtype, Scale::new(output.scale).of(self.name)?))
    }

    /// What an int32 bias beside a weight of these scales loses.
    pub(super) fn saturated_bias(&self, weight: &[Scale]) -> Vec<String> {
        let of_bias = |bias| saturation::of_bias(bias, self.input, weight);
        self.bias.and_then(of_bias).into_iter().collect()
    }
}

impl QuantizedLinear {
    /// Quantizes weight and bias for `way` with the scales in `params`.
    ///
    /// # Errors
    /// Parameters that do not fit the layer, which it names.
    pub fn new<'a>(
        name: &str,
        integers: impl Into<Integers<'a>>,
        way: Way,
        params: &LinearParams,
        settings: &Settings,
    ) -> Result<Self> {
        Self::beside(name, integers.into(), way, params, settings, None)
    }

    /// The same, beside one whose weight has the same integers: both hold them.
    pub(crate) fn beside(
        name: &str,
        Integers { linear, fitted }: Integers<'_>,
        way: Way,
        params: &LinearParams,
        settings: &Settings,
        same: Option<&QuantizedLinear>,
    ) -> Result<Self> {
        if fitted.is_some() != params.fit.is_some()
            || fitted.is_some_and(|fitted| fitted.weight.q.dim() != linear.weight.dim())
        {
            return Err(Error::Payload {
                what: "plan",
                reason: format!("the fitted integers of '{name}' are not those that it names"),
            });
        }
        let weight = linear.weight.as_standard_layout();
        let (outputs, inputs) = linear.weight.dim();
        let making = Making {
            name,
            weight: weight.as_slice().unwrap_or_default(),
            bias: match fitted {
                Some(fitted) => Some(&fitted.bias),
                None => linear.bias.as_ref().and_then(|bias| bias.as_slice()),
            },
            shape: [outputs, inputs],
            input: Scale::new(params.input.scale).of(name)?,
            output: params.output,
            rounding: settings.rounding,
            scale_rule: settings.scale_rule,
            power_of_two: settings.power_of_two,
        };
        let same = same.map(|same| &same.kernel);
        let branch = fitted.and_then(|fitted| Some((fitted, fitted.low_rank.as_ref()?)));
        let kernel = match params.inner {
            InnerParams::LowRank {
                main,
                inner,
                branch: scale,
            } => match branch {
                Some((fitted, low_rank)) => {
                    let scales = [main, inner, scale];
                    let weight = &fitted.weight;
                    Kernel::LowRank(LowRankBranch::new(&making, weight, low_rank, scales)?)
                }
                None => {
                    return Err(Error::Payload {
                        what: "plan",
                        reason: format!("the fitted integers of '{name}' have no low-rank branch"),
                    });
                }
            },
            InnerParams::Gemm => match (fitted, same) {
                (Some(fitted), _) => Kernel::Gemm(Gemm::fitted(&making, &fitted.weight)?),
                (None, Some(Kernel::Gemm(same))) => {
                    Kernel::Gemm(Gemm::new(&making, way.weight_dtype(), Some(same))?)
                }
                (None, _) => Kernel::Gemm(Gemm::new(&making, way.weight_dtype(), None)?),
            },
            InnerParams::MulSum {
                weight,
                product,
                sum,
                bias,
            } => {
                let same = match same {
                    Some(Kernel::MulSum(same)) => Some(same),
                    _ => None,
                };
                Kernel::MulSum(MulSum::new(&making, weight, product, sum, bias, same)?)
            }
            InnerParams::Split { high, low } => {
                let same = match same {
                    Some(Kernel::Split(same)) => Some(same),
                    _ => None,
                };
                Kernel::Split(Split::new(&making, high, low, same)?)
            }
        };
        Ok(QuantizedLinear {
            name: name.to_owned(),
            params: params.clone(),
            rounding: settings.rounding,
            inputs,
            outputs,
            kernel,
        })
    }

    /// The scales it was made with.
    pub fn params(&self) -> &LinearParams {
        &self.params
    }

    /// The integers that a converted model holds.
    pub fn integers(&self) -> IntegerWeights<'_> {
        match &self.kernel {
            Kernel::Gemm(kernel) => kernel.integers(),
            Kernel::MulSum(kernel) => kernel.integers(),
            Kernel::Split(kernel) => kernel.integers(),
            Kernel::LowRank(kernel) => kernel.integers(),
        }
    }

    /// What saturates in it whatever its input is, a sentence each.
    pub fn saturations(&self) -> &[String] {
        match &self.kernel {
            Kernel::Gemm(kernel) => &kernel.saturations,
            Kernel::MulSum(kernel) => &kernel.saturations,
            Kernel::Split(kernel) => &kernel.saturations,
            Kernel::LowRank(kernel) => &kernel.saturations,
        }
    }

    /// CONVERTED: integers in, `[.., K]`, at the parameters' input scale and dtype.
    pub fn run(&self, x: &QTensor) -> Result<LinearRun> {
        let (gemm, shape) = self.shapes(&x.shape)?;
        let (data, counts) = match &self.kernel {
            Kernel::Gemm(kernel) => kernel.run(&self.name, x, gemm)?,
            Kernel::MulSum(kernel) => kernel.run(&self.name, x, gemm)?,
            Kernel::Split(kernel) => kernel.run(&self.name, x, gemm)?,
            Kernel::LowRank(kernel) => kernel.run(&self.name, x, gemm)?,
        };
        let output = match (data, self.params.output) {
            (RawOutput::Quantized(data), Some(output)) => {
                let scale = Scale::new(output.scale).of(&self.name)?;
                LinearOutput::Quantized(QTensor { data, shape, scale })
            }
            (RawOutput::Float(values), _) => LinearOutput::Float(self.tensor(shape, values)?),
            (RawOutput::Quantized(_), None) => return Err(self.mismatch(&shape)),
        };
        Ok(LinearRun { output, counts })
    }

    /// Quantizes a float input `[.., K]` as the way takes it.
    pub fn quantize_input(&self, x: &Tensor) -> Result<QTensor> {
        let quantized = QTensor::quantize(&self.name, x, self.params.input, self.rounding);
        quantized.map(|(tensor, _)| tensor)
    }

    /// VALIDATION: a fake-quantized input `[.., K]`; the output is not fake-quantized yet (its own
    /// fake quant is the caller's next step).
    pub fn run_fake_quant(&self, x: &Tensor) -> Result<Tensor> {
        let (gemm, shape) = self.shapes(x.shape())?;
        let x = x.as_standard_layout();
        let x = x.as_slice().unwrap_or_default();
        let values = match &self.kernel {
            Kernel::Gemm(kernel) => kernel.run_fake_quant(&self.name, x, gemm)?,
            Kernel::MulSum(kernel) => kernel.run_fake_quant(&self.name, x, gemm)?,
            Kernel::Split(kernel) => kernel.run_fake_quant(&self.name, x, gemm)?,
            Kernel::LowRank(kernel) => kernel.run_fake_quant(&self.name, x, gemm)?,
        };
        self.tensor(shape, values)
    }

    /// Rows, K and O of an input's shape, and the output's shape.
    fn shapes(&self, input: &[usize]) -> Result<(GemmShape, Vec<usize>)> {
        match input.split_last() {
            Some((&k, rows)) if k == self.inputs => {
                let n = rows.iter().product();
                let mut shape = rows.to_vec();
                shape.push(self.outputs);
                Ok((
                    GemmShape {
                        n,
                        k,
                        o: self.outputs,
                    },
                    shape,
                ))
            }
            _ => Err(self.mismatch(input)),
        }
    }

    fn tensor(&self, shape: Vec<usize>, values: Vec<f32>) -> Result<Tensor> {
        Tensor::from_shape_vec(IxDyn(&shape), values).map_err(|_| self.mismatch(&shape))
    }

    fn mismatch(&self, shape: &[usize]) -> Error {
        Error::FloatRun {
            node: self.name.clone(),
            reason: format!(
                "a tensor of shape {shape:?} does not fit [.., {}]",
                self.inputs
            ),
        }
    }
}

/// What a kernel gives, before it has a shape.
pub(super) enum RawOutput {
    Quantized(QData),
    Float(Vec<f32>),
}

/// Counts over a requantized output.
pub(super) fn output_counts(data: &QData, peak: AccumulatorPeak) -> RunCounts {
    fn count<T: Copy + PartialEq>(data: &[T], zero: T, min: T, max: T) -> (u64, u64) {
        data.iter().fold((0, 0), |(zeros, clips), &q| {
            (
                zeros + u64::from(q == zero),
                clips + u64::from(q == min || q == max),
            )
        })
    }
    let (total, (zero, clipped)) = match data {
        QData::I8(data) => (data.len(), count(data, 0, i8::MIN, i8::MAX)),
        QData::I16(data) => (data.len(), count(data, 0, i16::MIN, i16::MAX)),
    };
    RunCounts {
        total: total as u64,
        zero,
        clipped,
        peak: peak.max_abs(),
    }
}

/// An integer weight `[o, k]` as VALIDATION multiplies by it: `q * s[o]`.
pub(super) fn float_weight<Q: QInt>(
    name: &str,
    weight: &[Q],
    shape: [usize; 2],
    scales: &[Scale],
) -> Result<Vec<f32>> {
    let mut floats = vec![0.0; weight.len()];
    dequantize_per_channel(weight, shape, scales, &mut floats).of(name)?;
    Ok(floats)
}

/// `x [n, k] * w [o, k]^T + bias [o]` in f32.
pub(super) fn linear_f32(x: &[f32], w: &[f32], bias: Option<&[f32]>, shape: GemmShape) -> Vec<f32> {
    let mut y = gemm_f32(x, w, shape);
    if let Some(bias) = bias {
        for row in y.chunks_exact_mut(shape.o.max(1)) {
            row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
        }
    }
    y
}
