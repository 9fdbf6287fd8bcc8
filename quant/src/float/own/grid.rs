//! AffineGrid: the places of an image's pixels, turned by a matrix each.

use super::{
    Made,
    call::{Call, tensor},
    windows::unravel,
};
use crate::{canonical::NO_TWO_CORNERS, tensor::Datum};

pub(super) fn affine(call: &Call<'_>) -> Made {
    let theta = call.floats(0)?;
    let size = call.list(1)?.unwrap_or_default();
    let size: Option<Vec<usize>> = size.iter().map(|&x| usize::try_from(x).ok()).collect();
    let size = size.ok_or("its size is negative")?;
    let [n, _, spatial @ ..] = size.as_slice() else {
        return Err(format!("its size {size:?} has no spatial axes"));
    };
    let rank = spatial.len();
    if theta.shape() != [*n, rank, rank + 1] {
        return Err(format!(
            "its theta has shape {:?}, not {:?}",
            theta.shape(),
            [*n, rank, rank + 1]
        ));
    }
    let corners = call.int("align_corners", 0) != 0;
    if corners && spatial.contains(&1) {
        return Err(NO_TWO_CORNERS.to_owned());
    }
    let coordinate = |index: usize, length: usize| {
        let length = length as f64;
        match corners {
            true => -1.0 + 2.0 * index as f64 / (length - 1.0),
            false => (2.0 * index as f64 + 1.0) / length - 1.0,
        }
    };
    let count: usize = spatial.iter().product();
    let theta: Vec<f64> = theta.iter().map(|&x| f64::from(x)).collect();
    let mut y = Vec::with_capacity(n * count * rank);
    let mut at = vec![0; rank];
    for batch in 0..*n {
        for place in 0..count {
            unravel(place, spatial, &mut at);
            // The last axis comes first in a coordinate.
            let point = (0..rank)
                .rev()
                .map(|axis| coordinate(at[axis], spatial[axis]));
            let point: Vec<f64> = point.chain([1.0]).collect();
            for row in 0..rank {
                let first = (batch * rank + row) * (rank + 1);
                let factors = &theta[first..first + rank + 1];
                y.push(factors.iter().zip(&point).map(|(a, b)| a * b).sum::<f64>() as f32);
            }
        }
    }
    let shape = [&[*n], spatial, &[rank]].concat();
    Ok(vec![Datum::F32(tensor(&shape, y)?)])
}
