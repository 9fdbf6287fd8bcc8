//! `outputs.safetensors`, where it was asked for: the model's outputs on every measured batch,
//! float, VALIDATION and CONVERTED, so that a user can compute the figure that counts for the task.
//!
//! Tensors are `OUTPUT.float`, `OUTPUT.validation`, `OUTPUT.converted`, stacked over the batches
//! along a new first axis; where batches differ in shape each has its own, `OUTPUT.float.0003`.
//! Integers and booleans keep the type that the float run has them in.

use std::{collections::BTreeMap, path::Path};

use ndarray::ArrayD;
use safetensors::{Dtype, SafeTensors, serialize, serialize_to_file, tensor::TensorView};

use super::weights::failed;
use crate::{
    Error, Result,
    blobs::Blobs,
    tensor::{Datum, Tensor, append_le},
};

const WHAT: &str = "outputs.safetensors";

/// One output of one batch.
pub(crate) struct SavedOutput {
    name: String,
    elements: Elements,
}

/// A tensor as it is written.
pub(crate) struct Elements {
    dtype: Dtype,
    shape: Vec<usize>,
    /// Little-endian, row-major.
    bytes: Vec<u8>,
}

impl SavedOutput {
    /// `kind` is "float", "validation" or "converted".
    pub(crate) fn new(output: &str, kind: &str, elements: impl Into<Elements>) -> Self {
        SavedOutput {
            name: format!("{output}.{kind}"),
            elements: elements.into(),
        }
    }
}

impl Elements {
    fn of<T: Copy, const N: usize>(
        dtype: Dtype,
        array: &ArrayD<T>,
        to_le: impl Fn(T) -> [u8; N],
    ) -> Self {
        // In logical order, whatever the layout.
        let mut bytes = Vec::new();
        append_le(&mut bytes, array.iter(), to_le);
        Elements {
            dtype,
            shape: array.shape().to_vec(),
            bytes,
        }
    }
}

impl From<&Tensor> for Elements {
    fn from(tensor: &Tensor) -> Self {
        Elements::of(Dtype::F32, tensor, f32::to_le_bytes)
    }
}

impl From<&ArrayD<i64>> for Elements {
    fn from(array: &ArrayD<i64>) -> Self {
        Elements::of(Dtype::I64, array, i64::to_le_bytes)
    }
}

impl From<&Datum> for Elements {
    fn from(datum: &Datum) -> Self {
        match datum {
            Datum::F32(array) => array.into(),
            Datum::I32(array) => Elements::of(Dtype::I32, array, i32::to_le_bytes),
            Datum::I8(array) => Elements::of(Dtype::I8, array, i8::to_le_bytes),
            Datum::U8(array) => Elements::of(Dtype::U8, array, u8::to_le_bytes),
        }
    }
}

/// The outputs of one batch as one safetensors file in memory.
pub(crate) fn save_batch(outputs: &[SavedOutput]) -> Result<Vec<u8>> {
    serialize(views(outputs)?, None).map_err(|error| failed(WHAT, &error))
}

/// Joins the batches into one file at `path`.
pub(crate) fn join(batches: &[String], blobs: &dyn Blobs, path: &Path) -> Result<()> {
    let mut by_name: BTreeMap<String, Vec<SavedOutput>> = BTreeMap::new();
    for digest in batches {
        let io = |source| Error::Io {
            what: WHAT.to_owned(),
            source,
        };
        let bytes = std::fs::read(blobs.path(digest).map_err(io)?).map_err(io)?;
        let batch = SafeTensors::deserialize(&bytes).map_err(|error| failed(WHAT, &error))?;
        for (name, tensor) in batch.iter() {
            by_name
                .entry(name.to_owned())
                .or_default()
                .push(SavedOutput {
                    name: name.to_owned(),
                    elements: Elements {
                        dtype: tensor.dtype(),
                        shape: tensor.shape().to_vec(),
                        bytes: tensor.data().to_vec(),
                    },
                });
        }
    }
    let stacked: Vec<SavedOutput> = by_name.into_values().flat_map(stack).collect();
    serialize_to_file(views(&stacked)?, None, path).map_err(|error| failed(WHAT, &error))
}

/// The tensors by name, borrowed for writing.
fn views(outputs: &[SavedOutput]) -> Result<BTreeMap<&str, TensorView<'_>>> {
    let mut views = BTreeMap::new();
    for output in outputs {
        let Elements {
            dtype,
            shape,
            bytes,
        } = &output.elements;
        let view = TensorView::new(*dtype, shape.clone(), bytes);
        let view = view.map_err(|error| failed(WHAT, &error))?;
        views.insert(output.name.as_str(), view);
    }
    Ok(views)
}

/// One output of all batches: stacked where the shapes are the same, else each by itself.
fn stack(mut batches: Vec<SavedOutput>) -> Vec<SavedOutput> {
    let Some(SavedOutput { name, elements }) = batches.first() else {
        return batches;
    };
    let like_first = |batch: &SavedOutput| {
        let Elements { dtype, shape, .. } = &batch.elements;
        (dtype, shape) == (&elements.dtype, &elements.shape)
    };
    if batches.iter().all(like_first) {
        let mut shape = vec![batches.len()];
        shape.extend(&elements.shape);
        let (name, dtype) = (name.clone(), elements.dtype);
        let bytes = batches.into_iter().flat_map(|batch| batch.elements.bytes);
        let elements = Elements {
            dtype,
            shape,
            bytes: bytes.collect(),
        };
        return vec![SavedOutput { name, elements }];
    }
    for (index, batch) in batches.iter_mut().enumerate() {
        batch.name = format!("{}.{index:04}", batch.name);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(length: usize) -> SavedOutput {
        SavedOutput::new("y", "float", &Tensor::zeros(vec![length]))
    }

    #[test]
    fn batches_of_one_shape_are_stacked_and_others_keep_their_own() {
        let same = stack(vec![output(2), output(2)]);
        assert_eq!(same.len(), 1);
        assert_eq!(same[0].name, "y.float");
        let elements = &same[0].elements;
        assert_eq!(
            (elements.shape.as_slice(), elements.bytes.len()),
            (&[2, 2][..], 16)
        );
        let ragged = stack(vec![output(2), output(1)]);
        let names: Vec<&str> = ragged.iter().map(|output| output.name.as_str()).collect();
        assert_eq!(names, ["y.float.0000", "y.float.0001"]);
    }

    #[test]
    fn integers_are_saved_in_their_own_type() {
        let turned = ndarray::arr2(&[[1, 3], [2, -4]]).reversed_axes();
        let outputs = [
            SavedOutput::new("top", "float", &Datum::I32(turned.into_dyn())),
            SavedOutput::new(
                "mask",
                "float",
                &Datum::U8(ndarray::arr1(&[1, 0]).into_dyn()),
            ),
            SavedOutput::new("sign", "float", &Datum::I8(ndarray::arr1(&[-1]).into_dyn())),
        ];
        let bytes = save_batch(&outputs).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let top = file.tensor("top.float").unwrap();
        assert_eq!((top.dtype(), top.shape()), (Dtype::I32, &[2, 2][..]));
        let elements: Vec<u8> = [1_i32, 2, 3, -4].map(i32::to_le_bytes).concat();
        assert_eq!(top.data(), elements);
        assert_eq!(file.tensor("mask.float").unwrap().dtype(), Dtype::U8);
        assert_eq!(file.tensor("sign.float").unwrap().data(), [0xff]);
    }
}
