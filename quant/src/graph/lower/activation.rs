//! Functions of one variable that exporters write as several nodes: gelu (exact and by tanh) and
//! silu. The products are matched whatever their order and association.

use std::f32::consts::{FRAC_1_SQRT_2, PI};

use dual16_nash::lut::LutFunction;

use super::{facts::Facts, units::Pattern};
use crate::model::OnnxNode;

/// Coefficient of the cube in the tanh form (Hendrycks and Gimpel, Gaussian Error Linear Units).
const GELU_CUBE: f32 = 0.044_715;

/// How far a printed constant may be from the true one, relative to it.
const TOLERANCE: f32 = 1e-3;

/// How deep a nest of products is looked into: no exporter comes near it.
const DEPTH: usize = 6;

/// The function whose last node this is.
pub(super) fn recognise<'a>(facts: &Facts<'a>, node: &'a OnnxNode) -> Option<Pattern<'a>> {
    if node.standard_op() != "Mul" {
        return None;
    }
    let (x, function) = silu(facts, node).or_else(|| gelu(facts, node))?;
    Some(Pattern::Lut { x, function })
}

/// x * sigmoid(x).
fn silu<'a>(facts: &Facts<'a>, node: &'a OnnxNode) -> Option<(&'a str, LutFunction)> {
    let (a, b) = (node.input(0)?, node.input(1)?);
    let gate = |x: &str, gate: &str| {
        facts
            .made_by(gate, "Sigmoid")?
            .input(0)
            .filter(|&of| of == x)
    };
    let x = gate(a, b).or_else(|| gate(b, a))?;
    facts.is_activation(x).then_some((x, LutFunction::Silu))
}

/// 0.5 * x * (1 + f(x)), f = erf(x / sqrt 2) or the tanh that stands for it.
fn gelu<'a>(facts: &Facts<'a>, node: &'a OnnxNode) -> Option<(&'a str, LutFunction)> {
    let whole = product(facts, node, |_| false);
    let (x, sum, function) = whole.factors.iter().find_map(|&factor| {
        let (of, one) = facts.with_scalar(facts.made_by(factor, "Add")?)?;
        let (x, function) = exact(facts, of).or_else(|| by_tanh(facts, of))?;
        close(one, 1.0).then_some((x, factor, function))
    })?;
    // Again, now that x is known: it may be a product itself.
    let Product { mut factors, scale } = product(facts, node, |name| name == x);
    factors.sort_unstable();
    let mut wanted = [x, sum];
    wanted.sort_unstable();
    (factors == wanted && close(scale, 0.5)).then_some((x, function))
}

/// x of erf(x / sqrt 2).
fn exact<'a>(facts: &Facts<'a>, name: &'a str) -> Option<(&'a str, LutFunction)> {
    let argument = facts.made_by(name, "Erf")?.input(0)?;
    let (x, scale) = scaled(facts, facts.producer(argument)?)?;
    close(scale, FRAC_1_SQRT_2).then_some((x, LutFunction::Gelu))
}

/// x of tanh(sqrt(2 / pi) * (x + 0.044715 x^3)).
fn by_tanh<'a>(facts: &Facts<'a>, name: &'a str) -> Option<(&'a str, LutFunction)> {
    let argument = facts.made_by(name, "Tanh")?.input(0)?;
    let (sum, scale) = scaled(facts, facts.producer(argument)?)?;
    if !close(scale, (2.0 / PI).sqrt()) {
        return None;
    }
    let sum = facts.made_by(sum, "Add")?;
    let (a, b) = (sum.input(0)?, sum.input(1)?);
    let x = if is_cube(facts, b, a) {
        a
    } else if is_cube(facts, a, b) {
        b
    } else {
        return None;
    };
    Some((x, LutFunction::GeluTanh))
}

/// Whether a value is 0.044715 x^3, by Pow or by products.
fn is_cube(facts: &Facts<'_>, name: &str, x: &str) -> bool {
    let Some(node) = facts.made_by(name, "Mul") else {
        return false;
    };
    let Product { factors, scale } = product(facts, node, |name| name == x);
    let power = |factor: &str| match facts.made_by(factor, "Pow") {
        _ if factor == x => Some(1.0),
        Some(pow) if pow.input(0) == Some(x) => facts.scalar(pow.input(1)?),
        _ => None,
    };
    let powers: Option<Vec<f32>> = factors.iter().map(|factor| power(factor)).collect();
    close(scale, GELU_CUBE) && powers.is_some_and(|powers| powers.iter().sum::<f32>() == 3.0)
}

/// A value times a constant, written as a product or a quotient.
fn scaled<'a>(facts: &Facts<'a>, node: &'a OnnxNode) -> Option<(&'a str, f32)> {
    match node.standard_op() {
        "Mul" => facts.with_scalar(node),
        "Div" => Some((node.input(0)?, 1.0 / facts.scalar(node.input(1)?)?)),
        _ => None,
    }
}

/// A nest of products taken apart.
struct Product<'a> {
    factors: Vec<&'a str>,
    scale: f32,
}

/// Takes the products above a node apart, down to what `stop` names.
fn product<'a>(facts: &Facts<'a>, node: &'a OnnxNode, stop: impl Fn(&str) -> bool) -> Product<'a> {
    let mut found = Product {
        factors: Vec::new(),
        scale: 1.0,
    };
    let mut open = vec![(node, 0)];
    while let Some((node, depth)) = open.pop() {
        let quotient = node.standard_op() == "Div";
        // Both operands: what a file names beyond them is none, and would multiply at each level.
        for (index, name) in node.uses().enumerate().take(2) {
            let inner = facts
                .producer(name)
                .filter(|_| depth < DEPTH && !stop(name));
            match (facts.scalar(name), inner) {
                (Some(divisor), _) if quotient && index == 1 => found.scale /= divisor,
                (Some(factor), _) => found.scale *= factor,
                (None, Some(inner)) if is_product(facts, inner) => open.push((inner, depth + 1)),
                (None, _) => found.factors.push(name),
            }
        }
    }
    found
}

/// Whether a node only multiplies: a quotient does if it divides by a constant.
fn is_product(facts: &Facts<'_>, node: &OnnxNode) -> bool {
    match node.standard_op() {
        "Mul" => true,
        "Div" => node
            .input(1)
            .is_some_and(|divisor| facts.scalar(divisor).is_some()),
        _ => false,
    }
}

fn close(got: f32, wanted: f32) -> bool {
    (got - wanted).abs() <= TOLERANCE * wanted.abs()
}
