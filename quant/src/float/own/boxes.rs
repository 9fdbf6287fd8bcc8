//! NonMaxSuppression-11: of boxes that overlap, the one with the highest score.

use super::{
    Made,
    call::{Call, tensor},
};
use crate::tensor::Datum;

pub(super) fn suppress(call: &Call<'_>) -> Made {
    let (boxes, scores) = (call.floats(0)?, call.floats(1)?);
    let (&[batches, count, 4], &[batches2, classes, count2]) = (boxes.shape(), scores.shape())
    else {
        return Err(format!(
            "its boxes have shape {:?} and its scores {:?}",
            boxes.shape(),
            scores.shape()
        ));
    };
    if batches != batches2 || count != count2 {
        return Err(format!(
            "{count} boxes in {batches} batches are not {count2} in {batches2}"
        ));
    }
    let most = call.number(2)?.unwrap_or(0.0).clamp(0.0, count as f64) as usize;
    let overlap = call.number(3)?.unwrap_or(0.0) as f32;
    let least = call.number(4)?.map(|least| least as f32);
    let centred = call.int("center_point_box", 0) != 0;
    let mut chosen: Vec<i32> = Vec::new();
    for batch in 0..batches {
        let corners: Vec<[f32; 4]> = (0..count)
            .map(|index| {
                let at = |edge: usize| boxes[[batch, index, edge]];
                corners([at(0), at(1), at(2), at(3)], centred)
            })
            .collect();
        for class in 0..classes {
            let score = |index: usize| scores[[batch, class, index]];
            let mut open: Vec<usize> = (0..count)
                .filter(|&index| least.is_none_or(|least| score(index) > least))
                .collect();
            open.sort_by(|&a, &b| score(b).total_cmp(&score(a)).then(a.cmp(&b)));
            let mut kept: Vec<usize> = Vec::new();
            for index in open {
                if kept.len() == most {
                    break;
                }
                if kept
                    .iter()
                    .all(|&other| shared(corners[index], corners[other]) <= overlap)
                {
                    kept.push(index);
                }
            }
            let rows = kept
                .iter()
                .flat_map(|&index| [batch as i32, class as i32, index as i32]);
            chosen.extend(rows);
        }
    }
    Ok(vec![Datum::I32(tensor(&[chosen.len() / 3, 3], chosen)?)])
}

/// Top, left, bottom, right.
fn corners([a, b, c, d]: [f32; 4], centred: bool) -> [f32; 4] {
    match centred {
        true => [b - d / 2.0, a - c / 2.0, b + d / 2.0, a + c / 2.0],
        false => [a.min(c), b.min(d), a.max(c), b.max(d)],
    }
}

/// Intersection over union.
fn shared(a: [f32; 4], b: [f32; 4]) -> f32 {
    let area = |[top, left, bottom, right]: [f32; 4]| (bottom - top) * (right - left);
    let height = a[2].min(b[2]) - a[0].max(b[0]);
    let width = a[3].min(b[3]) - a[1].max(b[1]);
    let (of_a, of_b) = (area(a), area(b));
    if height <= 0.0 || width <= 0.0 || of_a <= 0.0 || of_b <= 0.0 {
        return 0.0;
    }
    height * width / (of_a + of_b - height * width)
}
