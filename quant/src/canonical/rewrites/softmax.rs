//! Softmax, LogSoftmax and Hardmax before operator set 13 flattened their input to two dimensions at
//! `axis` and worked along the second. Hardmax is the one-hot of the first largest element.

use super::{Node, Rewritten};
use crate::canonical::{
    known::Known,
    replacement::{Replacement, int_attribute},
};

/// Since this operator set they work along one axis.
const ALONG_AXIS: i64 = 13;

pub(super) fn rewrite(known: &Known<'_>, node: &Node<'_>) -> Rewritten {
    let op = node.op();
    if !matches!(op, "Softmax" | "LogSoftmax" | "Hardmax") {
        return Ok(None);
    }
    let x = node.needs(0)?;
    if known.opset < ALONG_AXIS {
        let axis = node.int("axis").unwrap_or(1);
        let is_last = axis == -1 || known.rank(x).is_some_and(|rank| axis == rank as i64 - 1);
        let mut new = Replacement::of(node.proto);
        let last = || vec![int_attribute("axis", -1)];
        if is_last {
            return Ok(Some(new.last_with(op, &[x], last())));
        }
        let shape = new.node("Shape", &[x]);
        let flat = new.node_with("Flatten", &[x], vec![int_attribute("axis", axis)]);
        let soft = new.node_with(op, &[&flat], last());
        return Ok(Some(new.last("Reshape", &[&soft, &shape])));
    }
    if op == "Hardmax" {
        return hardmax(node, x);
    }
    if node.int("axis").is_none() {
        let new = Replacement::of(node.proto);
        return Ok(Some(new.last_with(
            op,
            &[x],
            vec![int_attribute("axis", -1)],
        )));
    }
    Ok(None)
}

fn hardmax(node: &Node<'_>, x: &str) -> Rewritten {
    let axis = node.int("axis").unwrap_or(-1);
    let along = || int_attribute("axis", axis);
    let mut new = Replacement::of(node.proto);
    let arg = new.node_with("ArgMax", &[x], vec![along(), int_attribute("keepdims", 0)]);
    let shape = new.node("Shape", &[x]);
    let index = new.ints(&[axis]);
    let depth = new.node("Gather", &[&shape, &index]);
    let values = new.constant(crate::onnx::TensorProto {
        dims: vec![2],
        float_data: vec![0.0, 1.0],
        data_type: crate::onnx::DataType::Float.into(),
        ..Default::default()
    });
    Ok(Some(new.last_with(
        "OneHot",
        &[&arg, &depth, &values],
        vec![along()],
    )))
}
