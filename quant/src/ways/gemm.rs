//! The ways that are one integer GEMM: a8w8, a16w8, a8w16 and a16w16.

use std::sync::Arc;

use dual16_nash::{
    dtype::{IntDtype, QInt},
    linear::{AccumulatorPeak, GemmShape, channel_rescales, linear, linear_acc, quantize_bias},
    quantize::quantize_per_channel,
    requant::Rescale,
    scale::{Scale, per_channel_scales},
};

use super::{
    integers::{IntegerWeights, Parameter},
    linear::{Making, RawOutput, RunCounts, float_weight, linear_f32, output_counts},
    saturation::of_rescales,
};
use crate::{
    Result,
    error::KernelContext,
    fit::Quantized,
    qtensor::{QData, QTensor, each_dtype},
};

/// Weight, bias and multipliers.
#[derive(Debug)]
pub(super) struct Gemm {
    /// Held once by all Linears of the weight.
    weight: Arc<QData>,
    scales: Vec<Scale>,
    bias: Option<Vec<i32>>,
    input: Scale,
    /// `None` leaves the accumulators as they are.
    requant: Option<(IntDtype, Vec<Rescale>)>,
    /// VALIDATION adds the bias as it is.
    float_bias: Option<Vec<f32>>,
    shape: [usize; 2],
    /// What saturates whatever the input is.
    pub(super) saturations: Vec<String>,
}

impl Gemm {
    /// `same` has the same weight and these integers of it.
    pub(super) fn new(making: &Making<'_>, dtype: IntDtype, same: Option<&Gemm>) -> Result<Self> {
        let (weight, scales) = match same {
            Some(same) => (Arc::clone(&same.weight), same.scales.clone()),
            None => quantized(making, dtype)?,
        };
        Self::of(making, weight, scales)
    }

    /// Of integers that are given.
    pub(super) fn fitted(making: &Making<'_>, weight: &Quantized) -> Result<Self> {
        let (weight, scales) = integers(making.name, weight)?;
        Self::of(making, Arc::new(weight), scales)
    }

    fn of(making: &Making<'_>, weight: Arc<QData>, scales: Vec<Scale>) -> Result<Self> {
        let Making { name, shape, .. } = *making;
        let bias = match making.bias {
            Some(bias) => Some(quantize_bias(bias, making.input, &scales).of(name)?),
            None => None,
        };
        let mut saturations = making.saturated_bias(&scales);
        let requant = match making.output {
            Some(_) => {
                let (dtype, output) = making.requantized_output()?;
                let rescales = channel_rescales(making.input, &scales, output);
                saturations.extend(of_rescales(
                    "its accumulator at the output's scale",
                    &rescales,
                ));
                Some((dtype, rescales))
            }
            None => None,
        };
        Ok(Gemm {
            weight,
            scales,
            bias,
            input: making.input,
            requant,
            float_bias: making.bias.map(<[f32]>::to_vec),
            shape,
            saturations,
        })
    }

    pub(super) fn run(
        &self,
        name: &str,
        x: &QTensor,
        shape: GemmShape,
    ) -> Result<(RawOutput, RunCounts)> {
        match &self.requant {
            Some((IntDtype::Int8, rescales)) => {
                let (data, peak) = self.requantized::<i8>(name, x, shape, rescales)?;
                let data = QData::I8(data);
                let counts = output_counts(&data, peak);
                Ok((RawOutput::Quantized(data), counts))
            }
            Some((IntDtype::Int16, rescales)) => {
                let (data, peak) = self.requantized::<i16>(name, x, shape, rescales)?;
                let data = QData::I16(data);
                let counts = output_counts(&data, peak);
                Ok((RawOutput::Quantized(data), counts))
            }
            None => self.high_precision(name, x, shape),
        }
    }

    /// The output in int16, where that is its format.
    pub(super) fn run_int16(
        &self,
        name: &str,
        x: &QTensor,
        shape: GemmShape,
    ) -> Result<(Vec<i16>, AccumulatorPeak)> {
        let rescales = self.requant.iter().flat_map(|(_, rescales)| rescales);
        let rescales: Vec<Rescale> = rescales.copied().collect();
        self.requantized(name, x, shape, &rescales)
    }

