//! Safetensors in and out, as the plain slices that kernels take.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize_to_file};

/// The bytes of an input file, read once.
pub(crate) struct File(Vec<u8>);

/// An element type that a file can hold.
pub(crate) trait Element: Copy {
    /// Its name in the file.
    const DTYPE: Dtype;
    /// From the element's little-endian bytes.
    fn from_bytes(bytes: &[u8]) -> Self;
}

macro_rules! element {
    ($type:ty, $dtype:expr) => {
        impl Element for $type {
            const DTYPE: Dtype = $dtype;

            fn from_bytes(bytes: &[u8]) -> Self {
                let mut array = [0; size_of::<$type>()];
                array.copy_from_slice(bytes);
                <$type>::from_le_bytes(array)
            }
        }
    };
}
element!(i8, Dtype::I8);
element!(i16, Dtype::I16);
element!(f32, Dtype::F32);

impl File {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| path.display().to_string())?;
        Ok(Self(bytes))
    }

    /// Elements and shape of a tensor.
    pub(crate) fn tensor<T: Element>(&self, name: &str) -> Result<(Vec<T>, Vec<usize>)> {
        let view = SafeTensors::deserialize(&self.0)?
            .tensor(name)
            .with_context(|| format!("tensor '{name}'"))?;
        if view.dtype() != T::DTYPE {
            bail!("tensor '{name}' is {:?}, not {:?}", view.dtype(), T::DTYPE);
        }
        let elements = view.data().chunks_exact(size_of::<T>());
        Ok((elements.map(T::from_bytes).collect(), view.shape().to_vec()))
    }

    /// A matrix, with its rows and columns.
    pub(crate) fn matrix<T: Element>(&self, name: &str) -> Result<(Vec<T>, [usize; 2])> {
        let (elements, shape) = self.tensor(name)?;
        let [rows, columns] = shape[..] else {
            bail!("tensor '{name}' has the shape {shape:?}, not two axes");
        };
        Ok((elements, [rows, columns]))
    }

    /// The only element of a tensor.
    pub(crate) fn number(&self, name: &str) -> Result<f32> {
        match self.tensor(name)?.0[..] {
            [number] => Ok(number),
            _ => bail!("tensor '{name}' is not one number"),
        }
    }
}

/// Writes int64 tensors, wide enough for every result here.
pub(crate) fn write(path: &Path, tensors: &[(&str, Vec<i64>)]) -> Result<()> {
    let bytes: Vec<(&str, usize, Vec<u8>)> = tensors
        .iter()
        .map(|(name, values)| {
            let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            (*name, values.len(), bytes)
        })
        .collect();
    let mut views = BTreeMap::new();
    for (name, len, bytes) in &bytes {
        views.insert(*name, TensorView::new(Dtype::I64, vec![*len], bytes)?);
    }
    serialize_to_file(views, None, path).with_context(|| path.display().to_string())
}
