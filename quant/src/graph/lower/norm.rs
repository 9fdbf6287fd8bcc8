//! LayerNorm and Softmax, decomposed as the chip runs them. LayerNorm is recognised as one node and
//! as the eight that exporters wrote before ONNX had it.

use dual16_nash::lut::LutFunction;

use super::{
    build::{Build, Unit},
    facts::Facts,
    units::Pattern,
};
use crate::{
    error::Result,
    graph::{Op, ReduceKind, ValueId},
    model::OnnxNode,
};

/// Default `epsilon` of LayerNormalization.
const DEFAULT_EPSILON: f32 = 1e-5;

/// Where the parts of a LayerNorm are in the ONNX graph.
#[derive(Debug, Clone)]
pub(super) struct LayerNormParts<'a> {
    /// What is normalized.
    pub(super) x: &'a str,
    /// Factor, if any.
    pub(super) weight: Option<&'a str>,
    /// Summand, if any.
    pub(super) bias: Option<&'a str>,
    /// Sorted.
    axes: Vec<usize>,
    epsilon: f32,
}

/// The LayerNorm whose last node this is.
pub(super) fn recognise_layer_norm<'a>(
    facts: &Facts<'a>,
    node: &'a OnnxNode,
) -> Option<LayerNormParts<'a>> {
    match node.standard_op() {
        "LayerNormalization" => one_node(facts, node),
        "Add" => {
            let (a, b) = (node.input(0)?, node.input(1)?);
            let biased = |product: &'a str, bias: &'a str| {
                let parts = weighted(facts, facts.made_by(product, "Mul")?)?;
                fits(facts, bias, &parts).then_some(LayerNormParts {
                    bias: Some(bias),
                    ..parts
                })
            };
            biased(a, b).or_else(|| biased(b, a))
        }
        "Mul" => weighted(facts, node),
        "Div" => quotient(facts, node),
        _ => None,
    }
}

fn one_node<'a>(facts: &Facts<'a>, node: &'a OnnxNode) -> Option<LayerNormParts<'a>> {
    let x = node.input(0)?;
    let first = facts.axis(x, node.int("axis").unwrap_or(-1))?;
    // Its mean and deviation are inner values here; a model that uses them keeps the node.
    let extra = node
        .outputs
        .iter()
        .skip(1)
        .any(|name| !name.is_empty() && facts.is_used(name));
    (facts.is_activation(x) && !extra).then(|| LayerNormParts {
        x,
        weight: node.input(1),
        bias: node.input(2),
        axes: (first..facts.rank(x).unwrap_or(first)).collect(),
        epsilon: node.float("epsilon").unwrap_or(DEFAULT_EPSILON),
    })
}

fn weighted<'a>(facts: &Facts<'a>, node: &'a OnnxNode) -> Option<LayerNormParts<'a>> {
    let (a, b) = (node.input(0)?, node.input(1)?);
    let scaled = |normalized: &'a str, weight: &'a str| {
        let parts = quotient(facts, facts.made_by(normalized, "Div")?)?;
        fits(facts, weight, &parts).then_some(LayerNormParts {
            weight: Some(weight),
            ..parts
        })
    };
    scaled(a, b).or_else(|| scaled(b, a))
}

/// (x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon).
fn quotient<'a>(facts: &Facts<'a>, node: &'a OnnxNode) -> Option<LayerNormParts<'a>> {
    let (x, axes) = centred(facts, node.input(0)?)?;
    let deviation = facts.made_by(node.input(1)?, "Sqrt")?;
    let (variance, epsilon) = facts.with_scalar(facts.made_by(deviation.input(0)?, "Add")?)?;
    let variance = facts.made_by(variance, "ReduceMean")?;
    let square = facts.producer(variance.input(0)?)?;
    let base = match square.standard_op() {
        "Pow" if facts.scalar(square.input(1)?) == Some(2.0) => square.input(0)?,
        "Mul" if square.input(0) == square.input(1) => square.input(0)?,
        _ => return None,
    };
    let same = centred(facts, base)? == (x, axes.clone()) && mean_axes(facts, variance)? == axes;
    same.then_some(LayerNormParts {
        x,
        weight: None,
        bias: None,
        axes,
        epsilon,
    })
}

/// x and the axes of the mean in x - mean(x).
fn centred<'a>(facts: &Facts<'a>, name: &str) -> Option<(&'a str, Vec<usize>)> {
    let difference = facts.made_by(name, "Sub")?;
    let x = difference.input(0)?;
    let mean = facts.made_by(difference.input(1)?, "ReduceMean")?;
    let axes = mean_axes(facts, mean)?;
    (mean.input(0) == Some(x) && facts.is_activation(x)).then_some((x, axes))
}

