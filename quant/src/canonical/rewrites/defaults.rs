//! Attributes with a default that the form always states, and operators that do nothing for
//! inference: Dropout is Identity.

use super::{Node, Rewritten};
use crate::{
    canonical::{known::Known, refusal::Refusal, replacement::Replacement},
    onnx::{AttributeProto, AttributeType, DataType, TensorProto},
};

pub(super) fn rewrite(known: &Known<'_>, node: &Node<'_>) -> Rewritten {
    match node.op() {
        "Dropout" => dropout(known, node),
        "Sum" | "Mean" => variadic(known, node),
        _ => Ok(None),
    }
}

fn dropout(known: &Known<'_>, node: &Node<'_>) -> Rewritten {
    let training = match node.input(2) {
        Some(name) => known.number(name) != Some(0.0),
        None => known.opset < 7 && node.int("is_test") == Some(0),
    };
    if training {
        return Err(Refusal::new(
            "it drops values at random (training_mode); export the model for inference",
        ));
    }
    let x = node.needs(0)?;
    let mut new = Replacement::of(node.proto);
    let mut parts = vec![("Identity", vec![x], Vec::new())];
    let shape;
    if node.makes(1) {
        shape = new.node("Shape", &[x]);
        let value = AttributeProto {
            name: "value".to_owned(),
            r#type: AttributeType::Tensor.into(),
            t: Some(TensorProto {
                dims: vec![1],
                data_type: DataType::Bool.into(),
                int32_data: vec![1],
                ..TensorProto::default()
            }),
            ..AttributeProto::default()
        };
        parts.push(("ConstantOfShape", vec![&shape], vec![value]));
    }
    Ok(Some(new.last_each(parts)))
}

/// Sum and Mean of any number of operands as a chain of Add.
fn variadic(known: &Known<'_>, node: &Node<'_>) -> Rewritten {
    let inputs = node.inputs();
    let Some((first, rest)) = inputs.split_first() else {
        return Err(Refusal::new("it has no input"));
    };
    let mut new = Replacement::of(node.proto);
    let mean = node.op() == "Mean";
    let mut sum = (*first).to_owned();
    for (index, next) in rest.iter().enumerate() {
        if index + 1 == rest.len() && !mean {
            return Ok(Some(new.last("Add", &[&sum, next])));
        }
        sum = new.node("Add", &[&sum, next]);
    }
    if !mean {
        return Ok(Some(new.last("Identity", &[&sum])));
    }
    if !known.is_float(first) && known.elem(first) != DataType::Undefined {
        return Err(Refusal::new("it is a mean of integers"));
    }
    let count = new.float(inputs.len() as f32);
    Ok(Some(new.last("Div", &[&sum, &count])))
}
