//! The two losses that ONNX has: NegativeLogLikelihoodLoss-22, SoftmaxCrossEntropyLoss-13.

use ndarray::{Array3, ArrayD, Ix3};

use super::{
    Made,
    call::{Call, tensor},
};
use crate::tensor::{Datum, Tensor};

pub(super) fn negative_log_likelihood(call: &Call<'_>) -> Made {
    let x = call.floats(0)?;
    Ok(vec![loss(call, &flattened(x)?, x.shape())?])
}

pub(super) fn softmax_cross_entropy(call: &Call<'_>) -> Made {
    let x = call.floats(0)?;
    let mut scores = flattened(x)?;
    for mut lane in scores.lanes_mut(ndarray::Axis(1)) {
        let largest = lane.fold(f64::NEG_INFINITY, |largest, &x| largest.max(x));
        let sum: f64 = lane.iter().map(|x| (x - largest).exp()).sum();
        let log = sum.ln() + largest;
        lane.mapv_inplace(|x| x - log);
    }
    let loss = loss(call, &scores, x.shape())?;
    let elements = scores.iter().map(|&x| x as f32).collect();
    Ok(vec![loss, Datum::F32(tensor(x.shape(), elements)?)])
}

/// As `[batch, classes, rest]`.
fn flattened(x: &Tensor) -> Result<Array3<f64>, String> {
    let &[n, c, ref rest @ ..] = x.shape() else {
        return Err(format!(
            "its scores have shape {:?}, without classes",
            x.shape()
        ));
    };
    let shape = Ix3(n, c, rest.iter().product());
    let x = x.mapv(f64::from).into_shape_with_order(shape);
    x.map_err(|error| error.to_string())
}

fn loss(call: &Call<'_>, scores: &Array3<f64>, shape: &[usize]) -> Result<Datum, String> {
    let labels: ArrayD<i64> = call.integers(1)?;
    let weight = call.optional_floats(2)?;
    let ignored = call.node.int("ignore_index");
    let (n, c, rest) = scores.dim();
    if labels.len() != n * rest {
        return Err(format!("{} labels are not {n} x {rest}", labels.len()));
    }
    let mut losses = Vec::with_capacity(labels.len());
    let mut weights = 0.0;
    for (place, &label) in labels.iter().enumerate() {
        if Some(label) == ignored {
            losses.push(0.0);
            continue;
        }
        let class = usize::try_from(label)
            .ok()
            .filter(|&class| class < c)
            .ok_or_else(|| format!("label {label} is none of {c} classes"))?;
        let weight = match weight {
            Some(weight) => f64::from(*weight.iter().nth(class).ok_or("its weights are too few")?),
            None => 1.0,
        };
        weights += weight;
        losses.push(-scores[[place / rest.max(1), class, place % rest.max(1)]] * weight);
    }
    let sum: f64 = losses.iter().sum();
    let y = match call.text("reduction", "mean") {
        "none" => {
            let shape = [&shape[..1], &shape[2..]].concat();
            tensor(&shape, losses.into_iter().map(|x| x as f32).collect())?
        }
        "sum" => tensor(&[], vec![sum as f32])?,
        "mean" => tensor(&[], vec![(sum / weights) as f32])?,
        other => return Err(format!("its reduction '{other}' is none that ONNX has")),
    };
    Ok(Datum::F32(y))
}
