//! Operators that rten has not, or has without some attributes: they go to kernels of our own, their
//! attributes as they are.

use super::{Node, Rewritten};
use crate::{
    canonical::{
        known::{Known, counted},
        refusal::{NO_TWO_CORNERS, Refusal, two_ways_to_align},
        replacement::{Replacement, int_attribute},
    },
    onnx::{AttributeProto, DataType},
};

/// Always run by our own kernel.
const ALWAYS: &[&str] = &[
    "AffineGrid",
    "BlackmanWindow",
    "CenterCropPad",
    "Col2Im",
    "Compress",
    "CumProd",
    "DeformConv",
    "Det",
    "HammingWindow",
    "HannWindow",
    "LRN",
    "LpPool",
    "MaxUnpool",
    "MelWeightMatrix",
    "NegativeLogLikelihoodLoss",
    "NonMaxSuppression",
    "RNN",
    "RoiAlign",
    // rten's puts some elements elsewhere where there are fewer indices than elements.
    "ScatterElements",
    "SoftmaxCrossEntropyLoss",
    "SpaceToDepth",
    "TensorScatter",
    "Unique",
];

pub(super) fn rewrite(known: &Known<'_>, node: &Node<'_>) -> Rewritten {
    let op = node.op();
    corners(known, node)?;
    let own = match op {
        _ if ALWAYS.contains(&op) => true,
        // rten takes neither the first of equals nor the last.
        "ArgMax" | "ArgMin" if known.nested => return best(known, node),
        "ArgMax" | "ArgMin" => true,
        "GridSample" => {
            let linear = matches!(node.text("mode"), None | Some("linear" | "bilinear"));
            let zeros = matches!(node.text("padding_mode"), None | Some("zeros"));
            !(linear && zeros && known.rank(node.needs(0)?) == Some(4))
        }
        "GRU" | "LSTM" => recurrent(node),
        "Resize" => resize(known, node)?,
        "Pad" => pad(known, node)?,
        "DFT" => true,
        "BitCast" => {
            let to = node
                .int("to")
                .and_then(|to| DataType::try_from(to as i32).ok());
            let to = to.unwrap_or(DataType::Undefined);
            let same = |elem| {
                matches!(
                    elem,
                    DataType::Float | DataType::Int32 | DataType::Int8 | DataType::Uint8
                )
            };
            if !same(to) || !same(known.elem(node.needs(0)?)) {
                return Err(Refusal::new(format!(
                    "it takes bits for {to:?}, which are not held as such here"
                )));
            }
            return to_kernel(known, node, vec![elem_attribute(to)]);
        }
        _ => false,
    };
    match own {
        true => to_kernel(known, node, Vec::new()),
        false => Ok(None),
    }
}

/// The node as one of ours, with more attributes.
pub(super) fn to_kernel(
    known: &Known<'_>,
    node: &Node<'_>,
    more: Vec<AttributeProto>,
) -> Rewritten {
    to_kernel_with(known, node, &node.inputs(), more)
}

/// The same with other inputs.
pub(super) fn to_kernel_with(
    known: &Known<'_>,
    node: &Node<'_>,
    inputs: &[&str],
    more: Vec<AttributeProto>,
) -> Rewritten {
    let stated: Vec<&str> = more
        .iter()
        .map(|attribute| attribute.name.as_str())
        .collect();
    let mut attributes = node.attributes_but(&stated);
    if !stated.contains(&"elem") {
        let elem = known.elem(node.input(0).unwrap_or_default());
        attributes.push(elem_attribute(elem));
    }
    attributes.extend(more);
    nowhere_nested(known)?;
    Ok(Some(Replacement::of(node.proto).last_own(
        node.op(),
        inputs,
        attributes,
    )))
}

/// Our kernels run between rten's nodes, so none can be inside one.
pub(super) fn nowhere_nested(known: &Known<'_>) -> Result<(), Refusal> {
    match known.nested {
        true => Err(Refusal::new(
            "it is inside the body of an If, Loop or Scan, where it cannot be run exactly: only the float \
             engine runs there, and nothing notices integers beyond 32 bits; unroll the body",
        )),
        false => Ok(()),
    }
}

/// Type of the integers that a kernel makes.
pub(super) fn elem_attribute(elem: DataType) -> AttributeProto {
    int_attribute("elem", i32::from(elem).into())
}