/// Axes of a mean that keeps them, if they are the last ones.
fn mean_axes(facts: &Facts<'_>, mean: &OnnxNode) -> Option<Vec<usize>> {
    let x = mean.input(0)?;
    let given = match mean.input(1) {
        Some(name) => facts.integers(name)?,
        None => mean.ints("axes")?,
    };
    let mut axes: Vec<usize> = given
        .iter()
        .map(|&axis| facts.axis(x, axis))
        .collect::<Option<_>>()?;
    axes.sort_unstable();
    axes.dedup();
    let rank = facts.rank(x)?;
    let first = rank.checked_sub(axes.len())?;
    let last = !axes.is_empty() && axes.iter().copied().eq(first..rank);
    (last && mean.int("keepdims").unwrap_or(1) != 0).then_some(axes)
}

/// Whether a parameter is a constant over the normalized axes only.
fn fits(facts: &Facts<'_>, name: &str, parts: &LayerNormParts<'_>) -> bool {
    facts
        .constant_shape(name)
        .is_some_and(|shape| shape.len() <= parts.axes.len())
}

/// Names as the vendor's debug tool prints them.
pub(super) fn lower_layer_norm<'a>(
    build: &mut Build<'a>,
    unit: &Unit<'a>,
    parts: &LayerNormParts<'a>,
) -> Result<()> {
    let x = build.input(parts.x)?;
    let whole = build.shape(x).to_vec();
    let reduced = kept(&whole, &parts.axes);
    let mean = || Op::Reduce {
        kind: ReduceKind::Mean,
        axes: parts.axes.clone(),
        keepdims: true,
    };
    let rsqrt = Op::Lut(LutFunction::Rsqrt {
        eps: f64::from(parts.epsilon),
    });

    let average = build.inner(
        unit,
        "input_mean.pre_mean",
        mean(),
        vec![x],
        reduced.clone(),
    );
    let centred = build.inner(unit, "sub", Op::Sub, vec![x, average], whole.clone());
    let square = build.inner(unit, "mul", Op::Mul, vec![centred, centred], whole.clone());
    let variance = build.inner(
        unit,
        "var_mean.pre_mean",
        mean(),
        vec![square],
        reduced.clone(),
    );
    let inverse = build.inner(unit, "rsqrt", rsqrt, vec![variance], reduced);

    let mut steps = vec![("out_mul", Op::Mul, inverse)];
    if let Some(weight) = parts.weight {
        steps.push(("weight_mul", Op::Mul, build.input(weight)?));
    }
    if let Some(bias) = parts.bias {
        steps.push(("bias_add", Op::Add, build.input(bias)?));
    }
    let mut value = centred;
    let last = steps.len() - 1;
    for (index, (suffix, op, operand)) in steps.into_iter().enumerate() {
        let inputs: Vec<ValueId> = vec![value, operand];
        if index == last {
            return build.named_output(unit, &format!("{}.{suffix}", unit.name), op, inputs);
        }
        value = build.inner(unit, suffix, op, inputs, whole.clone());
    }
    Ok(())
}

/// The Softmax that this node is.
pub(super) fn recognise_softmax<'a>(facts: &Facts<'a>, node: &'a OnnxNode) -> Option<Pattern<'a>> {
    if node.standard_op() != "Softmax" {
        return None;
    }
    let x = node.input(0)?;
    let axis = facts.axis(x, node.int("axis").unwrap_or(-1))?;
    facts
        .is_activation(x)
        .then_some(Pattern::Softmax { x, axis })
}

/// exp(x - max(x)) / sum(exp(x - max(x))).
pub(super) fn lower_softmax<'a>(
    build: &mut Build<'a>,
    unit: &Unit<'a>,
    x: &'a str,
    axis: usize,
) -> Result<()> {
    let x = build.input(x)?;
    let whole = build.shape(x).to_vec();
    let reduced = kept(&whole, &[axis]);
    let reduce = |kind| Op::Reduce {
        kind,
        axes: vec![axis],
        keepdims: true,
    };

    let max = build.inner(
        unit,
        "max",
        reduce(ReduceKind::Max),
        vec![x],
        reduced.clone(),
    );
    let shifted = build.inner(unit, "sub", Op::Sub, vec![x, max], whole.clone());
    let exp = build.inner(unit, "exp", Op::Lut(LutFunction::Exp), vec![shifted], whole);
    let sum = build.inner(
        unit,
        "sum",
        reduce(ReduceKind::Sum),
        vec![exp],
        reduced.clone(),
    );
    let inverse = Op::Lut(LutFunction::Reciprocal);
    let inverse = build.inner(unit, "reciprocal", inverse, vec![sum], reduced);
    build.named_output(
        unit,
        &format!("{}.mul", unit.name),
        Op::Mul,
        vec![exp, inverse],
    )
}

/// A shape with some axes reduced to length 1.
fn kept(shape: &[usize], axes: &[usize]) -> Vec<usize> {
    let length = |(axis, &dim): (usize, &usize)| if axes.contains(&axis) { 1 } else { dim };
    shape.iter().enumerate().map(length).collect()
}
