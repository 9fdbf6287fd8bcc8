//! Operations that work element by element: sums, differences, products, relu, tables.

use dual16_nash::lut::LutFunction;

use super::build::{Build, Unit};
use crate::{
    error::Result,
    graph::{Op, ValueId},
    model::OnnxNode,
};

/// Lowers a node alone, if its operator is one of these.
pub(super) fn lower<'a>(build: &mut Build<'a>, unit: &Unit<'a>) -> Result<bool> {
    if let Some((x, function)) = table(build, unit.node) {
        lut(build, unit, x, function)?;
        return Ok(true);
    }
    let (op, inputs) = match unit.node.standard_op() {
        "Add" => (Op::Add, both(build, unit)?),
        "Sub" => (Op::Sub, both(build, unit)?),
        "Mul" => (Op::Mul, both(build, unit)?),
        "Div" => (Op::Mul, by_reciprocal(build, unit)?),
        "Pow" => (Op::Mul, square(build, unit)?),
        "Relu" => (Op::Relu, single(build, unit)?),
        "Clip" if is_relu(build, unit.node) => (Op::Relu, single(build, unit)?),
        _ => return Ok(false),
    };
    let Some(inputs) = inputs else {
        return Ok(false);
    };
    build.output(unit, op, inputs)?;
    Ok(true)
}

/// Lowers a function of one variable.
pub(super) fn lut<'a>(
    build: &mut Build<'a>,
    unit: &Unit<'a>,
    x: &'a str,
    function: LutFunction,
) -> Result<()> {
    let x = build.input(x)?;
    build.output(unit, Op::Lut(function), vec![x])
}

fn table<'a>(build: &Build<'a>, node: &'a OnnxNode) -> Option<(&'a str, LutFunction)> {
    let x = node.input(0)?;
    let function = match node.standard_op() {
        "Sigmoid" => LutFunction::Sigmoid,
        "Tanh" => LutFunction::Tanh,
        "Gelu" if node.text("approximate") == Some("tanh") => LutFunction::GeluTanh,
        "Gelu" => LutFunction::Gelu,
        "Exp" => LutFunction::Exp,
        "Sqrt" => LutFunction::Sqrt,
        "Log" => LutFunction::Log,
        "Reciprocal" => LutFunction::Reciprocal,
        "Erf" => LutFunction::Erf,
        "Softplus" => LutFunction::Softplus,
        "Pow" => match build.facts.scalar(node.input(1)?)? {
            0.5 => LutFunction::Sqrt,
            -0.5 => LutFunction::Rsqrt { eps: 0.0 },
            -1.0 => LutFunction::Reciprocal,
            _ => return None,
        },
        "Div" if build.facts.scalar(x) == Some(1.0) => {
            return Some((node.input(1)?, LutFunction::Reciprocal));
        }
        _ => return None,
    };
    Some((x, function))
}

fn single<'a>(build: &mut Build<'a>, unit: &Unit<'a>) -> Result<Option<Vec<ValueId>>> {
    let Some(x) = unit.node.input(0) else {
        return Ok(None);
    };
    Ok(Some(vec![build.input(x)?]))
}

fn both<'a>(build: &mut Build<'a>, unit: &Unit<'a>) -> Result<Option<Vec<ValueId>>> {
    let (Some(a), Some(b)) = (unit.node.input(0), unit.node.input(1)) else {
        return Ok(None);
    };
    Ok(Some(vec![build.input(a)?, build.input(b)?]))
}

/// x / c as x * (1 / c); a quotient of two activations has no kernel.
fn by_reciprocal<'a>(build: &mut Build<'a>, unit: &Unit<'a>) -> Result<Option<Vec<ValueId>>> {
    let (Some(x), Some(divisor)) = (unit.node.input(0), unit.node.input(1)) else {
        return Ok(None);
    };
    let Some(tensor) = build.facts.f32_constant(divisor) else {
        return Ok(None);
    };
    let reciprocal = tensor.mapv(f32::recip);
    if !reciprocal.iter().all(|x| x.is_finite()) {
        return Ok(None);
    }
    let x = build.input(x)?;
    let factor = build.literal(&format!("{divisor}.reciprocal"), reciprocal);
    Ok(Some(vec![x, factor]))
}

fn square<'a>(build: &mut Build<'a>, unit: &Unit<'a>) -> Result<Option<Vec<ValueId>>> {
    let exponent = unit.node.input(1).and_then(|name| build.facts.scalar(name));
    let Some(x) = unit.node.input(0).filter(|_| exponent == Some(2.0)) else {
        return Ok(None);
    };
    let x = build.input(x)?;
    Ok(Some(vec![x, x]))
}

/// Whether a Clip cuts at 0 and nowhere else. Its bounds are inputs since opset 11.
fn is_relu(build: &Build<'_>, node: &OnnxNode) -> bool {
    let bound = |index: usize, attribute: &str| match node.input(index) {
        Some(name) => build.facts.scalar(name).or(Some(f32::NAN)),
        None => node.float(attribute),
    };
    bound(1, "min") == Some(0.0) && bound(2, "max").is_none_or(|max| max >= f32::MAX)
}
