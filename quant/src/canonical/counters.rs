//! Integers in the body of a Loop that stay small: the number of the iteration, and what is carried
//! from one iteration to the next and only counts. Before they left 32 bits a run would have taken
//! hours.

use super::{decode, known::Known};
use crate::onnx::{GraphProto, NodeProto, Payload};

/// The most that a counter may grow by.
const STEP: u64 = 16;

/// Inputs of a body that count.
pub(super) fn counters(node: &NodeProto, body: &GraphProto, known: &Known<'_>) -> Vec<String> {
    if node.op_type != "Loop" || !node.domain.is_empty() {
        return Vec::new();
    }
    // Of a body: iteration, condition, carried values. It returns condition, carried values.
    let iteration = body.input.first().map(|value| value.name.clone());
    let carried = body.input.iter().zip(&node.input).skip(2);
    let carried = carried.zip(body.output.iter().skip(1));
    let counts = carried.filter_map(|((value, initial), next)| {
        let counts = known.is_length(initial) && is_step(&value.name, &next.name, body, known);
        counts.then(|| value.name.clone())
    });
    iteration.into_iter().chain(counts).collect()
}

/// Whether what a body returns is what it was given, or that and a small constant.
fn is_step(given: &str, next: &str, body: &GraphProto, known: &Known<'_>) -> bool {
    let maker = body
        .node
        .iter()
        .find(|node| node.output.iter().any(|name| name == next));
    let Some(maker) = maker else {
        return given == next;
    };
    let small = |name: &str| {
        let elements = elements(name, body).or_else(|| known.ints(name));
        elements.is_some_and(|elements| elements.iter().all(|x| x.unsigned_abs() <= STEP))
    };
    let inputs: Vec<&str> = maker.input.iter().map(String::as_str).collect();
    match (maker.op_type.as_str(), inputs.as_slice()) {
        ("Identity", [from]) => *from == given,
        ("Add", [a, b]) => *a == given && small(b) || *b == given && small(a),
        ("Sub", [a, b]) => *a == given && small(b),
        _ => false,
    }
}

/// Elements of a constant of integers that a body has itself.
fn elements(name: &str, body: &GraphProto) -> Option<Vec<i64>> {
    let tensor = body.initializer.iter().find(|tensor| tensor.name == name);
    let made = || {
        let node = body
            .node
            .iter()
            .find(|node| node.output.iter().any(|made| made == name));
        decode::constant_node(node?).ok()?
    };
    let tensor = tensor.cloned().or_else(made)?;
    let elements = tensor.to_i64(Payload::Inline).ok()?;
    Some(elements.into_iter().collect())
}
