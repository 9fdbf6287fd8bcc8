//! Gemm, `alpha * op(A) * op(B) + beta * C`, as the form has it: a constant `[O, K]` on the right,
//! no factors, and C a vector `[O]`. Any other C is added afterwards; a product of two activations
//! is a MatMul.

use super::{Node, Rewritten};
use crate::{
    canonical::{
        known::Known,
        refusal::Refusal,
        replacement::{Replacement, int_attribute, ints_attribute},
    },
    onnx::f32_initializer,
    tensor::Tensor,
};

pub(super) fn rewrite(known: &Known<'_>, node: &Node<'_>) -> Rewritten {
    if node.op() != "Gemm" {
        return Ok(None);
    }
    let (alpha, beta) = (
        node.float("alpha").unwrap_or(1.0),
        node.float("beta").unwrap_or(1.0),
    );
    let trans_a = node.int("transA").unwrap_or(0) != 0;
    let trans_b = node.int("transB").unwrap_or(0) != 0;
    let (a, b) = (node.needs(0)?, node.needs(1)?);
    let c = node.input(2).filter(|_| beta != 0.0);
    if !known.is_constant(b) || known.is_constant(a) || !known.is_float(b) {
        return product(known, node, (alpha, beta), (trans_a, trans_b), c);
    }
    let weight = known.all_floats(b).filter(|weight| weight.ndim() == 2);
    let weight =
        weight.ok_or_else(|| Refusal::new(format!("its constant '{b}' is no matrix of floats")))?;
    let outputs = weight.shape()[usize::from(!trans_b)];
    let vector = c.map(|c| bias(known, c, outputs));
    let own_bias = matches!(vector, None | Some(Some(_)));
    let exact = vector.as_ref().is_none_or(|vector| {
        vector
            .as_ref()
            .is_some_and(|_| c.and_then(|c| known.dims(c)) == Some(vec![outputs]))
    });
    let is_form = !trans_a
        && trans_b
        && alpha == 1.0
        && beta == 1.0
        && own_bias
        && exact
        && node
            .attributes_but(&["alpha", "beta", "transA", "transB"])
            .is_empty();
    if is_form {
        return Ok(None);
    }
    let mut new = Replacement::of(node.proto);
    let a = match trans_a {
        true => new.node_with("Transpose", &[a], vec![ints_attribute("perm", &[1, 0])]),
        false => a.to_owned(),
    };
    let plain = trans_b && alpha == 1.0;
    let weight = match plain {
        true => b.to_owned(),
        false if alpha == 1.0 => new.turned(known, b, &weight),
        false => {
            let weight = if trans_b {
                weight
            } else {
                weight.reversed_axes().as_standard_layout().into_owned()
            };
            let scaled = weight.mapv(|w| alpha * w);
            if !scaled.iter().all(|w| w.is_finite()) {
                return Err(Refusal::new(format!(
                    "its constant '{b}' times alpha {alpha} is not finite"
                )));
            }
            new.constant_of(b, f32_initializer("", scaled.view()))
        }
    };
    let form = || vec![int_attribute("transB", 1)];
    match (c, vector) {
        (Some(c), Some(Some(vector))) => {
            let bias =
                Tensor::from_shape_vec(vec![outputs], vector.iter().map(|b| beta * b).collect())
                    .map_err(|error| Refusal::new(error.to_string()))?;
            let bias = new.constant_of(c, f32_initializer("", bias.view()));
            Ok(Some(new.last_with("Gemm", &[&a, &weight, &bias], form())))
        }
        (Some(c), _) => {
            let y = new.node_with("Gemm", &[&a, &weight], form());
            let c = scaled(&mut new, c, beta);
            Ok(Some(new.last("Add", &[&y, &c])))
        }
        (None, _) => Ok(Some(new.last_with("Gemm", &[&a, &weight], form()))),
    }
}

/// The elements of C where it is a constant that adds one number to each output.
fn bias(known: &Known<'_>, c: &str, outputs: usize) -> Option<Vec<f32>> {
    let dims = known.dims(c)?;
    let (rows, columns) = match dims.as_slice() {
        [] => (1, 1),
        &[columns] => (1, columns),
        &[rows, columns] => (rows, columns),
        _ => return None,
    };
    if rows != 1 || !(columns == 1 || columns == outputs) {
        return None;
    }
    let elements = known.all_floats(c)?;
    let one = |index: usize| {
        elements
            .iter()
            .nth(if columns == 1 { 0 } else { index })
            .copied()
    };
    (0..outputs).map(one).collect()
}

/// A product of two activations.
fn product(
    known: &Known<'_>,
    node: &Node<'_>,
    (alpha, beta): (f32, f32),
    (trans_a, trans_b): (bool, bool),
    c: Option<&str>,
) -> Rewritten {
    let (a, b) = (node.needs(0)?, node.needs(1)?);
    let mut new = Replacement::of(node.proto);
    let mut turned = |name: &str, turn: bool| match turn {
        true => new.node_with("Transpose", &[name], vec![ints_attribute("perm", &[1, 0])]),
        false => name.to_owned(),
    };
    let (a, b) = (turned(a, trans_a), turned(b, trans_b));
    if !known.is_float(node.needs(0)?) && alpha.fract() != 0.0 {
        return Err(Refusal::new("it multiplies integers by a fraction"));
    }
    if alpha == 1.0 && c.is_none() {
        return Ok(Some(new.last("MatMul", &[&a, &b])));
    }
    let mut y = new.node("MatMul", &[&a, &b]);
    if alpha != 1.0 {
        if c.is_none() {
            let alpha = new.float(alpha);
            return Ok(Some(new.last("Mul", &[&y, &alpha])));
        }
        y = scaled(&mut new, &y, alpha);
    }
    let c = scaled(&mut new, c.unwrap_or_default(), beta);
    Ok(Some(new.last("Add", &[&y, &c])))
}

fn scaled(new: &mut Replacement<'_>, name: &str, factor: f32) -> String {
    if factor == 1.0 {
        return name.to_owned();
    }
    let factor = new.float(factor);
    new.node("Mul", &[name, &factor])
}
