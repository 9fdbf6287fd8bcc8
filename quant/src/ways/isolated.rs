//! One Linear alone: float inputs, only this layer quantized, integer kernels, its output against
//! the float output. One pass over the batches serves every way that is tried.

use std::time::{Duration, Instant};

use dual16_nash::{cost::cost, legality::Legality, linear::GemmShape, ways::Way};

use super::{QuantizedLinear, RunCounts};
use crate::{
    Error, Result,
    cost::OpCost,
    error::KernelContext,
    graph::{Linear, Node, NodeId},
    metrics::ErrorSums,
    plan::{LinearParams, QParams, ScaleSource, inner_params},
    qtensor::QTensor,
    report::WayMeasured,
    tensor::Tensor,
};

/// What one run of a kernel cost, for those who measure the machine. No result depends on it.
#[derive(Debug, Clone, Copy)]
pub struct KernelRun {
    /// The way.
    pub way: Way,
    /// Multiply-accumulates that were done.
    pub products: u64,
    /// Wall time of the kernels, quantizing the input and measuring the errors not included.
    pub took: Duration,
}

/// Errors of one way, batch after batch.
pub struct IsolatedWay {
    way: Way,
    linear: QuantizedLinear,
    sums: ErrorSums,
    counts: RunCounts,
    macs: u64,
    cost: OpCost,
    /// Why it could not go on; it has no figures then.
    failed: Option<String>,
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
        let chip = source.settings.chip().of(&node.name)?;
        let cost = OpCost::of_way(
            (source.graph, source.request),
            (NodeId(index), node, linear),
            way,
            params.output.map(|output| output.dtype),
            &chip,
        );
        Ok(IsolatedWay {
            way,
            cost,
            linear: QuantizedLinear::new(&node.name, linear, way, &params, source.settings)?,
            sums: ErrorSums::default(),
            counts: RunCounts::default(),
            macs: 0,
            failed: None,
        })
    }

    /// Takes in a batch: the input as this way takes it, `[.., K]`, and the float output `[.., O]`.
    fn update(&mut self, name: &str, x: &QTensor, reference: &Tensor) -> Result<KernelRun> {
        let _span = tracing::debug_span!("way", layer = name, way = %self.way).entered();
        let began = Instant::now();
        let run = self.linear.run(x)?;
        let took = began.elapsed();
        let got = run.output.to_float();
        add_errors(&mut self.sums, name, reference, &got)?;
        self.counts = self.counts.merge(run.counts);
        let k = x.shape.last().copied().unwrap_or(0);
        let o = reference.shape().last().copied().unwrap_or(0);
        let shape = GemmShape {
            n: x.len() / k.max(1),
            k,
            o,
        };
        let products = cost(self.way, shape).macs;
        if self.macs == 0 {
            self.macs = products;
        }
        Ok(KernelRun {
            way: self.way,
            products,
            took,
        })
    }

    /// The way.
    pub fn way(&self) -> Way {
        self.way
    }

    /// What saturates in it whatever its input is, a sentence each.
    pub fn saturations(&self) -> &[String] {
        self.linear.saturations()
    }

    /// The figures over all batches.
    pub fn finish(self, legality: &Legality) -> WayMeasured {
        if let Some(reason) = self.failed {
            return WayMeasured::failed(self.way, reason);
        }
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
            cost: self.cost,
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
    /// same integers share them. `told` hears of each run of a way's kernels.
    pub fn update(
        &mut self,
        name: &str,
        x: &Tensor,
        reference: &Tensor,
        told: &mut dyn FnMut(&KernelRun),
    ) -> Result<()> {
        let mut quantized: Vec<(QParams, QTensor)> = Vec::new();
        for way in self.ways.iter_mut().filter(|way| way.failed.is_none()) {
            let params = way.linear.params().input;
            let known = quantized.iter().position(|(of, _)| *of == params);
            let index = match known {
                Some(index) => index,
                None => {
                    quantized.push((params, way.linear.quantize_input(x)?));
                    quantized.len() - 1
                }
            };
            match way.update(name, &quantized[index].1, reference) {
                Ok(run) => told(&run),
                Err(error @ (Error::Kernel { .. } | Error::FloatRun { .. })) => {
                    way.failed = Some(error.to_string());
                }
                Err(error) => return Err(error),
            }
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
