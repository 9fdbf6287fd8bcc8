//! Elements put at places that are given.

use ndarray::{ArrayD, IxDyn};

use super::{
    Made,
    call::{Call, beyond, stored},
};
use crate::{onnx::DataType, tensor::Datum};

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
    let limit = x.shape()[axis];
    scattered(call, |place| {
        let mut at = place.to_vec();
        at[axis] = counted(indices[IxDyn(place)], limit)?;
        Ok(at)
    })
}

/// Elements put at places that the last axis of the indices names, or joined with what is there.
pub(super) fn nd(call: &Call<'_>) -> Made {
    let (x, indices, updates) = (call.needs(0)?, call.integers(1)?, call.needs(2)?);
    let misfit = || {
        let (x, indices, updates) = (x.shape(), indices.shape(), updates.shape());
        format!("its input has shape {x:?}, its indices {indices:?}, its updates {updates:?}")
    };
    let (&length, outer) = indices.shape().split_last().ok_or_else(misfit)?;
    let inner = x.shape().get(length..).ok_or_else(misfit)?;
    if updates.shape() != [outer, inner].concat() {
        return Err(misfit());
    }
    scattered(call, |place| {
        let (outer, inner) = place.split_at(outer.len());
        let named = (0..length).map(|axis| {
            let index = indices[IxDyn(&[outer, &[axis]].concat())];
            counted(index, x.shape()[axis])
        });
        let mut at = named.collect::<Result<Vec<usize>, String>>()?;
        at.extend(inner);
        Ok(at)
    })
}

/// An index counted from the front.
fn counted(index: i64, limit: usize) -> Result<usize, String> {
    let place = if index < 0 {
        index + limit as i64
    } else {
        index
    };
    let place = usize::try_from(place).ok().filter(|&place| place < limit);
    place.ok_or_else(|| format!("index {index} is outside its input"))
}

/// The first operand, each element of the third put where `place` says, or joined with what is there.
fn scattered(call: &Call<'_>, place: impl Fn(&[usize]) -> Result<Vec<usize>, String>) -> Made {
    let (x, updates) = (call.needs(0)?, call.needs(2)?);
    match (x, updates) {
        (Datum::F32(x), Datum::F32(updates)) => {
            let y = joined(
                call,
                x,
                updates,
                place,
                |a, b| Some(a + b),
                |a, b| Some(a * b),
            )?;
            Ok(vec![Datum::F32(y)])
        }
        (Datum::F32(_), _) | (_, Datum::F32(_)) => {
            Err("its inputs are of different types".to_owned())
        }
        _ => {
            let y = joined(
                call,
                &call.integers(0)?,
                &call.integers(2)?,
                place,
                i64::checked_add,
                i64::checked_mul,
            )?;
            let elem = match (call.elem(), x) {
                (DataType::Undefined, Datum::I8(_)) => DataType::Int8,
                (DataType::Undefined, Datum::U8(_)) => DataType::Uint8,
                (elem, _) => elem,
            };
            Ok(vec![stored(&y, elem)?])
        }
    }
}

/// The same for one type of elements, whose sum and product are None where they cannot be held.
fn joined<T: Copy + PartialOrd>(
    call: &Call<'_>,
    x: &ArrayD<T>,
    updates: &ArrayD<T>,
    place: impl Fn(&[usize]) -> Result<Vec<usize>, String>,
    add: fn(T, T) -> Option<T>,
    mul: fn(T, T) -> Option<T>,
) -> Result<ArrayD<T>, String> {
    let reduction = call.text("reduction", "none");
    if !["none", "add", "mul", "min", "max"].contains(&reduction) {
        return Err(format!("its reduction '{reduction}' is none that ONNX has"));
    }
    let mut y = x.clone();
    for (from, &update) in updates.indexed_iter() {
        let at = place(ndarray::Dimension::slice(&from))?;
        let slot = y
            .get_mut(IxDyn(&at))
            .ok_or_else(|| format!("{at:?} is outside its input"))?;
        let next = match reduction {
            "add" => add(*slot, update),
            "mul" => mul(*slot, update),
            "min" => Some(if update < *slot { update } else { *slot }),
            "max" => Some(if update > *slot { update } else { *slot }),
            _ => Some(update),
        };
        *slot = next.ok_or_else(|| beyond("of a scatter"))?;
    }
    Ok(y)
}
