//! What is handed back, as the flow has it, and the parts of a Linear's weight in floats.

use dual16_nash::{
    dtype::IntDtype,
    scale::{Scale, per_channel_scales},
    split::SplitWeight,
};
use ndarray::{Array1, Array2, ArrayD};

use crate::{
    Error, Result,
    error::KernelContext,
    fit::{Fitted, Quantized},
    graph::{Graph, Linear, Node, NodeId, Op},
    model::Model,
    plan::{InnerParams, LinearPlan, Plan},
    settings::Settings,
};

/// A model, the graph that runs and its plan.
pub(crate) struct Source<'a> {
    /// Canonical form.
    pub(crate) model: &'a Model,
    /// The model as it is, lowered.
    pub(crate) plain: &'a Graph,
    /// The graph of the plan: the same with remedies.
    pub(crate) graph: &'a Graph,
    /// What runs.
    pub(crate) plan: &'a Plan,
    /// What was asked for.
    pub(crate) settings: &'a Settings,
    /// The model's file name.
    pub(crate) file: &'a str,
    /// The fitted integers of a Linear, by node index; one Linear is asked for at a time.
    pub(crate) fitted: &'a dyn Fn(usize) -> Result<Option<Fitted>>,
}

/// A part of what a Linear multiplies by. A name ends in `_t` where it is `[K, O]`, as MatMul reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// The weight, fitted or as the graph has it, `[K, O]`.
    Weight,
    /// The same as `[O, K]`.
    Rows,
    /// The high plane of `split`, `[K, O]`.
    High,
    /// What it leaves of the weight, `[K, O]`.
    Low,
    /// First factor of a low-rank branch, `[K, r]`.
    Down,
    /// Second factor, `[r, O]`.
    Up,
    /// The bias, `[O]`.
    Bias,
    /// A scale for each output channel of the weight, of the first plane of `split`.
    Scales,
    /// Of the second plane of `split`.
    LowScales,
    /// Of the factors of a low-rank branch.
    DownScales,
    /// The same.
    UpScales,
}

impl Part {
    /// What follows the layer's name and a dot.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Part::Weight => "weight_t",
            Part::Rows => "weight",
            Part::High => "weight_hi_t",
            Part::Low => "weight_lo_t",
            Part::Down => "lowrank_down_t",
            Part::Up => "lowrank_up_t",
            Part::Bias => "bias",
            Part::Scales => "weight_scale",
            Part::LowScales => "weight_lo_scale",
            Part::DownScales => "lowrank_down_scale",
            Part::UpScales => "lowrank_up_scale",
        }
    }
}

impl<'a> Source<'a> {
    /// A Linear and its plan.
    pub(super) fn linear(&self, id: usize) -> Result<(&'a Node, &'a Linear, &'a LinearPlan)> {
        let node = self.graph.nodes.get(id);
        let planned = self.plan.linears.get(&id);
        match (node, planned) {
            (Some(node), Some(planned)) => match &node.op {
                Op::Linear(linear) => Ok((node, linear, planned)),
                _ => Err(unplanned(id)),
            },
            _ => Err(unplanned(id)),
        }
    }

    /// The fitted integers of a Linear that runs with some.
    fn fitted(&self, id: usize) -> Result<Fitted> {
        (self.fitted)(id)?.ok_or_else(|| unplanned(id))
    }

    /// The bias that a Linear runs with; None where there is none.
    pub(super) fn bias(&self, id: usize) -> Result<Option<Array1<f32>>> {
        let (_, linear, planned) = self.linear(id)?;
        Ok(match planned.params.fit {
            Some(_) => Some(Array1::from(self.fitted(id)?.bias)),
            None => linear.bias.as_deref().cloned(),
        })
    }

    /// Width of the branch of a Linear that has one.
    pub(super) fn rank(&self, id: usize) -> Result<usize> {
        let fitted = self.fitted(id)?;
        fitted
            .low_rank
            .map(|branch| branch.rank())
            .ok_or_else(|| unplanned(id))
    }

