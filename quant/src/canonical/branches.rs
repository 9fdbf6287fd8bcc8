//! If with a condition that is known: its branch stands in the graph around it.

use super::{known::Known, refusal::Refusal};
use crate::onnx::{AttributeProto, AttributeType, GraphProto, NodeProto, TensorProto};

/// The nodes of the branch that is taken; None for anything else.
pub(super) fn inlined(
    node: &NodeProto,
    known: &Known<'_>,
) -> Result<Option<Vec<NodeProto>>, Refusal> {
    if node.op_type != "If" || !node.domain.is_empty() {
        return Ok(None);
    }
    let condition = node.input.first().and_then(|name| known.followed(name));
    let Some(&[Some(condition)]) = condition.as_deref() else {
        return Ok(None);
    };
    let taken = if condition != 0 {
        "then_branch"
    } else {
        "else_branch"
    };
    let branch = node
        .attribute
        .iter()
        .find(|attribute| attribute.name == taken)
        .and_then(|attribute| attribute.g.as_ref())
        .ok_or_else(|| Refusal::new(format!("its attribute {taken} is missing")))?;
    if !branch.sparse_initializer.is_empty() {
        return Err(Refusal::new("a branch has sparse constants"));
    }
    Ok(Some(nodes(node, branch)))
}

fn nodes(node: &NodeProto, branch: &GraphProto) -> Vec<NodeProto> {
    let constants = branch.initializer.iter().map(constant);
    let returned = branch.output.iter().zip(&node.output);
    let identities = returned
        .filter(|(_, outer)| !outer.is_empty())
        .map(|(inner, outer)| NodeProto {
            op_type: "Identity".to_owned(),
            name: format!("{outer}/identity"),
            input: vec![inner.name.clone()],
            output: vec![outer.clone()],
            ..NodeProto::default()
        });
    constants
        .chain(branch.node.iter().cloned())
        .chain(identities)
        .collect()
}

fn constant(tensor: &TensorProto) -> NodeProto {
    NodeProto {
        op_type: "Constant".to_owned(),
        output: vec![tensor.name.clone()],
        attribute: vec![AttributeProto {
            name: "value".to_owned(),
            r#type: AttributeType::Tensor.into(),
            t: Some(tensor.clone()),
            ..AttributeProto::default()
        }],
        ..NodeProto::default()
    }
}
