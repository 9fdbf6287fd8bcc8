//! BatchNormalization folded into the Conv or the product before it, where nothing else reads what
//! lies between. For inference it is a factor and a summand for each channel (ONNX,
//! BatchNormalization-15): y = (x - mean) / sqrt(var + epsilon) * scale + B.

use std::collections::HashMap;

use ndarray::Axis;

use super::known::Known;
use crate::{
    onnx::{NodeProto, f32_initializer},
    tensor::Tensor,
};

/// Default `epsilon`.
const EPSILON: f32 = 1e-5;

/// The nodes without the BatchNormalizations that a product before them can do.
pub(super) fn batch_norms(
    nodes: Vec<NodeProto>,
    known: &mut Known<'_>,
    outputs: &[&str],
) -> Vec<NodeProto> {
    if !nodes
        .iter()
        .any(|node| node.op_type == "BatchNormalization")
    {
        return nodes;
    }
    let mut uses: HashMap<String, usize> = HashMap::new();
    for name in nodes
        .iter()
        .flat_map(|node| &node.input)
        .map(String::as_str)
        .chain(outputs.iter().copied())
    {
        *uses.entry(name.to_owned()).or_default() += 1;
    }
    let mut done: Vec<NodeProto> = Vec::with_capacity(nodes.len());
    let mut maker: HashMap<String, usize> = HashMap::new();
    for node in nodes {
        let before = node
            .input
            .first()
            .filter(|name| uses.get(*name) == Some(&1));
        let place = before.and_then(|name| maker.get(name).copied());
        let folded =
            place.and_then(|place| folded(&done[place], &node, known).map(|new| (place, new)));
        let node = match folded {
            Some((place, new)) => {
                // The product keeps its place; what follows finds it under the norm's output.
                done[place] = new;
                maker.insert(done[place].output[0].clone(), place);
                continue;
            }
            None => node,
        };
        for name in &node.output {
            maker.insert(name.clone(), done.len());
        }
        done.push(node);
    }
    done
}

fn folded(product: &NodeProto, norm: &NodeProto, known: &mut Known<'_>) -> Option<NodeProto> {
    let is_norm = norm.op_type == "BatchNormalization" && norm.domain.is_empty();
    if !is_norm || norm.output.iter().skip(1).any(|name| !name.is_empty()) {
        return None;
    }
    let outputs_at = match product.op_type.as_str() {
        "Conv" => 0,
        // A product of rank 2 has its channels last, where the norm has them.
        "Gemm" => 0,
        _ => return None,
    };
    let weight = known.all_floats(product.input.get(1)?)?;
    let bias = match product.input.get(2).filter(|name| !name.is_empty()) {
        Some(name) => Some(known.all_floats(name)?),
        None => None,
    };
    let parameter = |index: usize| known.all_floats(norm.input.get(index)?);
    let (scale, summand, mean, variance) =
        (parameter(1)?, parameter(2)?, parameter(3)?, parameter(4)?);
    let channels = weight.shape().get(outputs_at).copied()?;
    let fits = [&scale, &summand, &mean, &variance]
        .iter()
        .all(|p| p.len() == channels)
        && bias.as_ref().is_none_or(|bias| bias.len() == channels);
    if !fits {
        return None;
    }
    let epsilon = norm
        .attribute
        .iter()
        .find(|attribute| attribute.name == "epsilon");
    let epsilon = epsilon.and_then(|attribute| attribute.f).unwrap_or(EPSILON);
    let factor: Vec<f64> = scale
        .iter()
        .zip(&variance)
        .map(|(&scale, &variance)| {
            f64::from(scale) / (f64::from(variance) + f64::from(epsilon)).sqrt()
        })
        .collect();
    let mut weight = weight;
    for (mut channel, &factor) in weight.axis_iter_mut(Axis(outputs_at)).zip(&factor) {
        channel.mapv_inplace(|w| (f64::from(w) * factor) as f32);
    }
    let shift = |channel: usize| {
        let before = bias
            .as_ref()
            .and_then(|bias| bias.iter().nth(channel))
            .copied()
            .unwrap_or_default();
        let before = f64::from(before) - f64::from(*mean.iter().nth(channel)?);
        Some((before * factor[channel] + f64::from(*summand.iter().nth(channel)?)) as f32)
    };
    let shifts: Vec<f32> = (0..channels).map(shift).collect::<Option<_>>()?;
    if !weight.iter().chain(&shifts).all(|x| x.is_finite()) {
        return None;
    }
    let shifts = Tensor::from_shape_vec(vec![channels], shifts).ok()?;
    let base = product.input.get(1)?;
    let (weight_name, bias_name) = (
        format!("{base}/{}", norm.output[0]),
        format!("{base}/{}.bias", norm.output[0]),
    );
    known.constant(f32_initializer(&weight_name, weight.view()));
    known.constant(f32_initializer(&bias_name, shifts.view()));
    let mut new = product.clone();
    new.input = vec![product.input[0].clone(), weight_name, bias_name];
    new.output = vec![norm.output[0].clone()];
    Some(new)
}
