//! What operators took as attributes before they took it as inputs: axes of Squeeze, Unsqueeze and
//! reductions (until 13; ReduceMean and the like until 18), bounds of Slice (10) and Clip (11), pads
//! (11), parts of Split (13), k of TopK (10), scales of Upsample (9).

use super::{Node, Rewritten};
use crate::canonical::{
    known::Known,
    refusal::Refusal,
    replacement::{Replacement, text_attribute},
};

pub(super) fn rewrite(_: &Known<'_>, node: &Node<'_>) -> Rewritten {
    match node.op() {
        "Squeeze" | "Unsqueeze" => list(node, "axes", 1),
        op if op.starts_with("Reduce") => list(node, "axes", 1),
        "Split" => list(node, "split", 1),
        "Slice" => slice(node),
        "Clip" => clip(node),
        "Pad" => pad(node),
        "TopK" => top_k(node),
        "Upsample" => upsample(node),
        "Scatter" => Ok(Some(Replacement::of(node.proto).last_with(
            "ScatterElements",
            &node.inputs(),
            node.attributes_but(&[]),
        ))),
        "Resize" if node.proto.input.len() == 2 => resize(node),
        _ => Ok(None),
    }
}

/// A list of integers that became an input.
fn list(node: &Node<'_>, attribute: &str, position: usize) -> Rewritten {
    let Some(values) = node.ints(attribute) else {
        return Ok(None);
    };
    let mut new = Replacement::of(node.proto);
    let values = new.ints(values);
    let mut inputs = node.inputs();
    inputs.truncate(position);
    inputs.push(&values);
    let attributes = node.attributes_but(&[attribute]);
    Ok(Some(new.last_with(node.op(), &inputs, attributes)))
}

fn slice(node: &Node<'_>) -> Rewritten {
    let (Some(starts), Some(ends)) = (node.ints("starts"), node.ints("ends")) else {
        return Ok(None);
    };
    let mut new = Replacement::of(node.proto);
    let (starts, ends) = (new.ints(starts), new.ints(ends));
    let axes = node.ints("axes").map(|axes| new.ints(axes));
    let mut inputs = vec![node.needs(0)?, &starts, &ends];
    inputs.extend(axes.as_deref());
    Ok(Some(new.last("Slice", &inputs)))
}

fn clip(node: &Node<'_>) -> Rewritten {
    let (min, max) = (node.float("min"), node.float("max"));
    if min.is_none() && max.is_none() {
        return Ok(None);
    }
    let mut new = Replacement::of(node.proto);
    let min = min.map(|min| new.float(min)).unwrap_or_default();
    let max = max.map(|max| new.float(max)).unwrap_or_default();
    Ok(Some(new.last("Clip", &[node.needs(0)?, &min, &max])))
}

fn pad(node: &Node<'_>) -> Rewritten {
    let Some(pads) = node.ints("pads").or_else(|| node.ints("paddings")) else {
        return Ok(None);
    };
    let mut new = Replacement::of(node.proto);
    let pads = new.ints(pads);
    let value = new.float(node.float("value").unwrap_or(0.0));
    let mode = text_attribute("mode", node.text("mode").unwrap_or("constant"));
    Ok(Some(new.last_with(
        "Pad",
        &[node.needs(0)?, &pads, &value],
        vec![mode],
    )))
}

fn top_k(node: &Node<'_>) -> Rewritten {
    let Some(k) = node.int("k") else {
        return Ok(None);
    };
    let mut new = Replacement::of(node.proto);
    let k = new.ints(&[k]);
    let attributes = node.attributes_but(&["k"]);
    Ok(Some(new.last_with(
        "TopK",
        &[node.needs(0)?, &k],
        attributes,
    )))
}

/// Upsample is Resize with whole coordinates.
fn upsample(node: &Node<'_>) -> Rewritten {
    let mode = node.text("mode").unwrap_or("nearest");
    if !matches!(mode, "nearest" | "linear" | "bilinear") {
        return Err(Refusal::new(format!(
            "its mode '{mode}' is none that Upsample has"
        )));
    }
    let mut new = Replacement::of(node.proto);
    let scales = match (node.attribute("scales"), node.input(1)) {
        (Some(scales), _) => {
            let floats = scales.floats.clone();
            new.constant(crate::onnx::TensorProto {
                dims: vec![floats.len() as i64],
                float_data: floats,
                data_type: crate::onnx::DataType::Float.into(),
                ..Default::default()
            })
        }
        (None, Some(scales)) => scales.to_owned(),
        _ => return Err(Refusal::new("its scales are missing")),
    };
    let mode = if mode == "nearest" { mode } else { "linear" };
    Ok(Some(new.last_with(
        "Resize",
        &[node.needs(0)?, "", &scales],
        whole(mode),
    )))
}

/// Resize had two inputs in operator set 10.
fn resize(node: &Node<'_>) -> Rewritten {
    let new = Replacement::of(node.proto);
    let mode = node.text("mode").unwrap_or("nearest");
    Ok(Some(new.last_with(
        "Resize",
        &[node.needs(0)?, "", node.needs(1)?],
        whole(mode),
    )))
}

fn whole(mode: &str) -> Vec<crate::onnx::AttributeProto> {
    vec![
        text_attribute("mode", mode),
        text_attribute("coordinate_transformation_mode", "asymmetric"),
        text_attribute("nearest_mode", "floor"),
    ]
}
