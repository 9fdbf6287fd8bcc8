//! NumPy archives. They are compressed as a whole, so every tensor is decoded when the file is
//! opened; safetensors is the format for batches that are large.

use std::{collections::BTreeMap, fs::File, io::Read, path::Path};

use ndarray::{ArrayD, ArrayViewD, Axis};
use ndarray_npy::{ReadNpyExt, ReadableElement, ViewElement, ViewNpyError, ViewNpyExt};
use zip::ZipArchive;

use super::safetensors::narrowed;
use crate::{
    error::{Error, Result},
    model::ElementKind,
    tensor::Datum,
};

/// A decoded archive. An array that cannot be read is an error only for whoever wants it: files often
/// hold labels and notes beside the inputs.
#[derive(Debug)]
pub(super) struct NpzFile {
    name: String,
    arrays: BTreeMap<String, Result<Datum, String>>,
}

impl NpzFile {
    pub(super) fn open(name: &str, path: &Path) -> Result<NpzFile> {
        let io = |source| Error::Io {
            what: name.to_owned(),
            source,
        };
        let bad = |reason: String| Error::Batch {
            file: name.to_owned(),
            reason,
        };
        let file = File::open(path).map_err(io)?;
        let mut archive = ZipArchive::new(file)
            .map_err(|error| bad(format!("no .npz file, or a truncated one: {error}")))?;
        let mut arrays = BTreeMap::new();
        for index in 0..archive.len() {
            let mut entry = archive
                .by_index(index)
                .map_err(|error| bad(format!("entry {index} is damaged: {error}")))?;
            let key = entry
                .name()
                .strip_suffix(".npy")
                .unwrap_or(entry.name())
                .to_owned();
            let mut bytes = Vec::new();
            entry
                .read_to_end(&mut bytes)
                .map_err(|error| bad(format!("tensor '{key}' is damaged: {error}")))?;
            let datum = decode(&bytes);
            arrays.insert(key, datum);
        }
        Ok(NpzFile {
            name: name.to_owned(),
            arrays,
        })
    }

    pub(super) fn keys(&self) -> Vec<String> {
        self.arrays.keys().cloned().collect()
    }

    /// Why an array cannot be read.
    pub(super) fn problem(&self, key: &str) -> Option<&str> {
        self.arrays.get(key)?.as_ref().err().map(String::as_str)
    }

    pub(super) fn shape(&self, key: &str) -> Option<Vec<usize>> {
        self.array(key).map(|datum| datum.shape().to_vec())
    }

    pub(super) fn dtype(&self, key: &str) -> String {
        let name = match self.array(key) {
            Some(Datum::F32(_)) => "float",
            Some(Datum::I32(_)) => "integer",
            Some(Datum::I8(_)) => "int8",
            Some(Datum::U8(_)) => "uint8",
            None => "none",
        };
        name.to_owned()
    }

    pub(super) fn readable_as(&self, key: &str, kind: ElementKind) -> bool {
        matches!(
            (self.array(key), kind),
            (Some(Datum::F32(_)), ElementKind::F32)
                | (Some(Datum::I32(_)), ElementKind::I32)
                | (Some(Datum::I8(_)), ElementKind::I8)
                | (Some(Datum::U8(_)), ElementKind::U8)
        )
    }

    /// An array, or part `part` along its leading axis.
    pub(super) fn read(&self, key: &str, part: Option<usize>) -> Result<Datum> {
        let datum = self.array(key).and_then(|datum| match (datum, part) {
            (datum, None) => Some(datum.clone()),
            (Datum::F32(array), Some(part)) => cut(array, part).map(Datum::F32),
            (Datum::I32(array), Some(part)) => cut(array, part).map(Datum::I32),
            (Datum::I8(array), Some(part)) => cut(array, part).map(Datum::I8),
            (Datum::U8(array), Some(part)) => cut(array, part).map(Datum::U8),
        });
        datum.ok_or_else(|| Error::Batch {
            file: self.name.clone(),
            reason: format!("tensor '{key}' has no part {part:?}"),
        })
    }

    fn array(&self, key: &str) -> Option<&Datum> {
        self.arrays.get(key)?.as_ref().ok()
    }
}

fn cut<T: Clone>(array: &ArrayD<T>, part: usize) -> Option<ArrayD<T>> {
    let length = array.shape().first()?;
    (part < *length).then(|| array.index_axis(Axis(0), part).to_owned())
}

/// Tries each type in turn: the header names one, and only the crate reads the header.
fn decode(bytes: &[u8]) -> Result<Datum, String> {
    if let Some(array) = typed::<f32>(bytes)? {
        return Ok(Datum::F32(array));
    }
    if let Some(array) = typed::<f64>(bytes)? {
        return Ok(Datum::F32(array.mapv(|x| x as f32)));
    }
    if let Some(array) = typed::<i64>(bytes)? {
        return narrowed(&array).map(Datum::I32);
    }
    if let Some(array) = typed::<i32>(bytes)? {
        return Ok(Datum::I32(array));
    }
    if let Some(array) = typed::<bool>(bytes)? {
        return Ok(Datum::I32(array.mapv(i32::from)));
    }
    if let Some(array) = typed::<i8>(bytes)? {
        return Ok(Datum::I8(array));
    }
    if let Some(array) = typed::<u8>(bytes)? {
        return Ok(Datum::U8(array));
    }
    Err("its dtype is none of float32, float64, int64, int32, bool, int8, uint8".to_owned())
}

/// The array if it is of type T. A view is tried first: it allocates nothing, so a header that
/// promises more than the bytes there are is found before memory is taken for it.
fn typed<T: ViewElement + ReadableElement + Clone>(
    bytes: &[u8],
) -> Result<Option<ArrayD<T>>, String> {
    let damaged = |error: &dyn std::fmt::Display| format!("damaged or truncated: {error}");
    let array = match ArrayViewD::<T>::view_npy(bytes) {
        Ok(view) => view.to_owned(),
        Err(ViewNpyError::WrongDescriptor(_)) => return Ok(None),
        Err(ViewNpyError::MisalignedData | ViewNpyError::NonNativeEndian) => {
            ArrayD::<T>::read_npy(bytes).map_err(|error| damaged(&error))?
        }
        Err(error) => return Err(damaged(&error)),
    };
    // Fortran order becomes row-major.
    Ok(Some(array.as_standard_layout().into_owned()))
}
