//! The file of tensors: `mended.safetensors`. What it will hold is found first, so that ONNX files can say
//! where in it their constants lie; then it is written one tensor after another, none of which is held
//! longer than that.

use std::{
    collections::BTreeMap,
    io::{BufWriter, Write as _},
    path::Path,
};

use ndarray::{ArrayViewD, Axis};
use serde_json::json;

use super::{Source, source::Part};
use crate::{
    Error, Result,
    error::json_error,
    tensor::{SharedTensor, append_le},
};

/// Name of the file.
pub(super) const FILE: &str = "mended.safetensors";

/// Floats of at most so many elements are constants of the ONNX files themselves.
pub(super) const INLINE: usize = 1024;

/// Bytes that the header of a safetensors file is a multiple of.
const ALIGNED: usize = 8;

/// Where the elements of a tensor come from.
#[derive(Debug, Clone)]
pub(super) enum Recipe {
    /// They are there.
    Held(SharedTensor),
    /// A part of a Linear's weight, by node index, made when it is written.
    Made(usize, Part),
}

/// A tensor of floats that will be in the file.
#[derive(Debug, Clone)]
struct Stored {
    shape: Vec<usize>,
    recipe: Recipe,
}

/// What will be in the file, by name.
#[derive(Debug, Default)]
pub(super) struct Store {
    tensors: BTreeMap<String, Stored>,
}

/// Where in the file each tensor lies.
#[derive(Debug)]
pub(super) struct Layout {
    header: Vec<u8>,
    places: BTreeMap<String, (usize, usize)>,
}

impl Layout {
    /// Offset in the file and length, in bytes.
    pub(super) fn place(&self, name: &str) -> (usize, usize) {
        let (start, end) = self.places.get(name).copied().unwrap_or_default();
        (self.header.len() + start, end - start)
    }
}

impl Store {
    /// Adds a tensor; one of this name stays.
    pub(super) fn add(&mut self, name: &str, shape: &[usize], recipe: Recipe) {
        self.tensors.entry(name.to_owned()).or_insert(Stored {
            shape: shape.to_vec(),
            recipe,
        });
    }

    /// Where each tensor will lie.
    ///
    /// # Errors
    /// None that a caller can cause.
    pub(super) fn layout(&self) -> Result<Layout> {
        let mut places = BTreeMap::new();
        let mut header = serde_json::Map::new();
        let mut end = 0;
        for (name, stored) in &self.tensors {
            let start = end;
            end += 4 * stored.shape.iter().product::<usize>();
            places.insert(name.clone(), (start, end));
            let entry =
                json!({"dtype": "F32", "shape": stored.shape, "data_offsets": [start, end]});
            header.insert(name.clone(), entry);
        }
        let mut text = serde_json::to_vec(&header).map_err(|error| json_error(FILE, &error))?;
        text.resize(text.len().next_multiple_of(ALIGNED), b' ');
        let mut header = (text.len() as u64).to_le_bytes().to_vec();
        header.extend(text);
        Ok(Layout { header, places })
    }

    /// Writes the file.
    ///
    /// # Errors
    /// [`Error::Io`]; integers of a Linear that cannot be read or made.
    pub(super) fn write(&self, source: &Source<'_>, layout: &Layout, path: &Path) -> Result<()> {
        let io = |source| Error::Io {
            what: FILE.to_owned(),
            source,
        };
        let mut file = BufWriter::new(std::fs::File::create(path).map_err(io)?);
        file.write_all(&layout.header).map_err(io)?;
        for stored in self.tensors.values() {
            match &stored.recipe {
                Recipe::Held(tensor) => write(tensor.view(), &mut file),
                &Recipe::Made(linear, part) => write(source.part(linear, part)?.view(), &mut file),
            }
            .map_err(io)?;
        }
        file.into_inner()
            .map_err(|error| io(error.into_error()))
            .map(drop)
    }
}

/// Elements in row-major order, little-endian.
fn write(array: ArrayViewD<'_, f32>, file: &mut impl std::io::Write) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let mut row = |row: ArrayViewD<'_, f32>| {
        bytes.clear();
        append_le(&mut bytes, row.iter(), f32::to_le_bytes);
        file.write_all(&bytes)
    };
    match array.ndim() {
        0 => row(array),
        _ => array.axis_iter(Axis(0)).try_for_each(row),
    }
}