    pub(super) fn shape(&self) -> [usize; 2] {
        self.shape
    }

    fn requantized<Y: QInt>(
        &self,
        name: &str,
        x: &QTensor,
        shape: GemmShape,
        rescales: &[Rescale],
    ) -> Result<(Vec<Y>, AccumulatorPeak)> {
        let bias = self.bias.as_deref();
        let mut y = vec![Y::default(); shape.n * shape.o];
        let peak = each_dtype!(&x.data, x => each_dtype!(&*self.weight, w => {
            linear(x, w, shape, bias, rescales, &mut y)
        }))
        .of(name)?;
        Ok((y, peak))
    }

    fn high_precision(
        &self,
        name: &str,
        x: &QTensor,
        shape: GemmShape,
    ) -> Result<(RawOutput, RunCounts)> {
        let bias = self.bias.as_deref();
        let mut acc = vec![0i64; shape.n * shape.o];
        let peak = each_dtype!(&x.data, x => each_dtype!(&*self.weight, w => {
            linear_acc(x, w, shape, bias, &mut acc)
        }))
        .of(name)?;
        let zero = acc.iter().filter(|&&acc| acc == 0).count() as u64;
        let steps: Vec<f64> = self
            .scales
            .iter()
            .map(|s| self.input.to_f64() * s.to_f64())
            .collect();
        let value = |(&acc, step): (&i64, &f64)| (acc as f64 * step) as f32;
        let y = acc.iter().zip(steps.iter().cycle()).map(value).collect();
        let counts = RunCounts {
            total: acc.len() as u64,
            zero,
            clipped: 0,
            peak: peak.max_abs(),
        };
        Ok((RawOutput::Float(y), counts))
    }

    pub(super) fn run_fake_quant(
        &self,
        name: &str,
        x: &[f32],
        shape: GemmShape,
    ) -> Result<Vec<f32>> {
        let weight = each_dtype!(&*self.weight, data => {
            float_weight(name, data, self.shape, &self.scales)?
        });
        Ok(linear_f32(x, &weight, self.float_bias.as_deref(), shape))
    }

    pub(super) fn integers(&self) -> IntegerWeights<'_> {
        let [outputs, inputs] = self.shape;
        let scales = self.scales.iter().map(|scale| scale.get()).collect();
        let mut parameters = vec![
            Parameter::quantized("weight", &self.weight, vec![outputs, inputs]),
            Parameter::scales("weight_scale", scales),
        ];
        if let Some(bias) = &self.bias {
            parameters.push(Parameter::bias32("bias", bias));
        }
        IntegerWeights { parameters }
    }
}

/// Integers that were fitted, as kernels take them.
pub(super) fn integers(name: &str, weight: &Quantized) -> Result<(QData, Vec<Scale>)> {
    let q = weight.q.iter();
    let data = match weight.dtype {
        // Within int8, by what a Quantized is.
        IntDtype::Int8 => QData::I8(q.map(|&q| q as i8).collect()),
        IntDtype::Int16 => QData::I16(q.copied().collect()),
    };
    let scales = weight
        .scales
        .iter()
        .map(|&scale| Scale::new(scale).of(name));
    Ok((data, scales.collect::<Result<_>>()?))
}

/// The integers of a weight, a scale for each channel.
fn quantized(making: &Making<'_>, dtype: IntDtype) -> Result<(Arc<QData>, Vec<Scale>)> {
    let Making {
        name,
        weight,
        shape,
        rounding,
        ..
    } = *making;
    let scales = per_channel_scales(weight, shape, dtype, making.scale_rule, making.power_of_two)
        .of(name)?;
    let data = match dtype {
        IntDtype::Int8 => {
            let mut data = vec![0i8; weight.len()];
            quantize_per_channel(weight, shape, &scales, rounding, &mut data).of(name)?;
            QData::I8(data)
        }
        IntDtype::Int16 => {
            let mut data = vec![0i16; weight.len()];
            quantize_per_channel(weight, shape, &scales, rounding, &mut data).of(name)?;
            QData::I16(data)
        }
    };
    Ok((Arc::new(data), scales))
}
