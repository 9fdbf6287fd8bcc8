//! The way `mul_sum`: Mul, ReduceSum and Add, every tensor int16 with one scale.

use std::sync::Arc;

use dual16_nash::{
    dtype::{IntDtype, QInt},
    elementwise::{add, rescale_to},
    linear::GemmShape,
    mul_sum::{mul_sum, mul_sum_fake_quant},
    quantize::{dequantize, fake_quantize_in_place, quantize},
    requant::Rescale,
    scale::Scale,
    tensor::TensorRef,
};

use super::{
    integers::{IntegerWeights, Parameter},
    linear::{Making, RawOutput, RunCounts},
    saturation::of_rescales,
};
use crate::{
    Result,
    error::KernelContext,
    qtensor::{QData, QTensor},
};

/// Weight, bias and multipliers.
#[derive(Debug)]
pub(super) struct MulSum {
    /// Held once by all Linears of the weight.
    weight: Arc<Vec<i16>>,
    weight_scale: Scale,
    product_scale: Scale,
    sum_scale: Scale,
    bias: Option<Bias>,
    product: Rescale,
    sum: Rescale,
    /// From the sum's scale to the output's.
    sum_to_output: Rescale,
    output: IntDtype,
    rounding: dual16_nash::quantize::Rounding,
    shape: [usize; 2],
    /// What saturates whatever the input is.
    pub(super) saturations: Vec<String>,
}

#[derive(Debug)]
struct Bias {
    data: Vec<i16>,
    scale: Scale,
    to_output: Rescale,
}

impl MulSum {
    /// `same` has the same weight and these integers of it.
    pub(super) fn new(
        making: &Making<'_>,
        weight_scale: f32,
        product: f32,
        sum: f32,
        bias: Option<f32>,
        same: Option<&MulSum>,
    ) -> Result<Self> {
        let Making {
            name,
            shape,
            rounding,
            ..
        } = *making;
        let scale = |value: f32| Scale::new(value).of(name);
        let (weight_scale, product_scale, sum_scale) =
            (scale(weight_scale)?, scale(product)?, scale(sum)?);
        let (output, output_scale) = making.requantized_output()?;
        let quantized = |values: &[f32], scale: Scale| -> Result<Vec<i16>> {
            let mut data = vec![0i16; values.len()];
            quantize(values, scale, rounding, &mut data).of(name)?;
            Ok(data)
        };
        let weight = match same {
            Some(same) => Arc::clone(&same.weight),
            None => Arc::new(quantized(making.weight, weight_scale)?),
        };
        let bias = match (making.bias, bias) {
            (Some(values), Some(value)) => {
                let scale = scale(value)?;
                let data = quantized(values, scale)?;
                let to_output = Rescale::between(scale, output_scale);
                Some(Bias {
                    data,
                    scale,
                    to_output,
                })
            }
            _ => None,
        };
        let product = Rescale::of_product(making.input, weight_scale, product_scale);
        let sum = Rescale::between(product_scale, sum_scale);
        let sum_to_output = Rescale::between(sum_scale, output_scale);
        let to_output = bias.as_ref().map(|bias| bias.to_output);
        let steps = [
            ("its products at their scale", Some(product)),
            ("its sum at the sum's scale", Some(sum)),
            ("its sum at the output's scale", Some(sum_to_output)),
            ("its bias at the output's scale", to_output),
        ];
        let saturations = steps
            .into_iter()
            .filter_map(|(what, rescale)| of_rescales(what, &[rescale?]))
            .collect();
        Ok(MulSum {
            weight,
            weight_scale,
            product_scale,
            sum_scale,
            bias,
            product,
            sum,
            sum_to_output,
            output,
            rounding,
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
        let mut sums = vec![0i16; shape.n * shape.o];
        let x = x.as_i16(name)?;
        let counts = mul_sum(x, &self.weight, shape, self.product, self.sum, &mut sums).of(name)?;
        let data = match self.output {
            IntDtype::Int8 => QData::I8(self.add_bias(name, &sums)?),
            IntDtype::Int16 => QData::I16(self.add_bias(name, &sums)?),
        };
        // A sum of K int16 products; the largest it can be, since the kernel keeps no peak.
        let counts = RunCounts {
            total: (shape.n * shape.o * shape.k) as u64,
            zero: counts.zero,
            clipped: counts.clipped,
            peak: (shape.k as u64) << 15,
        };
        Ok((RawOutput::Quantized(data), counts))
    }

    fn add_bias<Y: QInt>(&self, name: &str, sums: &[i16]) -> Result<Vec<Y>> {
        let Some(bias) = &self.bias else {
            let mut y = vec![Y::default(); sums.len()];
            rescale_to(sums, self.sum_to_output, &mut y).of(name)?;
            return Ok(y);
        };
        let [outputs, _] = self.shape;
        let shape = [sums.len() / outputs.max(1), outputs];
        let sums = TensorRef::new(sums, &shape).of(name)?;
        let shape = [outputs];
        let biases = TensorRef::new(&bias.data, &shape).of(name)?;
        let y = add(sums, self.sum_to_output, biases, bias.to_output).of(name)?;
        Ok(y.data)
    }

    pub(super) fn run_fake_quant(
        &self,
        name: &str,
        x: &[f32],
        shape: GemmShape,
    ) -> Result<Vec<f32>> {
        let mut y = vec![0.0; shape.n * shape.o];
        let mut weight = vec![0.0; self.weight.len()];
        dequantize(&self.weight, self.weight_scale, &mut weight).of(name)?;
        mul_sum_fake_quant(x, &weight, shape, self.product_scale, &mut y).of(name)?;
        fake_quantize_in_place(&mut y, self.sum_scale, IntDtype::Int16, self.rounding);
        if let Some(bias) = &self.bias {
            let mut floats = vec![0.0; bias.data.len()];
            dequantize(&bias.data, bias.scale, &mut floats).of(name)?;
            for row in y.chunks_exact_mut(shape.o.max(1)) {
                row.iter_mut().zip(&floats).for_each(|(y, b)| *y += b);
            }
        }
        Ok(y)
    }

    pub(super) fn integers(&self) -> IntegerWeights<'_> {
        let [outputs, inputs] = self.shape;
        let mut parameters = vec![
            Parameter::int16("weight", &self.weight, vec![outputs, inputs]),
            Parameter::scales("weight_scale", vec![self.weight_scale.get()]),
            Parameter::scales("mul_scale", vec![self.product_scale.get()]),
            Parameter::scales("sum_scale", vec![self.sum_scale.get()]),
        ];
        if let Some(bias) = &self.bias {
            parameters.push(Parameter::int16("bias", &bias.data, vec![outputs]));
            parameters.push(Parameter::scales("bias_scale", vec![bias.scale.get()]));
        }
        IntegerWeights { parameters }
    }
}
