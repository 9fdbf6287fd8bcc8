//! A way with a low-rank branch beside its weight: `x · Wᵀ + b` and `(x · downᵀ) · upᵀ`, every product
//! with an int8 weight and an int16 output, and an Add of the two, as `split` ends in one.

use dual16_nash::{
    dtype::{IntDtype, QInt},
    elementwise::add,
    linear::{AccumulatorPeak, GemmShape, channel_rescales, linear},
    quantize::{Rounding, fake_quantize_in_place},
    requant::Rescale,
    scale::Scale,
    tensor::TensorRef,
};

use super::{
    gemm::{Gemm, integers},
    integers::{IntegerWeights, Parameter},
    linear::{Making, RawOutput, RunCounts, float_weight, linear_f32, output_counts},
    saturation::of_rescales,
};
use crate::{
    Result,
    error::KernelContext,
    fit::{LowRank, Quantized},
    plan::QParams,
    qtensor::{QData, QTensor, each_dtype},
};

/// The weight, the branch, and what adds them.
#[derive(Debug)]
pub(super) struct LowRankBranch {
    main: Gemm,
    down: Factor,
    up: Factor,
    main_scale: Scale,
    /// From the main product's scale to the output's, and from the branch's.
    to_output: [Rescale; 2],
    output: IntDtype,
    rounding: Rounding,
    rank: usize,
    /// What saturates whatever the input is.
    pub(super) saturations: Vec<String>,
}

/// One of the branch's two products, its output int16.
#[derive(Debug)]
struct Factor {
    weight: QData,
    scales: Vec<Scale>,
    shape: [usize; 2],
    output: Scale,
    rescales: Vec<Rescale>,
}

impl Factor {
    fn new(name: &str, weight: &Quantized, input: Scale, output: Scale) -> Result<Self> {
        let shape = weight.q.dim().into();
        let (weight, scales) = integers(name, weight)?;
        Ok(Self {
            rescales: channel_rescales(input, &scales, output),
            weight,
            scales,
            shape,
            output,
        })
    }

    fn run<X: QInt>(&self, name: &str, x: &[X], n: usize) -> Result<(Vec<i16>, AccumulatorPeak)> {
        let [o, k] = self.shape;
        let mut y = vec![0i16; n * o];
        let peak = each_dtype!(&self.weight, w => {
            linear(x, w, GemmShape { n, k, o }, None, &self.rescales, &mut y)
        });
        Ok((y, peak.of(name)?))
    }

    fn run_fake_quant(
        &self,
        name: &str,
        x: &[f32],
        n: usize,
        rounding: Rounding,
    ) -> Result<Vec<f32>> {
        let [o, k] = self.shape;
        let weight = each_dtype!(&self.weight, data => {
            float_weight(name, data, self.shape, &self.scales)?
        });
        let mut y = linear_f32(x, &weight, None, GemmShape { n, k, o });
        fake_quantize_in_place(&mut y, self.output, IntDtype::Int16, rounding);
        Ok(y)
    }
}

impl LowRankBranch {
    /// `main`, `inner` and `branch` are the scales of the three int16 tensors before the Add: the
    /// product with the weight, and what each factor makes.
    pub(super) fn new(
        making: &Making<'_>,
        weight: &Quantized,
        low_rank: &LowRank,
        [main, inner, branch]: [f32; 3],
    ) -> Result<Self> {
        let name = making.name;
        let (output_dtype, output) = making.requantized_output()?;
        let scale = |value| Scale::new(value).of(name);
        let (main_scale, inner, branch) = (scale(main)?, scale(inner)?, scale(branch)?);
        let main = Gemm::fitted(
            &Making {
                output: Some(QParams {
                    dtype: IntDtype::Int16,
                    scale: main,
                }),
                ..*making
            },
            weight,
        )?;
        let down = Factor::new(name, &low_rank.down, making.input, inner)?;
        let up = Factor::new(name, &low_rank.up, inner, branch)?;
        let to_output = [main_scale, branch].map(|scale| Rescale::between(scale, output));
        let mut saturations = main.saturations.clone();
        for (what, rescales) in [
            (
                "its low-rank branch's accumulator at the inner scale",
                &down.rescales[..],
            ),
            (
                "its low-rank branch's accumulator at the branch's scale",
                &up.rescales,
            ),
            ("its product at the output's scale", &to_output[..1]),
            ("its low-rank branch at the output's scale", &to_output[1..]),
        ] {
            saturations.extend(of_rescales(what, rescales));
        }
        Ok(Self {
            rank: low_rank.rank(),
            main,
            down,
            up,
            main_scale,
            to_output,
            output: output_dtype,
            rounding: making.rounding,
            saturations,
        })
    }

    pub(super) fn run(
        &self,
        name: &str,
        x: &QTensor,
        shape: GemmShape,
    ) -> Result<(RawOutput, RunCounts)> {
        let (main, peak) = self.main.run_int16(name, x, shape)?;
        let (inner, of_down) = each_dtype!(&x.data, x => self.down.run(name, x, shape.n)?);
        let (branch, of_up) = self.up.run(name, &inner, shape.n)?;
        let data = match self.output {
            IntDtype::Int8 => QData::I8(self.add(name, &main, &branch)?),
            IntDtype::Int16 => QData::I16(self.add(name, &main, &branch)?),
        };
        let counts = output_counts(&data, peak.merge(of_down).merge(of_up));
        Ok((RawOutput::Quantized(data), counts))
    }

    fn add<Y: QInt>(&self, name: &str, main: &[i16], branch: &[i16]) -> Result<Vec<Y>> {
        let shape = [main.len()];
        let main = TensorRef::new(main, &shape).of(name)?;
        let branch = TensorRef::new(branch, &shape).of(name)?;
        let [to_main, to_branch] = self.to_output;
        Ok(add(main, to_main, branch, to_branch).of(name)?.data)
    }

    pub(super) fn run_fake_quant(
        &self,
        name: &str,
        x: &[f32],
        shape: GemmShape,
    ) -> Result<Vec<f32>> {
        let mut y = self.main.run_fake_quant(name, x, shape)?;
        fake_quantize_in_place(&mut y, self.main_scale, IntDtype::Int16, self.rounding);
        let inner = self.down.run_fake_quant(name, x, shape.n, self.rounding)?;
        let branch = self
            .up
            .run_fake_quant(name, &inner, shape.n, self.rounding)?;
        y.iter_mut().zip(&branch).for_each(|(y, b)| *y += b);
        Ok(y)
    }

    pub(super) fn integers(&self) -> IntegerWeights<'_> {
        let mut parameters = self.main.integers().parameters;
        let [outputs, inputs] = self.main.shape();
        let scales = |factor: &Factor| factor.scales.iter().map(|scale| scale.get()).collect();
        let one = |scale: Scale| vec![scale.get()];
        let (down, up) = (&self.down, &self.up);
        parameters.extend([
            Parameter::quantized("lowrank_down", &down.weight, vec![self.rank, inputs]),
            Parameter::scales("lowrank_down_scale", scales(down)),
            Parameter::quantized("lowrank_up", &up.weight, vec![outputs, self.rank]),
            Parameter::scales("lowrank_up_scale", scales(up)),
            Parameter::scales("main_scale", one(self.main_scale)),
            Parameter::scales("lowrank_inner_scale", one(down.output)),
            Parameter::scales("lowrank_scale", one(up.output)),
        ]);
        IntegerWeights { parameters }
    }
}
