//! Linear layers: MatMul with a constant, with or without the Add of a constant vector, and Gemm.
//! A MatMul of two activations is lowered here too.

use std::sync::Arc;

use ndarray::Array1;

use super::{
    build::{Build, Unit},
    facts::Facts,
};
use crate::{
    error::{Error, Result},
    graph::{Linear, Op},
    model::OnnxNode,
};

/// Where the parts of a Linear are in the ONNX graph.
#[derive(Debug)]
pub(super) struct LinearParts<'a> {
    /// The MatMul or Gemm.
    pub(super) product: &'a OnnxNode,
    /// `[.., K]`.
    pub(super) x: &'a str,
    /// Constant of rank 2.
    pub(super) weight: &'a str,
    /// `[K, O]` rather than `[O, K]`.
    turned: bool,
    /// Constant that broadcasts to `[O]`.
    pub(super) bias: Option<&'a str>,
}

/// The Linear whose last node this is.
pub(super) fn recognise<'a>(facts: &Facts<'a>, node: &'a OnnxNode) -> Option<LinearParts<'a>> {
    match node.standard_op() {
        "MatMul" => matmul(facts, node),
        "Gemm" => gemm(facts, node),
        "Add" => {
            let (a, b) = (node.input(0)?, node.input(1)?);
            add(facts, a, b).or_else(|| add(facts, b, a))
        }
        _ => None,
    }
}

fn matmul<'a>(facts: &Facts<'a>, node: &'a OnnxNode) -> Option<LinearParts<'a>> {
    let (x, weight) = (node.input(0)?, node.input(1)?);
    let fits = facts.is_activation(x) && is_weight(facts, weight) && facts.rank(weight) == Some(2);
    fits.then_some(LinearParts {
        product: node,
        x,
        weight,
        turned: true,
        bias: None,
    })
}

/// In canonical form a Gemm has its weight as `[O, K]`, a vector to add and no factors.
fn gemm<'a>(facts: &Facts<'a>, node: &'a OnnxNode) -> Option<LinearParts<'a>> {
    let (x, weight) = (node.input(0)?, node.input(1)?);
    let fits = facts.is_activation(x) && is_weight(facts, weight);
    fits.then_some(LinearParts {
        product: node,
        x,
        weight,
        turned: false,
        bias: node.input(2),
    })
}

/// A constant that has elements: without any there is nothing to choose a way for.
fn is_weight(facts: &Facts<'_>, name: &str) -> bool {
    facts.is_constant(name)
        && facts
            .constant_shape(name)
            .is_some_and(|shape| !shape.contains(&0))
}

/// A MatMul that only this Add uses, and a constant vector.
fn add<'a>(facts: &Facts<'a>, product: &'a str, bias: &'a str) -> Option<LinearParts<'a>> {
    if !facts.used_once(product) {
        return None;
    }
    let parts = matmul(facts, facts.made_by(product, "MatMul")?)?;
    let rank = facts.rank(product)?;
    let fits = is_bias(facts, bias, outputs_of(facts, parts.weight))
        && facts.rank(bias).is_some_and(|bias_rank| bias_rank <= rank);
    fits.then_some(LinearParts {
        bias: Some(bias),
        ..parts
    })
}

/// O of a weight `[K, O]`.
fn outputs_of(facts: &Facts<'_>, weight: &str) -> Option<usize> {
    facts.constant_shape(weight)?.get(1).copied()
}

/// Whether a value is a constant that adds one number to each output channel.
fn is_bias(facts: &Facts<'_>, name: &str, outputs: Option<usize>) -> bool {
    let Some(shape) = facts.constant_shape(name) else {
        return false;
    };
    match shape.split_last() {
        None => true,
        Some((&length, others)) => {
            others.iter().all(|&dim| dim == 1) && (length == 1 || Some(length) == outputs)
        }
    }
}

pub(super) fn lower<'a>(
    build: &mut Build<'a>,
    unit: &Unit<'a>,
    parts: &LinearParts<'a>,
) -> Result<()> {
    let weight = build.weight(parts.weight, parts.turned)?;
    let bias = match parts.bias {
        None => None,
        Some(name) => {
            let tensor = build.finite(name)?;
            let vector: Array1<f32> = tensor.iter().copied().collect();
            let vector = vector
                .broadcast(weight.nrows())
                .ok_or_else(|| Error::Model {
                    file: build.facts.model.file().to_owned(),
                    reason: format!(
                        "constant '{name}' of layer '{}' is no bias of it",
                        unit.name
                    ),
                })?;
            Some(Arc::new(vector.to_owned()))
        }
    };
    let x = build.input(parts.x)?;
    build.output(
        unit,
        Op::Linear(Linear {
            weight,
            bias,
            divided: None,
        }),
        vec![x],
    )
}

/// A product of two activations, or of an activation and a constant on the left.
pub(super) fn lower_matmul<'a>(build: &mut Build<'a>, unit: &Unit<'a>) -> Result<bool> {
    if unit.node.standard_op() != "MatMul" {
        return Ok(false);
    }
    let (Some(a), Some(b)) = (unit.node.input(0), unit.node.input(1)) else {
        return Ok(false);
    };
    let (a, b) = (build.input(a)?, build.input(b)?);
    if build.shape(a).len() < 2 || build.shape(b).len() < 2 {
        return Ok(false);
    }
    build.output(unit, Op::MatMul, vec![a, b])?;
    Ok(true)
}
