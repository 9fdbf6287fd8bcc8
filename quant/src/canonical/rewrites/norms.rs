//! Normalizations whose definition is a function of others (ONNX, GroupNormalization-21,
//! MeanVarianceNormalization-13, GlobalLpPool-22).

use super::{Node, Rewritten};
use crate::canonical::{
    known::Known,
    refusal::Refusal,
    replacement::{Replacement, float_attribute, int_attribute},
};

/// What MeanVarianceNormalization adds to a deviation.
const TINY: f32 = 1e-9;

pub(super) fn rewrite(known: &Known<'_>, node: &Node<'_>) -> Rewritten {
    match node.op() {
        "LayerNormalization" if node.makes(1) || node.makes(2) => layer(known, node),
        "GroupNormalization" => group(known, node),
        "MeanVarianceNormalization" => mean_variance(node),
        "GlobalLpPool" => global_lp_pool(known, node),
        _ => Ok(None),
    }
}

/// The mean and the inverse deviation apart from what is normalized by them.
fn layer(known: &Known<'_>, node: &Node<'_>) -> Rewritten {
    let x = node.needs(0)?;
    let first = known.axis(x, node.int("axis").unwrap_or(-1))?;
    let rank = known.rank(x).unwrap_or(first);
    let mut new = Replacement::of(node.proto);
    let axes: Vec<i64> = (first as i64..rank as i64).collect();
    let axes = new.ints(&axes);
    let mean = new.node("ReduceMean", &[x, &axes]);
    let centred = new.node("Sub", &[x, &mean]);
    let squares = new.node("Mul", &[&centred, &centred]);
    let variance = new.node("ReduceMean", &[&squares, &axes]);
    let epsilon = new.float(node.float("epsilon").unwrap_or(1e-5));
    let sum = new.node("Add", &[&variance, &epsilon]);
    let deviation = new.node("Sqrt", &[&sum]);
    Ok(Some(new.last_each(vec![
        (
            "LayerNormalization",
            node.inputs(),
            node.attributes_but(&[]),
        ),
        ("Identity", vec![&mean], Vec::new()),
        ("Reciprocal", vec![&deviation], Vec::new()),
    ])))
}

/// Groups of channels as channels of an InstanceNormalization without parameters.
fn group(known: &Known<'_>, node: &Node<'_>) -> Rewritten {
    let (x, scale, bias) = (node.needs(0)?, node.needs(1)?, node.needs(2)?);
    let groups = node
        .int("num_groups")
        .filter(|&groups| groups > 0)
        .ok_or_else(|| Refusal::new("its num_groups is missing"))?;
    if node.int("stash_type").unwrap_or(1) != 1 {
        return Err(Refusal::new("its stash_type is not float"));
    }
    let rank = known.rank(x).filter(|&rank| rank >= 2).ok_or_else(|| {
        Refusal::new(format!(
            "the rank of '{x}' is not known; declare its shape in the model"
        ))
    })?;
    let mut new = Replacement::of(node.proto);
    let shape = new.node("Shape", &[x]);
    let grouped = new.ints(&[0, groups, -1]);
    let flat = new.node("Reshape", &[x, &grouped]);
    let ones = new.floats(&vec![1.0; groups as usize]);
    let zeros = new.floats(&vec![0.0; groups as usize]);
    let epsilon = float_attribute("epsilon", node.float("epsilon").unwrap_or(1e-5));
    let normal = new.node_with(
        "InstanceNormalization",
        &[&flat, &ones, &zeros],
        vec![epsilon],
    );
    let normal = new.node("Reshape", &[&normal, &shape]);
    let mut by_channel = vec![-1];
    by_channel.extend(vec![1; rank - 2]);
    let columns = new.ints(&by_channel);
    // Before operator set 21 there was a parameter for each group.
    let (scale, bias) = match known.opset < 21 {
        true => {
            let (of_scale, of_bias) = (
                repeated(&mut new, x, scale, groups),
                repeated(&mut new, x, bias, groups),
            );
            (of_scale, of_bias)
        }
        false => (scale.to_owned(), bias.to_owned()),
    };
    let scale = new.node("Reshape", &[&scale, &columns]);
    let bias = new.node("Reshape", &[&bias, &columns]);
    let scaled = new.node("Mul", &[&normal, &scale]);
    Ok(Some(new.last("Add", &[&scaled, &bias])))
}

/// A parameter of each group, for each of its channels.
fn repeated(new: &mut Replacement<'_>, x: &str, parameter: &str, groups: i64) -> String {
    let (start, by) = (new.ints(&[groups, 1]), new.ints(&[groups]));
    let column = new.node("Reshape", &[parameter, &start]);
    let channels = new.node_with(
        "Shape",
        &[x],
        vec![int_attribute("start", 1), int_attribute("end", 2)],
    );
    let each = new.node("Div", &[&channels, &by]);
    let target = new.node_with("Concat", &[&by, &each], vec![int_attribute("axis", 0)]);
    let wide = new.node("Expand", &[&column, &target]);
    let flat = new.ints(&[-1]);
    new.node("Reshape", &[&wide, &flat])
}

fn mean_variance(node: &Node<'_>) -> Rewritten {
    let x = node.needs(0)?;
    let mut new = Replacement::of(node.proto);
    let axes = new.ints(node.ints("axes").unwrap_or(&[0, 2, 3]));
    let mean = new.node("ReduceMean", &[x, &axes]);
    let centred = new.node("Sub", &[x, &mean]);
    let squares = new.node("Mul", &[&centred, &centred]);
    let variance = new.node("ReduceMean", &[&squares, &axes]);
    let deviation = new.node("Sqrt", &[&variance]);
    let tiny = new.float(TINY);
    let divisor = new.node("Add", &[&deviation, &tiny]);
    Ok(Some(new.last("Div", &[&centred, &divisor])))
}

fn global_lp_pool(known: &Known<'_>, node: &Node<'_>) -> Rewritten {
    let x = node.needs(0)?;
    let rank = known.rank(x).filter(|&rank| rank > 2).ok_or_else(|| {
        Refusal::new(format!(
            "the rank of '{x}' is not known; declare its shape in the model"
        ))
    })?;
    let mut new = Replacement::of(node.proto);
    let axes: Vec<i64> = (2..rank as i64).collect();
    let axes = new.ints(&axes);
    match node.int("p").unwrap_or(2) {
        1 => Ok(Some(new.last("ReduceL1", &[x, &axes]))),
        2 => Ok(Some(new.last("ReduceL2", &[x, &axes]))),
        p => {
            let (power, root) = (new.float(p as f32), new.float(1.0 / p as f32));
            let size = new.node("Abs", &[x]);
            let powers = new.node("Pow", &[&size, &power]);
            let sum = new.node("ReduceSum", &[&powers, &axes]);
            Ok(Some(new.last("Pow", &[&sum, &root])))
        }
    }
}
