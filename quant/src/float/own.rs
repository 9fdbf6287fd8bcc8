//! Kernels for what rten does otherwise than ONNX says, and for what only canonical form has. They
//! are small and exact; none is on the path of a large product.

use crate::{
    canonical::{OWN_DOMAIN, narrowed},
    error::{Error, Result},
    model::OnnxNode,
    onnx::DataType,
    tensor::Datum,
};

/// Whether a node is run here.
pub(super) fn is_own(node: &OnnxNode) -> bool {
    node.domain == OWN_DOMAIN
}

/// Runs a node whose operands are given by position. It has one output.
pub(super) fn run(node: &OnnxNode, operands: &[&Datum]) -> Result<Datum> {
    let failed = |reason: String| Error::FloatRun {
        node: format!("node '{}' (operator {})", node.label(), node.op_type),
        reason,
    };
    match (node.op_type.as_str(), operands) {
        ("Narrow", [Datum::F32(x)]) => {
            let to = node
                .int("to")
                .and_then(|to| DataType::try_from(to as i32).ok());
            let to = to.unwrap_or(DataType::Undefined);
            Ok(Datum::F32(x.mapv(|x| narrowed(x, to).unwrap_or(x))))
        }
        _ => {
            let shapes: Vec<&[usize]> = operands.iter().map(|operand| operand.shape()).collect();
            Err(failed(format!(
                "it does not take operands of shapes {shapes:?}"
            )))
        }
    }
}
