//! The way `split`: an int16 weight as two int8 planes, two Linears and an int16 Add.

use std::sync::Arc;

use dual16_nash::{
    dtype::{IntDtype, QInt},
    elementwise::add,
    linear::{GemmShape, channel_rescales, linear, quantize_bias},
    quantize::{Rounding, fake_quantize_in_place},
    requant::Rescale,
    scale::Scale,
    split::SplitWeight,
    tensor::TensorRef,
};

use super::{
    integers::{IntegerWeights, Parameter},
    linear::{Making, RawOutput, RunCounts, float_weight, linear_f32, output_counts},
    saturation::of_rescales,
};
use crate::{
    Result,
    error::KernelContext,
    qtensor::{QData, QTensor},
};

/// Both planes.
#[derive(Debug)]
pub(super) struct Split {
    high: Plane,
    low: Plane,
    /// The bias rides on the high plane.
    bias: Option<Vec<i32>>,
    float_bias: Option<Vec<f32>>,
    output: IntDtype,
    rounding: Rounding,
    shape: [usize; 2],
    /// What saturates whatever the input is.
    pub(super) saturations: Vec<String>,
}

/// One int8 Linear with an int16 output.
#[derive(Debug)]
struct Plane {
    /// Held once by all Linears of the weight.
    weight: Arc<Vec<i8>>,
    scales: Vec<Scale>,
    output: Scale,
    rescales: Vec<Rescale>,
    to_output: Rescale,
}

impl Plane {
    fn new(
        making: &Making<'_>,
        (weight, scales): (Arc<Vec<i8>>, Vec<Scale>),
        plane: f32,
        output: Scale,
    ) -> Result<Self> {
        let name = making.name;
        let plane = Scale::new(plane).of(name)?;
        Ok(Plane {
            rescales: channel_rescales(making.input, &scales, plane),
            to_output: Rescale::between(plane, output),
            output: plane,
            weight,
            scales,
        })
    }
}

impl Split {
    /// `same` has the same weight, and so the same planes.
    pub(super) fn new(
        making: &Making<'_>,
        high: f32,
        low: f32,
        same: Option<&Split>,
    ) -> Result<Self> {
        let name = making.name;
        let held = |plane: &Plane| (Arc::clone(&plane.weight), plane.scales.clone());
        let (high_plane, low_plane) = match same {
            Some(same) => (held(&same.high), held(&same.low)),
            None => {
                let planes = SplitWeight::new(making.weight, making.shape).of(name)?;
                let scales = planes.hi_scales().of(name)?;
                let low = (Arc::new(planes.lo), planes.scales);
                ((Arc::new(planes.hi), scales), low)
            }
        };
        let high_scales = &high_plane.1;
        let (output_dtype, output) = making.requantized_output()?;
        let bias = match making.bias {
            Some(bias) => Some(quantize_bias(bias, making.input, high_scales).of(name)?),
            None => None,
        };
        let mut saturations = making.saturated_bias(high_scales);
        let high = Plane::new(making, high_plane, high, output)?;
        let low = Plane::new(making, low_plane, low, output)?;
        for (name, plane) in [("high", &high), ("low", &low)] {
            let accumulator = format!("its {name} plane's accumulator at the plane's scale");
            saturations.extend(of_rescales(&accumulator, &plane.rescales));
            let sum = format!("its {name} plane at the output's scale");
            saturations.extend(of_rescales(&sum, &[plane.to_output]));
        }
        Ok(Split {
            high,
            low,
            bias,
            float_bias: making.bias.map(<[f32]>::to_vec),
            output: output_dtype,
            rounding: making.rounding,
            shape: making.shape,
            saturations,
        })
    }

    pub(super) fn run(
        &self,
        name: &str,
        x: &QTensor,
        shape: GemmShape,
    ) -> Result<(RawOutput, RunCounts)> {
        let x = x.as_i16(name)?;
        let mut high = vec![0i16; shape.n * shape.o];
        let mut low = high.clone();
        let Split {
            high: h, low: l, ..
        } = self;
        let bias = self.bias.as_deref();
        let peak = linear(x, &h.weight, shape, bias, &h.rescales, &mut high).of(name)?;
        let low_peak = linear(x, &l.weight, shape, None, &l.rescales, &mut low).of(name)?;
        let data = match self.output {
            IntDtype::Int8 => QData::I8(self.add(name, &high, &low)?),
            IntDtype::Int16 => QData::I16(self.add(name, &high, &low)?),
        };
        let counts = output_counts(&data, peak.merge(low_peak));
        Ok((RawOutput::Quantized(data), counts))
    }

    fn add<Y: QInt>(&self, name: &str, high: &[i16], low: &[i16]) -> Result<Vec<Y>> {
        let shape = [high.len()];
        let high_part = TensorRef::new(high, &shape).of(name)?;
        let low_part = TensorRef::new(low, &shape).of(name)?;
        let (to_high, to_low) = (self.high.to_output, self.low.to_output);
        let sum = add(high_part, to_high, low_part, to_low).of(name)?;
        Ok(sum.data)
    }

    pub(super) fn run_fake_quant(
        &self,
        name: &str,
        x: &[f32],
        shape: GemmShape,
    ) -> Result<Vec<f32>> {
        let plane = |plane: &Plane, bias: Option<&[f32]>| -> Result<Vec<f32>> {
            let weight = float_weight(name, &plane.weight, self.shape, &plane.scales)?;
            let mut y = linear_f32(x, &weight, bias, shape);
            fake_quantize_in_place(&mut y, plane.output, IntDtype::Int16, self.rounding);
            Ok(y)
        };
        let mut y = plane(&self.high, self.float_bias.as_deref())?;
        let low = plane(&self.low, None)?;
        y.iter_mut().zip(&low).for_each(|(y, low)| *y += low);
        Ok(y)
    }

    pub(super) fn integers(&self) -> IntegerWeights<'_> {
        let [outputs, inputs] = self.shape;
        let scales = |plane: &Plane| plane.scales.iter().map(|scale| scale.get()).collect();
        let mut parameters = vec![
            Parameter::int8("weight_hi", &self.high.weight, vec![outputs, inputs]),
            Parameter::int8("weight_lo", &self.low.weight, vec![outputs, inputs]),
            Parameter::scales("weight_hi_scale", scales(&self.high)),
            Parameter::scales("weight_lo_scale", scales(&self.low)),
            Parameter::scales("hi_scale", vec![self.high.output.get()]),
            Parameter::scales("lo_scale", vec![self.low.output.get()]),
        ];
        if let Some(bias) = &self.bias {
            parameters.push(Parameter::bias32("bias", bias));
        }
        IntegerWeights { parameters }
    }
}
