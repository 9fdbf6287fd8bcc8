//! safetensors files, read and written.

use std::{collections::BTreeMap, fs, path::Path};

use safetensors::{Dtype, SafeTensors, serialize_to_file, tensor::TensorView};

/// Named tensors of f32.
pub type Tensors = BTreeMap<String, Tensor>;

/// A tensor of f32 in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// Elements.
    pub data: Vec<f32>,
}

/// Every f32 tensor of a file.
pub fn read(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = SafeTensors::deserialize(&bytes)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let floats = file
        .iter()
        .filter(|(_, tensor)| tensor.dtype() == Dtype::F32);
    let tensor = |(name, view): (&str, TensorView<'_>)| {
        let (elements, _) = view.data().as_chunks::<4>();
        let data = elements
            .iter()
            .map(|&bytes| f32::from_le_bytes(bytes))
            .collect();
        (
            name.to_owned(),
            Tensor {
                shape: view.shape().to_vec(),
                data,
            },
        )
    };
    floats.map(tensor).collect()
}

/// The elements of an i64 tensor.
pub fn read_i64(path: &Path, name: &str) -> Vec<i64> {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let view = file.tensor(name).unwrap();
    assert_eq!(view.dtype(), Dtype::I64, "{name}");
    let (elements, _) = view.data().as_chunks::<8>();
    elements
        .iter()
        .map(|&bytes| i64::from_le_bytes(bytes))
        .collect()
}

/// Writes a file.
pub fn write(path: &Path, tensors: &Tensors) {
    let bytes: BTreeMap<&String, Vec<u8>> = tensors
        .iter()
        .map(|(name, tensor)| {
            (
                name,
                tensor.data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            )
        })
        .collect();
    let views = tensors.iter().map(|(name, tensor)| {
        let view = TensorView::new(Dtype::F32, tensor.shape.clone(), &bytes[name]).unwrap();
        (name.as_str(), view)
    });
    serialize_to_file(views, None, path).unwrap();
}
