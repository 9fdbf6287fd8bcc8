//! MatMul of two int16 activations where the toolchain allows one int16 operand: the second as two int8
//! planes, hi = the nearest of 256 steps, lo = what is left,
//!
//! a · b = a · hi + a · lo
//!
//! exactly up to the rounding of lo, whose step is 1/254 of hi's. Twice the multiply-accumulates.

use super::{Place, Remedy, is_int16, planes};
use crate::{
    graph::{Extension, Op, Stated, ValueId},
    plan::ScaleSource,
};

/// Adds an alternative for every MatMul whose operands are both to be int16.
pub(super) fn extend(source: &ScaleSource<'_>, extension: &mut Extension, places: &mut Vec<Place>) {
    let graph = source.graph;
    for (id, node) in graph.running() {
        let (Op::MatMul, &[a, b]) = (&node.op, node.inputs.as_slice()) else {
            continue;
        };
        if !is_int16(source, a) || !is_int16(source, b) {
            continue;
        }
        let output = node.outputs[0];
        let product = graph.value(output).shape.clone();
        let Some(mut fragment) = extension.instead_of(output, Remedy::SplitOperand.name()) else {
            continue;
        };
        let Some([high, low]) = planes(source, &mut fragment, b) else {
            continue;
        };
        let mut add = |suffix: &str, op, inputs: [ValueId; 2]| {
            let (inputs, free) = (inputs.to_vec(), Stated::default());
            fragment.node(suffix, op, inputs, product.clone(), free)
        };
        let high = add("hi_matmul", Op::MatMul, [a, high]);
        let low = add("lo_matmul", Op::MatMul, [a, low]);
        let made = add("add", Op::Add, [high, low]);
        fragment.end(made);
        places.push(Place {
            remedy: Remedy::SplitOperand,
            node: id,
            with: Vec::new(),
            alternative: places.len(),
        });
    }
}
