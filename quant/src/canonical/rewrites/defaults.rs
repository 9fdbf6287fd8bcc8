//! Attributes with a default that the form always states, and operators that do nothing for
//! inference: Dropout is Identity.

use super::{Node, Rewritten};
use crate::{
    canonical::{
        known::Known,
        refusal::Refusal,
        replacement::{Replacement, int_attribute},
    },
    onnx::{AttributeProto, AttributeType, DataType, TensorProto},
};

pub(super) fn rewrite(known: &Known<'_>, node: &Node<'_>) -> Rewritten {
    match node.op() {
        "Dropout" => dropout(known, node),
        "OneHot" => one_hot(known, node),
        "BatchNormalization" if node.int("training_mode").unwrap_or(0) != 0 => Err(Refusal::new(
            "it is in training mode (training_mode); export the model for inference",
        )),
        "Sum" | "Mean" => variadic(known, node),
        _ => Ok(None),
    }
}

/// Indices and depth may be floats.
fn one_hot(known: &Known<'_>, node: &Node<'_>) -> Rewritten {
    let (indices, depth) = (node.needs(0)?, node.needs(1)?);
    if !known.is_float(indices) && !known.is_float(depth) {
        return Ok(None);
    }
    let mut new = Replacement::of(node.proto);
    let mut whole = |name: &str| match known.is_float(name) {
        true => {
            let to = int_attribute("to", i32::from(DataType::Int64).into());
            new.node_with("Cast", &[name], vec![to])
        }
        false => name.to_owned(),
    };
    let (indices, depth) = (whole(indices), whole(depth));
    let attributes = node.attributes_but(&[]);
    let inputs = [&indices, &depth, node.needs(2)?];
    Ok(Some(new.last_with("OneHot", &inputs, attributes)))
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
