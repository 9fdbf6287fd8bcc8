//! MatMul of two int16 activations where the toolchain allows one int16 operand: the second as two int8
//! planes, hi = the nearest of 256 steps, lo = what is left,
//!
//! a · b = a · hi + a · lo
//!
//! exactly up to the rounding of lo, whose step is 1/254 of hi's. Twice the multiply-accumulates.

use dual16_nash::dtype::IntDtype;

use super::{Place, Remedy, largest};
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
        let int16 =
            |id: ValueId| source.request.values[graph.origin(id).0].dtype == IntDtype::Int16;
        if !int16(a) || !int16(b) {
            continue;
        }
        // Every value of the second operand is a multiple of its own int16 step, so that the planes
        // lose nothing but where the largest is not a whole number of steps.
        let Some(step) = largest(source, b).map(|largest| largest / 127.0) else {
            continue;
        };
        let output = node.outputs[0];
        let whole = graph.value(b).shape.clone();
        let product = graph.value(output).shape.clone();
        let Some(mut fragment) = extension.instead_of(output, Remedy::SplitOperand.name()) else {
            continue;
        };
        let stated = |scale| Stated {
            dtype: Some(IntDtype::Int8),
            scale,
            room: None,
        };
        let free = Stated::default();
        let high = fragment.node(
            "hi",
            Op::ToInt8 { step },
            vec![b],
            whole.clone(),
            stated(Some(step)),
        );
        let low = fragment.node(
            "lo",
            Op::Sub,
            vec![b, high],
            whole,
            stated(Some(step / 254.0)),
        );
        let high = fragment.node(
            "hi_matmul",
            Op::MatMul,
            vec![a, high],
            product.clone(),
            free,
        );
        let low = fragment.node("lo_matmul", Op::MatMul, vec![a, low], product.clone(), free);
        let made = fragment.node("add", Op::Add, vec![high, low], product, free);
        fragment.end(made);
        places.push(Place {
            remedy: Remedy::SplitOperand,
            node: id,
            with: Vec::new(),
            alternative: places.len(),
        });
    }
}
