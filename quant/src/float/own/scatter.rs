//! Elements put at places that are given.

use ndarray::IxDyn;

use super::{Made, call::Call};
use crate::tensor::Datum;

/// A cache `[batch, .., length, ..]` with new elements from `write_indices` on.
pub(super) fn tensor_scatter(call: &Call<'_>) -> Made {
    let (past, update) = (call.needs(0)?, call.needs(1)?);
    let rank = past.shape().len();
    let axis = call.axis(call.int("axis", -2), rank)?;
    let starts = call.list(2)?;
    let circular = call.text("mode", "linear") == "circular";
    let limit = past.shape()[axis];
    let place = |index: &[usize]| -> Option<Vec<usize>> {
        let start = match &starts {
            Some(starts) => usize::try_from(*starts.get(index[0])?).ok()?,
            None => 0,
        };
        let mut at = index.to_vec();
        at[axis] += start;
        if circular {
            at[axis] %= limit.max(1);
        }
        Some(at)
    };
    let outside = || "it writes beyond its cache".to_owned();
    macro_rules! scatter {
        ($past:expr, $update:expr, $kind:path) => {{
            let mut y = $past.clone();
            for (index, &x) in $update.indexed_iter() {
                let at = place(ndarray::Dimension::slice(&index)).ok_or_else(outside)?;
                *y.get_mut(IxDyn(&at)).ok_or_else(outside)? = x;
            }
            $kind(y)
        }};
    }
    Ok(vec![match (past, update) {
        (Datum::F32(p), Datum::F32(u)) => scatter!(p, u, Datum::F32),
        (Datum::I32(p), Datum::I32(u)) => scatter!(p, u, Datum::I32),
        (Datum::I8(p), Datum::I8(u)) => scatter!(p, u, Datum::I8),
        (Datum::U8(p), Datum::U8(u)) => scatter!(p, u, Datum::U8),
        _ => return Err("its inputs are of different types".to_owned()),
    }])
}

/// Elements put at indices along an axis, or joined with what is there.
pub(super) fn elements(call: &Call<'_>) -> Made {
    let (x, indices, updates) = (call.needs(0)?, call.integers(1)?, call.needs(2)?);
    let axis = call.axis(call.int("axis", 0), x.shape().len())?;
    if indices.shape() != updates.shape() || indices.ndim() != x.shape().len() {
        return Err(format!(
            "its indices have shape {:?}, its updates {:?}",
            indices.shape(),
            updates.shape()
        ));
    }
    let limit = x.shape()[axis] as i64;
    let reduction = call.text("reduction", "none");
    if !["none", "add", "mul", "min", "max"].contains(&reduction) {
        return Err(format!("its reduction '{reduction}' is none that ONNX has"));
    }
    macro_rules! scatter {
        ($x:expr, $updates:expr, $kind:path, $add:expr, $mul:expr) => {{
            let mut y = $x.clone();
            for (place, &update) in $updates.indexed_iter() {
                let mut at = ndarray::Dimension::slice(&place).to_vec();
                let index = indices[&place];
                let index = if index < 0 { index + limit } else { index };
                at[axis] = usize::try_from(index).unwrap_or(usize::MAX);
                let slot = y
                    .get_mut(IxDyn(&at))
                    .ok_or_else(|| format!("index {index} is outside its input"))?;
                *slot = match reduction {
                    "add" => $add(*slot, update),
                    "mul" => $mul(*slot, update),
                    "min" if update < *slot => update,
                    "max" if update > *slot => update,
                    "min" | "max" => *slot,
                    _ => update,
                };
            }
            $kind(y)
        }};
    }
    let float = (|a: f32, b: f32| a + b, |a: f32, b: f32| a * b);
    Ok(vec![match (x, updates) {
        (Datum::F32(x), Datum::F32(u)) => scatter!(x, u, Datum::F32, float.0, float.1),
        (Datum::I32(x), Datum::I32(u)) => {
            scatter!(x, u, Datum::I32, i32::wrapping_add, i32::wrapping_mul)
        }
        (Datum::I8(x), Datum::I8(u)) => {
            scatter!(x, u, Datum::I8, i8::wrapping_add, i8::wrapping_mul)
        }
        (Datum::U8(x), Datum::U8(u)) => {
            scatter!(x, u, Datum::U8, u8::wrapping_add, u8::wrapping_mul)
        }
        _ => return Err("its inputs are of different types".to_owned()),
    }])
}
