//! NaN that a node would hide: rten's Relu and Clip make numbers of it, where ONNX's keep it.

use std::collections::HashMap;

use crate::{
    error::{Error, Result},
    model::OnnxNode,
    tensor::Datum,
};

/// Refuses a node that hides NaN, by the values of a float run.
pub(super) fn check(nodes: &[OnnxNode], probed: &HashMap<String, Datum>) -> Result<()> {
    let hides = |op: &str| matches!(op, "Relu" | "Clip");
    for node in nodes.iter().filter(|node| hides(node.standard_op())) {
        let given = node.input(0).and_then(|name| probed.get(name)?.as_f32());
        if given.is_some_and(|x| x.iter().any(|x| x.is_nan())) {
            return Err(Error::FloatRun {
                node: format!("node '{}' (operator {})", node.label(), node.op_type),
                reason: "it is given NaN, of which float execution makes a number and ONNX none; guard what makes it \
                         (a division by 0, a logarithm or root of less than 0) by a Where before this node"
                    .to_owned(),
            });
        }
    }
    Ok(())
}