/// ArgMax and ArgMin inside a body, by the first that TopK finds.
fn best(known: &Known<'_>, node: &Node<'_>) -> Rewritten {
    if node.int("select_last_index").unwrap_or(0) != 0 {
        nowhere_nested(known)?;
    }
    let axis = node.int("axis").unwrap_or(0);
    let mut new = Replacement::of(node.proto);
    let one = new.ints(&[1]);
    let along = vec![
        int_attribute("axis", axis),
        int_attribute("largest", i64::from(node.op() == "ArgMax")),
    ];
    let found = new.node_of("TopK", &[node.needs(0)?, &one], 2, along);
    if node.int("keepdims").unwrap_or(1) != 0 {
        return Ok(Some(new.last("Identity", &[&found[1]])));
    }
    let axis = new.ints(&[axis]);
    Ok(Some(new.last("Squeeze", &[&found[1], &axis])))
}

/// Whether a GRU or LSTM has what rten's has not.
fn recurrent(node: &Node<'_>) -> bool {
    let zero = |name: &str| node.int(name).unwrap_or(0) == 0;
    let stated = |name: &str| {
        node.attribute(name)
            .is_some_and(|attribute| !attribute.strings.is_empty() || !attribute.floats.is_empty())
    };
    let plain = zero("layout")
        && zero("input_forget")
        && !stated("activations")
        && !stated("activation_alpha")
        && !stated("activation_beta")
        && node.float("clip").unwrap_or(0.0) == 0.0
        && node.input(4).is_none()
        && (node.op() != "LSTM" || node.input(7).is_none())
        && (node.op() != "GRU" || !zero("linear_before_reset"));
    !plain
}

/// Whether a Resize has what rten's has not.
fn resize(known: &Known<'_>, node: &Node<'_>) -> Result<bool, Refusal> {
    let is = |name: &str, otherwise: &[&str]| {
        node.text(name).is_none_or(|text| otherwise.contains(&text))
    };
    let zero = |name: &str| node.int(name).unwrap_or(0) == 0;
    // Corners are those of a length that a scale may give a fraction; rten takes the whole one.
    let corners = node.text("coordinate_transformation_mode") == Some("align_corners");
    let whole = match node.input(2).map(|scales| known.floats(scales)) {
        Some(Some(scales)) => scales.iter().all(|scale| scale.fract() == 0.0),
        Some(None) => false,
        None => true,
    };
    let plain = is("mode", &["nearest", "linear"])
        && (whole || !corners)
        && is(
            "coordinate_transformation_mode",
            &["half_pixel", "asymmetric", "align_corners"],
        )
        && is("keep_aspect_ratio_policy", &["stretch"])
        && zero("antialias")
        && zero("exclude_outside")
        && node.ints("axes").is_none()
        && known.is_float(node.needs(0)?)
        && known
            .rank(node.needs(0)?)
            .is_some_and(|rank| rank == 4 || rank == 3);
    Ok(!plain)
}

/// Refuses corners that cannot be aligned, where the lengths are known without a batch; the kernels
/// refuse the others.
fn corners(known: &Known<'_>, node: &Node<'_>) -> Result<(), Refusal> {
    match node.op() {
        "AffineGrid" if node.int("align_corners").unwrap_or(0) != 0 => {
            let size = known.ints(node.needs(1)?).unwrap_or_default();
            match size.iter().skip(2).any(|&length| length == 1) {
                true => Err(Refusal::new(NO_TWO_CORNERS)),
                false => Ok(()),
            }
        }
        "Resize" if node.text("coordinate_transformation_mode") == Some("align_corners") => {
            let Some(scales) = node.input(2).and_then(|scales| known.floats(scales)) else {
                return Ok(());
            };
            let shape = known.value(node.needs(0)?).shape.unwrap_or_default();
            let axes = match node.ints("axes") {
                Some(axes) => axes.to_vec(),
                None => (0..shape.len() as i64).collect(),
            };
            for (&axis, &scale) in axes.iter().zip(&scales) {
                let length = counted(axis, shape.len()).and_then(|axis| *shape.get(axis)?);
                let exact = length.unwrap_or(0) as f32 * scale;
                if exact >= 2.0 && exact.fract() != 0.0 {
                    return Err(Refusal::new(two_ways_to_align(exact)));
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Whether a Pad has what rten's has not: axes, pads that crop, other types than its own.
fn pad(known: &Known<'_>, node: &Node<'_>) -> Result<bool, Refusal> {
    let x = node.needs(0)?;
    let pads = node.needs(1)?;
    let crops = match known.ints(pads) {
        Some(pads) => pads.iter().any(|&pad| pad < 0),
        None => !known.is_length(pads),
    };
    let wraps = !matches!(
        node.text("mode"),
        None | Some("constant" | "reflect" | "edge")
    );
    let constant = matches!(node.text("mode"), None | Some("constant"));
    let narrow = !known.is_float(x) && known.elem(x) != DataType::Int64;
    Ok(node.input(3).is_some()
        || (crops && !known.nested)
        || wraps
        || (!constant && !known.nested)
        || narrow && !known.nested)
}
