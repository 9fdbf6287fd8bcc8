//! One Linear alone: float inputs, only this layer quantized, integer kernels, its output against
//! the float output. One pass over the batches serves every way that is tried.

use dual16_nash::{cost::cost, legality::Legality, linear::GemmShape, ways::Way};

use super::{QuantizedLinear, RunCounts};
use crate::{
    Error, Result,
    exec::QTensor,
    graph::{Linear, Node},
    metrics::ErrorSums,
    plan::{LinearParams, QParams, ScaleSource, inner_params},
    report::WayMeasured,
    tensor::Tensor,
};

/// Errors of one way, batch after batch.
pub struct IsolatedWay {
    way: Way,
    linear: QuantizedLinear,
    sums: ErrorSums,
    counts: RunCounts,
    macs: u64,
}

impl IsolatedWay {
    /// Quantizes the layer in `way`, as if it stood in the model alone.
    pub fn new(
        source: &ScaleSource<'_>,
        index: usize,
        node: &Node,
        linear: &Linear,
        way: Way,
    ) -> Result<Self> {
        let params = isolated_params(source, index, node, linear, way)?;
        Ok(IsolatedWay {
            way,
            linear: QuantizedLinear::new(&node.name, linear, way, &params, source.settings)?,
            sums: ErrorSums::default(),
            counts: RunCounts::default(),
            macs: 0,
        })
    }

    /// Takes in a batch: the input as this way takes it, `[.., K]`, and the float output `[.., O]`.
    fn update(&mut self, name: &str, x: &QTensor, reference: &Tensor) -> Result<()> {
        let run = self.linear.run(x)?;
        let got = run.output.to_float();
        add_errors(&mut self.sums, name, reference, &got)?;
        self.counts = self.counts.merge(run.counts);
        if self.macs == 0 {
            let k = x.shape.last().copied().unwrap_or(0);
            let o = reference.shape().last().copied().unwrap_or(0);
            let shape = GemmShape {
                n: x.len() / k.max(1),
                k,
                o,
            };
            self.macs = cost(self.way, shape).macs;
        }
        Ok(())
    }

    /// The way.
    pub fn way(&self) -> Way {
        self.way
    }

    /// The figures over all batches.
    pub fn finish(self, legality: &Legality) -> WayMeasured {
        let fraction = |count: u64| count as f64 / (self.counts.total.max(1)) as f64;
        WayMeasured {
            way: self.way,
            legal: legality.legal,
            reason: legality.reason.clone(),
            metrics: self
                .sums
                .finish(self.linear.params().output.map(|output| output.scale)),
            macs: self.macs,
            zero_fraction: fraction(self.counts.zero),
            clip_fraction: fraction(self.counts.clipped),
            accumulator_bits: self.counts.accumulator_bits(),
        }
    }
}

/// Every way of one Linear that is measured in one pass.
#[derive(Default)]
pub struct IsolatedLayer {
    /// The ways.
    pub ways: Vec<IsolatedWay>,
}

impl IsolatedLayer {
    /// Takes in a batch: the float input `[.., K]` and the float output `[.., O]`. Ways that take the
    /// same integers share them.
    pub fn update(&mut self, name: &str, x: &Tensor, reference: &Tensor) -> Result<()> {
        let mut quantized: Vec<(QParams, QTensor)> = Vec::new();
        for way in &mut self.ways {
            let params = way.linear.params().input;
            let known = quantized.iter().position(|(of, _)| *of == params);
            let index = match known {
                Some(index) => index,
                None => {
                    quantized.push((params, way.linear.quantize_input(x)?));
                    quantized.len() - 1
                }
            };
            way.update(name, &quantized[index].1, reference)?;
        }
        Ok(())
    }
}

fn isolated_params(
    source: &ScaleSource<'_>,
    index: usize,
    node: &Node,
    linear: &Linear,
    way: Way,
) -> Result<LinearParams> {
    let request = &source.request.linears.get(&index);
    let high_precision = request.is_some_and(|request| request.high_precision);
    let output = match high_precision && way.can_keep_high_precision() {
        true => None,
        false => {
            let output = node.outputs[0];
            Some(source.value(output, source.request.values[output.0].dtype)?)
        }
    };
    Ok(LinearParams {
        input: source.linear_input(index, way.activation_dtype())?,
        output,
        inner: inner_params(source, index, linear, way)?,
    })
}

/// Adds one tensor's errors, naming it where it cannot be compared.
pub(crate) fn add_errors(
    sums: &mut ErrorSums,
    name: &str,
    reference: &Tensor,
    got: &Tensor,
) -> Result<()> {
    let (reference, got) = (reference.as_standard_layout(), got.as_standard_layout());
    let slices = (
        reference.as_slice().unwrap_or_default(),
        got.as_slice().unwrap_or_default(),
    );
    sums.update(slices.0, slices.1)
        .map_err(|error| Error::FloatRun {
            node: name.to_owned(),
            reason: format!("its error cannot be measured: {error}"),
        })
}