    /// A part of a Linear in floats.
    ///
    /// # Errors
    /// Fitted integers that cannot be read; a weight that cannot be quantized.
    pub(super) fn part(&self, id: usize, part: Part) -> Result<ArrayD<f32>> {
        let (node, linear, planned) = self.linear(id)?;
        let fit = planned.params.fit.is_some();
        let turned = |weight: Array2<f32>| weight.reversed_axes().into_dyn();
        let vector = |values: Vec<f32>| Array1::from(values).into_dyn();
        let branch = || -> Result<_> {
            let fitted = self.fitted(id)?;
            fitted.low_rank.ok_or_else(|| unplanned(id))
        };
        Ok(match part {
            Part::Weight if fit => turned(floats(&self.fitted(id)?.weight)),
            Part::Rows if fit => floats(&self.fitted(id)?.weight).into_dyn(),
            Part::Weight => linear.weight.t().to_owned().into_dyn(),
            Part::Rows => linear.weight.to_owned().into_dyn(),
            Part::High | Part::Low => turned(plane(&node.name, linear, part)?),
            Part::Down => turned(floats(&branch()?.down)),
            Part::Up => turned(floats(&branch()?.up)),
            Part::Bias => {
                let bias = self.bias(id)?.ok_or_else(|| unplanned(id))?;
                bias.into_dyn()
            }
            Part::DownScales => vector(branch()?.down.scales),
            Part::UpScales => vector(branch()?.up.scales),
            Part::Scales if fit => vector(self.fitted(id)?.weight.scales),
            Part::Scales | Part::LowScales => {
                let weight = linear.weight.as_standard_layout();
                let weight = weight.as_slice().unwrap_or_default();
                let shape = linear.weight.dim().into();
                let scales = match planned.params.inner {
                    InnerParams::Split { .. } => {
                        let planes = SplitWeight::new(weight, shape).of(&node.name)?;
                        match part {
                            Part::Scales => planes.hi_scales().of(&node.name)?,
                            _ => planes.scales,
                        }
                    }
                    _ => per_channel_scales(
                        weight,
                        shape,
                        planned.way.weight_dtype(),
                        self.settings.scale_rule,
                        self.settings.power_of_two,
                    )
                    .of(&node.name)?,
                };
                vector(scales.into_iter().map(Scale::get).collect())
            }
        })
    }

    /// The shape of a part, which is known without making it.
    pub(super) fn shape(&self, id: usize, part: Part) -> Result<Vec<usize>> {
        let (_, linear, _) = self.linear(id)?;
        let (o, k) = linear.weight.dim();
        Ok(match part {
            Part::Weight | Part::High | Part::Low => vec![k, o],
            Part::Rows => vec![o, k],
            Part::Down => vec![k, self.rank(id)?],
            Part::Up => vec![self.rank(id)?, o],
            Part::DownScales => vec![self.rank(id)?],
            Part::Bias | Part::Scales | Part::LowScales | Part::UpScales => vec![o],
        })
    }

    /// Integer type of a Linear's weight.
    pub(super) fn weight_dtype(planned: &LinearPlan) -> IntDtype {
        match planned.params.inner {
            InnerParams::MulSum { .. } => IntDtype::Int16,
            InnerParams::Split { .. } | InnerParams::LowRank { .. } => IntDtype::Int8,
            InnerParams::Gemm => planned.way.weight_dtype(),
        }
    }

    /// Whether a node is of the model as it is, and no remedy's.
    pub(super) fn is_plain(&self, id: NodeId) -> bool {
        id.0 < self.plain.nodes.len()
    }
}

/// The values that integers stand for.
fn floats(quantized: &Quantized) -> Array2<f32> {
    let mut weight = quantized.q.mapv(f32::from);
    for (mut row, scale) in weight.rows_mut().into_iter().zip(&quantized.scales) {
        row *= *scale;
    }
    weight
}

/// The high plane of a weight, or what it leaves; they add up to the weight.
fn plane(name: &str, linear: &Linear, part: Part) -> Result<Array2<f32>> {
    let shape = linear.weight.dim();
    let (hi, scales) = {
        let weight = linear.weight.as_standard_layout();
        let weight = weight.as_slice().unwrap_or_default();
        let planes = SplitWeight::new(weight, shape.into()).of(name)?;
        let scales = planes.hi_scales().of(name)?;
        (planes.hi, scales)
    };
    let hi = Array2::from_shape_vec(shape, hi).map_err(|error| Error::FloatRun {
        node: name.to_owned(),
        reason: error.to_string(),
    })?;
    let mut plane = hi.mapv(f32::from);
    let rows = plane.rows_mut().into_iter().zip(linear.weight.rows());
    for ((mut row, weight), scale) in rows.zip(&scales) {
        row *= scale.get();
        if part == Part::Low {
            row.zip_mut_with(&weight, |high, w| *high = w - *high);
        }
    }
    Ok(plane)
}

fn unplanned(id: usize) -> Error {
    Error::Payload {
        what: "plan",
        reason: format!("it has no such Linear with number {id}"),
    }
}
