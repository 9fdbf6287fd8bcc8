//! Einsum with a constant that is a matrix product: ReduceSum over what only the other operand has, Transpose,
//! MatMul and Reshape. Any other is run as it is.

use std::collections::BTreeSet;

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
    if node.op() != "Einsum" {
        return Ok(None);
    }
    if node.inputs().iter().any(|name| known.is_integer(name)) {
        return Err(Refusal::new(
            "it multiplies integers, which nothing here runs; cast them to floats before it, or write it as MatMul",
        ));
    }
    let equation: String = node
        .text("equation")
        .unwrap_or_default()
        .chars()
        .filter(|c| !c.is_whitespace())
        .collect();
    let (Some(a), Some(b), None) = (node.input(0), node.input(1), node.input(2)) else {
        return Ok(None);
    };
    let (operands, output) = match equation.split_once("->") {
        Some((operands, output)) => (operands, Some(output)),
        None => (equation.as_str(), None),
    };
    let Some((of_a, of_b)) = operands.split_once(',') else {
        return Ok(None);
    };
    let ((x, of_x), (w, of_w)) = match (known.is_weight(a), known.is_weight(b)) {
        (false, true) => ((a, of_a), (b, of_b)),
        (true, false) => ((b, of_b), (a, of_a)),
        _ => return Ok(None),
    };
    let implicit = || implicit_output(of_x, of_w);
    let output = output.map_or_else(implicit, str::to_owned);
    let Some(equation) = spelled_out([of_x, of_w, &output], known.rank(x)) else {
        return Ok(None);
    };
    let Some((labels, summed)) = Labels::of(equation) else {
        return Ok(None);
    };
    let Some(product) = known.all_floats(w).and_then(|w| labels.matrix(w)) else {
        return Ok(None);
    };
    let mut new = Replacement::of(node.proto);
    let kept = labels.rows.len();
    let mut left = x.to_owned();
    if !summed.is_empty() {
        let axes = new.ints(&summed);
        let gone = vec![int_attribute("keepdims", 0)];
        left = new.node_with("ReduceSum", &[x, &axes], gone);
    }
    left = turned(&mut new, &left, &labels.order_of_x);
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

/// What an equation without an output has: `...`, and every label that is there once, in alphabetical order
/// (ONNX, Einsum-12).
fn implicit_output(x: &str, w: &str) -> String {
    let letters = || x.chars().chain(w.chars()).filter(char::is_ascii_alphabetic);
    let once: BTreeSet<char> = letters()
        .filter(|c| letters().filter(|other| other == c).count() == 1)
        .collect();
    let dots = if x.contains(DOTS) || w.contains(DOTS) {
        DOTS
    } else {
        ""
    };
    dots.chars().chain(once).collect()
}

const DOTS: &str = "...";

/// The labels of the operand, the constant and the output, those that `...` stands for as characters that no
/// equation has. None where the constant has such axes: it is a batch of matrices then.
fn spelled_out(texts: [&str; 3], rank: Option<usize>) -> Option<[Vec<char>; 3]> {
    let letters = |text: &str| text.chars().filter(char::is_ascii_alphabetic).count();
    let [x, _, y] = texts;
    let hidden = match x.contains(DOTS) {
        true => rank?.checked_sub(letters(x))?,
        false => 0,
    };
    if hidden > 0 && !y.contains(DOTS) {
        return None;
    }
    let of = |text: &str, hidden: usize| {
        let (before, after) = text.split_once(DOTS).unwrap_or((text, ""));
        let hidden = (0..u32::try_from(hidden).ok()?).map(|at| char::from_u32(0xe000 + at));
        let hidden = if text.contains(DOTS) {
            hidden.collect::<Option<Vec<char>>>()?
        } else {
            Vec::new()
        };
        let all: Vec<char> = before.chars().chain(hidden).chain(after.chars()).collect();
        (!all.contains(&'.')).then_some(all)
    };
    let [x, w, y] = texts;
    Some([of(x, hidden)?, of(w, 0)?, of(y, hidden)?])
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
    /// The labels of a matrix product, and the axes of the operand that are summed over before it.
    fn of([mut x, w, y]: [Vec<char>; 3]) -> Option<(Labels, Vec<i64>)> {
        let once = |all: &[char]| {
            let count = |c: &char| all.iter().filter(|other| *other == c).count();
            all.iter().all(|c| count(c) == 1)
        };
        if ![&x, &w, &y].into_iter().all(|labels| once(labels)) {
            return None;
        }
        let alone = |c: &char| !w.contains(c) && !y.contains(c);
        let axes = x.iter().enumerate().filter(|(_, c)| alone(c));
        let summed: Vec<i64> = axes.map(|(axis, _)| axis as i64).collect();
        x.retain(|c| !alone(c));
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
        let labels = Labels {
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
        };
        Some((labels, summed))
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
