//! `outputs.safetensors`, where it was asked for: the model's outputs on every measured batch,
//! float, VALIDATION and CONVERTED, so that a user can compute the figure that counts for the task.
//!
//! Tensors are `OUTPUT.float`, `OUTPUT.validation`, `OUTPUT.converted`, stacked over the batches
//! along a new first axis; where batches differ in shape each has its own, `OUTPUT.float.0003`.

use std::{collections::BTreeMap, path::Path};

use safetensors::{Dtype, SafeTensors, serialize, serialize_to_file, tensor::TensorView};

use super::weights::failed;
use crate::{Error, Result, flow::Blobs, tensor::Tensor};

const WHAT: &str = "outputs.safetensors";

/// One output of one batch.
pub(crate) struct SavedOutput {
    name: String,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl SavedOutput {
    /// `kind` is "float", "validation" or "converted".
    pub(crate) fn new(output: &str, kind: &str, tensor: &Tensor) -> Self {
        let standard = tensor.as_standard_layout();
        SavedOutput {
            name: format!("{output}.{kind}"),
            shape: tensor.shape().to_vec(),
            bytes: standard.iter().flat_map(|x| x.to_le_bytes()).collect(),
        }
    }
}

/// The outputs of one batch as one safetensors file in memory.
pub(crate) fn save_batch(outputs: &[SavedOutput]) -> Result<Vec<u8>> {
    let mut tensors = BTreeMap::new();
    for output in outputs {
        let view = TensorView::new(Dtype::F32, output.shape.clone(), &output.bytes)
            .map_err(|error| failed(WHAT, &error))?;
        tensors.insert(output.name.clone(), view);
    }
    serialize(tensors, None).map_err(|error| failed(WHAT, &error))
}

/// Joins the batches into one file at `path`.
pub(crate) fn join(batches: &[String], blobs: &dyn Blobs, path: &Path) -> Result<()> {
    let mut by_name: BTreeMap<String, Vec<(Vec<usize>, Vec<u8>)>> = BTreeMap::new();
    for digest in batches {
        let io = |source| Error::Io {
            what: WHAT.to_owned(),
            source,
        };
        let bytes = std::fs::read(blobs.path(digest).map_err(io)?).map_err(io)?;
        let batch = SafeTensors::deserialize(&bytes).map_err(|error| failed(WHAT, &error))?;
        for (name, tensor) in batch.iter() {
            let entry = (tensor.shape().to_vec(), tensor.data().to_vec());
            by_name.entry(name.to_owned()).or_default().push(entry);
        }
    }
    let mut stacked: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, tensors) in by_name {
        stacked.extend(stack(&name, tensors));
    }
    let mut views = BTreeMap::new();
    for (name, shape, bytes) in &stacked {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes)
            .map_err(|error| failed(WHAT, &error))?;
        views.insert(name.clone(), view);
    }
    serialize_to_file(views, None, path).map_err(|error| failed(WHAT, &error))
}

fn stack(name: &str, tensors: Vec<(Vec<usize>, Vec<u8>)>) -> Vec<(String, Vec<usize>, Vec<u8>)> {
    let first = tensors
        .first()
        .map(|(shape, _)| shape.clone())
        .unwrap_or_default();
    if tensors.iter().all(|(shape, _)| *shape == first) {
        let mut shape = vec![tensors.len()];
        shape.extend(first);
        let bytes = tensors.into_iter().flat_map(|(_, bytes)| bytes).collect();
        return vec![(name.to_owned(), shape, bytes)];
    }
    let own = |(index, (shape, bytes)): (usize, (Vec<usize>, Vec<u8>))| {
        (format!("{name}.{index:04}"), shape, bytes)
    };
    tensors.into_iter().enumerate().map(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_of_one_shape_are_stacked_and_others_keep_their_own() {
        let same = stack("y", vec![(vec![2], vec![0; 8]), (vec![2], vec![1; 8])]);
        assert_eq!(same.len(), 1);
        assert_eq!(
            (same[0].0.as_str(), &same[0].1[..], same[0].2.len()),
            ("y", &[2, 2][..], 16)
        );
        let ragged = stack("y", vec![(vec![2], vec![0; 8]), (vec![1], vec![1; 4])]);
        let names: Vec<&str> = ragged.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["y.0000", "y.0001"]);
    }
}
