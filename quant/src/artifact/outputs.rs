//! `outputs.safetensors`, where it was asked for: the model's outputs on every measured batch,
//! float, VALIDATION and CONVERTED, so that a user can compute the figure that counts for the task.
//!
//! Tensors are `OUTPUT.float`, `OUTPUT.validation`, `OUTPUT.converted`, stacked over the batches
//! along a new first axis; where batches differ in shape each has its own, `OUTPUT.float.0003`.

use std::{collections::BTreeMap, path::Path};

use safetensors::{Dtype, SafeTensors, serialize, serialize_to_file, tensor::TensorView};

use super::weights::failed;
use crate::{
    Error, Result,
    blobs::Blobs,
    tensor::{Datum, Tensor},
};

const WHAT: &str = "outputs.safetensors";

/// One output of one batch.
pub(crate) struct SavedOutput {
    name: String,
    shape: Vec<usize>,
    dtype: Dtype,
    bytes: Vec<u8>,
}

impl SavedOutput {
    /// `kind` is "float", "validation" or "converted".
    pub(crate) fn new(output: &str, kind: &str, tensor: &Tensor) -> Self {
        let standard = tensor.as_standard_layout();
        SavedOutput {
            name: format!("{output}.{kind}"),
            shape: tensor.shape().to_vec(),
            dtype: Dtype::F32,
            bytes: standard.iter().flat_map(|x| x.to_le_bytes()).collect(),
        }
    }
}

impl SavedOutput {
    /// The same for integers and booleans, which float execution has in 32 bits.
    pub(crate) fn exact(output: &str, kind: &str, datum: &Datum) -> Self {
        let (dtype, bytes) = match datum {
            Datum::F32(tensor) => return Self::new(output, kind, tensor),
            Datum::I32(x) => (Dtype::I32, x.iter().flat_map(|x| x.to_le_bytes()).collect()),
            Datum::I8(x) => (Dtype::I8, x.iter().flat_map(|x| x.to_le_bytes()).collect()),
            Datum::U8(x) => (Dtype::U8, x.iter().copied().collect()),
        };
        SavedOutput {
            name: format!("{output}.{kind}"),
            shape: datum.shape().to_vec(),
            dtype,
            bytes,
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
                    shape: tensor.shape().to_vec(),
                    dtype: tensor.dtype(),
                    bytes: tensor.data().to_vec(),
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
        let view = TensorView::new(output.dtype, output.shape.clone(), &output.bytes)
            .map_err(|error| failed(WHAT, &error))?;
        views.insert(output.name.as_str(), view);
    }
    Ok(views)
}

/// One output of all batches: stacked where the shapes are the same, else each by itself.
fn stack(mut batches: Vec<SavedOutput>) -> Vec<SavedOutput> {
    let Some(first) = batches.first() else {
        return batches;
    };
    if batches.iter().all(|batch| batch.shape == first.shape) {
        let mut shape = vec![batches.len()];
        shape.extend(&first.shape);
        let (name, dtype) = (first.name.clone(), first.dtype);
        let bytes = batches.into_iter().flat_map(|batch| batch.bytes).collect();
        return vec![SavedOutput {
            name,
            shape,
            dtype,
            bytes,
        }];
    }
    for (index, batch) in batches.iter_mut().enumerate() {
        batch.name = format!("{}.{index:04}", batch.name);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(elements: usize) -> SavedOutput {
        SavedOutput {
            name: "y".to_owned(),
            shape: vec![elements],
            dtype: Dtype::F32,
            bytes: vec![0; 4 * elements],
        }
    }

    #[test]
    fn batches_of_one_shape_are_stacked_and_others_keep_their_own() {
        let same = stack(vec![output(2), output(2)]);
        assert_eq!(same.len(), 1);
        assert_eq!((same[0].name.as_str(), same[0].bytes.len()), ("y", 16));
        assert_eq!(same[0].shape, [2, 2]);
        let ragged = stack(vec![output(2), output(1)]);
        let names: Vec<&str> = ragged.iter().map(|output| output.name.as_str()).collect();
        assert_eq!(names, ["y.0000", "y.0001"]);
    }
}
