//! One Linear alone: float inputs, only this layer quantized, integer kernels, its output against
//! the float output. One pass over the batches serves every way that is tried.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dual16_nash::{cost::cost, legality::Legality, linear::GemmShape, ways::Way};

use super::{Integers, QuantizedLinear, RunCounts};
use crate::{
    Error, Result,
    cost::OpCost,
    error::KernelContext,
    fit::{Fit, Fitted},
    graph::{Linear, Node, NodeId},
    metrics::ErrorSums,
    plan::{LinearParams, QParams, ScaleSource, inner_params, keeps_high_precision},
    qtensor::QTensor,
    report::{WayFitted, WayMeasured},
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

/// A way with integers that were fitted for it.
pub struct FittedWay {
    /// The integers.
    pub fitted: Fitted,
    /// What is told of them.
    pub told: WayFitted,
    /// Scale of the input as it takes it.
    pub input_scale: f32,
}

/// Errors of one way, batch after batch.
pub struct IsolatedWay {
    way: Way,
    fitted: Option<Arc<FittedWay>>,
    linear: QuantizedLinear,
    sums: ErrorSums,
    counts: RunCounts,
    macs: u64,
    cost: OpCost,
    /// Why it could not go on; it has no figures then.
    failed: Option<String>,
}

impl IsolatedWay {
    /// Quantizes the layer in `way`, as if it stood in the model alone; with integers that were fitted
    /// for it where some are given.
    pub fn new(
        source: &ScaleSource<'_>,
        index: usize,
        (node, linear): (&Node, &Linear),
        way: Way,
        fitted: Option<Arc<FittedWay>>,
    ) -> Result<Self> {
        let params = isolated_params(source, index, (node, linear), way, fitted.as_deref())?;
        let fit = fitted.as_ref().map(|fitted| fitted.told.fit.fit);
        let chip = source.settings.chip().of(&node.name)?;
        let cost = OpCost::of_way(
            (source.graph, source.request),
            (NodeId(index), node, linear),
            (way, fit),
            params.output.map(|output| output.dtype),
            &chip,
        );
        let integers = Integers {
            linear,
            fitted: fitted.as_ref().map(|fitted| &fitted.fitted),
        };
        Ok(IsolatedWay {
            way,
            cost,
            linear: QuantizedLinear::new(&node.name, integers, way, &params, source.settings)?,
            fitted,
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
        let rank = self
            .fitted
            .as_ref()
            .map_or(0, |fitted| fitted.told.fit.fit.rank);
        let branch = shape.n as u64 * u64::from(rank) * (k + o) as u64;
        let products = cost(self.way, shape).macs.saturating_add(branch);
        if self.macs == 0 {
            self.macs = products;
        }
        Ok(KernelRun {
            way: self.way,
            products,
            took,
        })
    }

    /// A way that cannot run here has no figures; any other trouble is the job's.
    fn fail(&mut self, error: Error) -> Result<()> {
        match error {
            Error::Kernel { .. } | Error::FloatRun { .. } => {
                self.failed = Some(error.to_string());
                Ok(())
            }
            error => Err(error),
        }
    }

    /// The way.
    pub fn way(&self) -> Way {
        self.way
    }

    /// How it is fitted, where it is.
    pub fn fit(&self) -> Option<Fit> {
        self.fitted.as_ref().map(|fitted| fitted.told.fit.fit)
    }

    /// What saturates in it whatever its input is, a sentence each.
    pub fn saturations(&self) -> &[String] {
        self.linear.saturations()
    }

    /// The figures over all batches.
    pub fn finish(self, legality: &Legality) -> WayMeasured {
        let fitted = self.fitted.as_ref().map(|fitted| fitted.told.clone());
        if let Some(reason) = self.failed {
            return WayMeasured {
                fitted,
                ..WayMeasured::failed(self.way, reason)
            };
        }
        let fraction = |count: u64| count as f64 / (self.counts.total.max(1)) as f64;
        WayMeasured {
            way: self.way,
            fitted,
            weight_bytes: self.linear.integers().bytes(),
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
            let columns = way
                .fitted
                .as_ref()
                .and_then(|fitted| fitted.fitted.columns.as_ref());
            if let Some(columns) = columns {
                // What the layer before gives once it has taken the factors in.
                let x = divided(x, columns);
                match way.update(name, &way.linear.quantize_input(&x)?, reference) {
                    Ok(run) => told(&run),
                    Err(error) => way.fail(error)?,
                }
                continue;
            }
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
                Err(error) => way.fail(error)?,
            }
        }
        Ok(())
    }
}

/// A tensor `[.., K]` with each column divided by its factor.
fn divided(x: &Tensor, columns: &[f64]) -> Tensor {
    let mut x = x.clone();
    for mut row in x.rows_mut() {
        for (x, factor) in row.iter_mut().zip(columns) {
            *x = (f64::from(*x) / factor) as f32;
        }
    }
    x
}

fn isolated_params(
    source: &ScaleSource<'_>,
    index: usize,
    (node, linear): (&Node, &Linear),
    way: Way,
    fitted: Option<&FittedWay>,
) -> Result<LinearParams> {
    let request = &source.request.linears.get(&index);
    let fit = fitted.map(|fitted| &fitted.told.fit);
    let high_precision = request.is_some_and(|request| request.high_precision);
    let output = match high_precision && keeps_high_precision(way, fit) {
        true => None,
        false => {
            let output = node.outputs[0];
            Some(source.value(output, source.request.values[output.0].dtype)?)
        }
    };
    let input = match fitted {
        Some(fitted) => QParams {
            dtype: way.activation_dtype(),
            scale: fitted.input_scale,
        },
        None => source.linear_input(index, way.activation_dtype())?,
    };
    Ok(LinearParams {
        input,
        output,
        inner: inner_params(source, index, linear, way, fit)?,
        fit: fit.cloned(),
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
