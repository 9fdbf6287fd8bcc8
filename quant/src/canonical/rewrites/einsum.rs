//! Einsum with a constant that is a matrix product: Transpose, MatMul and Reshape. Any other is run
//! as it is.

use super::{Node, Rewritten};
use crate::{
    canonical::{
        known::Known,
        replacement::{Replacement, ints_attribute},
    },
    onnx::f32_initializer,
    tensor::Tensor,
};

pub(super) fn rewrite(known: &Known<'_>, node: &Node<'_>) -> Rewritten {
    if node.op() != "Einsum" {
        return Ok(None);
    }
    let equation: String = node
        .text("equation")
        .unwrap_or_default()
        .chars()
        .filter(|c| !c.is_whitespace())
        .collect();
    let (Some((operands, output)), Some(a), Some(b), None) = (
        equation.split_once("->"),
        node.input(0),
        node.input(1),
        node.input(2),
    ) else {
        return Ok(None);
    };
    let Some((of_a, of_b)) = operands.split_once(',') else {
        return Ok(None);
    };
    let weight = |name: &str| known.is_constant(name) && known.is_float(name);
    let ((x, of_x), (w, of_w)) = match (weight(a), weight(b)) {
        (false, true) => ((a, of_a), (b, of_b)),
        (true, false) => ((b, of_b), (a, of_a)),
        _ => return Ok(None),
    };
    let Some(labels) = Labels::of(of_x, of_w, output) else {
        return Ok(None);
    };
    let Some(product) = known.all_floats(w).and_then(|w| labels.matrix(w)) else {
        return Ok(None);
    };
    let mut new = Replacement::of(node.proto);
    let kept = labels.rows.len();
    let mut left = turned(&mut new, x, &labels.order_of_x);
    let zeros = vec![0; kept];
    if labels.inner.len() != 1 {
        let shape = new.ints(&[zeros.as_slice(), &[product.matrix.shape()[0] as i64]].concat());
        left = new.node("Reshape", &[&left, &shape]);
    }
    let matrix = new.constant_of(w, f32_initializer("", product.matrix.view()));
    let mut y = new.node("MatMul", &[&left, &matrix]);
    if product.columns.len() != 1 {
        let shape = new.ints(&[zeros, product.columns].concat());
        y = new.node("Reshape", &[&y, &shape]);
    }
    Ok(Some(new.last_with(
        "Transpose",
        &[&y],
        vec![ints_attribute("perm", &labels.order_of_y)],
    )))
}

fn turned(new: &mut Replacement<'_>, x: &str, order: &[i64]) -> String {
    match order.is_sorted() {
        true => x.to_owned(),
        false => new.node_with("Transpose", &[x], vec![ints_attribute("perm", order)]),
    }
}

/// Which axes of an equation are rows, which are summed over and which are columns.
struct Labels {
    rows: Vec<char>,
    inner: Vec<char>,
    order_of_x: Vec<i64>,
    order_of_w: Vec<usize>,
    order_of_y: Vec<i64>,
}

struct Product {
    matrix: Tensor,
    /// Lengths of the axes that its columns are.
    columns: Vec<i64>,
}

impl Labels {
    fn of(x: &str, w: &str, y: &str) -> Option<Labels> {
        let split = |labels: &str| -> Option<Vec<char>> {
            let all: Vec<char> = labels.chars().collect();
            let once = |c: &char| all.iter().filter(|other| *other == c).count() == 1;
            all.iter()
                .all(|c| c.is_ascii_alphabetic() && once(c))
                .then_some(all)
        };
        let (x, w, y) = (split(x)?, split(w)?, split(y)?);
        let (rows, inner): (Vec<char>, Vec<char>) = x.iter().partition(|c| y.contains(c));
        let columns: Vec<char> = w.iter().copied().filter(|c| !inner.contains(c)).collect();
        let is_product = !inner.is_empty()
            && !rows.is_empty()
            && inner.iter().all(|c| w.contains(c))
            && columns.iter().all(|c| y.contains(c) && !x.contains(c))
            && y.len() == rows.len() + columns.len();
        if !is_product {
            return None;
        }
        let place = |of: &[char], c: &char| of.iter().position(|other| other == c);
        let made: Vec<char> = rows.iter().chain(&columns).copied().collect();
        Some(Labels {
            order_of_x: rows
                .iter()
                .chain(&inner)
                .map(|c| Some(place(&x, c)? as i64))
                .collect::<Option<_>>()?,
            order_of_w: inner
                .iter()
                .chain(&columns)
                .map(|c| place(&w, c))
                .collect::<Option<_>>()?,
            order_of_y: y
                .iter()
                .map(|c| Some(place(&made, c)? as i64))
                .collect::<Option<_>>()?,
            rows,
            inner,
        })
    }

    /// The constant as `[summed, columns]`.
    fn matrix(&self, w: Tensor) -> Option<Product> {
        if w.ndim() != self.order_of_w.len() {
            return None;
        }
        let w = w.permuted_axes(self.order_of_w.as_slice());
        let (inner, columns) = w.shape().split_at(self.inner.len());
        let shape = vec![inner.iter().product(), columns.iter().product()];
        let columns = columns.iter().map(|&length| length as i64).collect();
        let w = w.as_standard_layout().into_owned();
        Some(Product {
            matrix: w.into_shape_with_order(shape).ok()?,
            columns,
        })
    }
}
