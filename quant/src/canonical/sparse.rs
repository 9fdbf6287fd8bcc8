//! Sparse constants made dense (ONNX IR, "Sparse tensors": SparseTensorProto).

use super::refusal::Refusal;
use crate::onnx::{DataType, Payload, SparseTensorProto, TensorProto};

/// Elements that a sparse constant may stand for, for each byte that it has: a few bytes may name
/// any shape.
const ELEMENTS: usize = 1 << 28;

/// The whole tensor, under the name of its values.
pub(super) fn dense(sparse: &SparseTensorProto) -> Result<TensorProto, Refusal> {
    let values = sparse
        .values
        .as_ref()
        .ok_or_else(|| bad("", "it has no values"))?;
    let name = values.name.as_str();
    let indices = sparse
        .indices
        .as_ref()
        .ok_or_else(|| bad(name, "it has no indices"))?;
    if values.is_external() || indices.is_external() {
        return Err(bad(
            name,
            "its data is in another file; store it in the model",
        ));
    }
    let mut whole = TensorProto {
        name: name.to_owned(),
        dims: sparse.dims.clone(),
        ..TensorProto::default()
    };
    let shape = whole
        .shape()
        .map_err(|error| bad(name, &error.to_string()))?;
    let count: usize = shape.iter().product();
    if count > ELEMENTS {
        return Err(bad(
            name,
            &format!("{count} elements are too many to be made dense"),
        ));
    }
    let places = places(name, indices, &shape)?;
    let read = |error: crate::onnx::TensorError| bad(name, &error.to_string());
    if values.is_float() {
        let elements = values.to_f32(Payload::Inline).map_err(read)?;
        whole.data_type = DataType::Float.into();
        whole.float_data = vec![0.0; count];
        scatter(
            name,
            elements.iter().copied(),
            &places,
            &mut whole.float_data,
        )?;
    } else {
        let elements = values.to_i64(Payload::Inline).map_err(read)?;
        whole.data_type = DataType::Int64.into();
        whole.int64_data = vec![0; count];
        scatter(
            name,
            elements.iter().copied(),
            &places,
            &mut whole.int64_data,
        )?;
    }
    Ok(whole)
}

fn scatter<T>(
    name: &str,
    elements: impl ExactSizeIterator<Item = T>,
    places: &[usize],
    into: &mut [T],
) -> Result<(), Refusal> {
    if elements.len() != places.len() {
        let reason = format!(
            "it has {} values and {} indices",
            elements.len(),
            places.len()
        );
        return Err(bad(name, &reason));
    }
    for (element, &place) in elements.zip(places) {
        let slot = into
            .get_mut(place)
            .ok_or_else(|| bad(name, "an index is outside its shape"))?;
        *slot = element;
    }
    Ok(())
}

/// Positions in row-major order.
fn places(name: &str, indices: &TensorProto, shape: &[usize]) -> Result<Vec<usize>, Refusal> {
    let given = indices
        .to_i64(Payload::Inline)
        .map_err(|error| bad(name, &error.to_string()))?;
    let outside = || bad(name, "an index is outside its shape");
    let one = |index: i64| usize::try_from(index).map_err(|_| outside());
    match given.ndim() {
        1 => given.iter().map(|&index| one(index)).collect(),
        2 => given
            .rows()
            .into_iter()
            .map(|row| {
                if row.len() != shape.len() {
                    return Err(outside());
                }
                row.iter()
                    .zip(shape)
                    .try_fold(0_usize, |place, (&index, &length)| {
                        let index = one(index)?;
                        if index >= length {
                            return Err(outside());
                        }
                        place
                            .checked_mul(length)
                            .and_then(|place| place.checked_add(index))
                            .ok_or_else(outside)
                    })
            })
            .collect(),
        _ => Err(bad(name, "its indices have neither one dimension nor two")),
    }
}

fn bad(name: &str, reason: &str) -> Refusal {
    Refusal::new(format!("sparse constant '{name}': {reason}"))
}
