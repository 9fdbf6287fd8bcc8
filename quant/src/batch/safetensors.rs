//! Safetensors files, of which only the header and the tensors asked for are read.

mod tally;

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use half::{bf16, f16};
use ndarray::ArrayD;
use safetensors::{Dtype, tensor::Metadata, tensor::TensorInfo};

use super::Cost;
use crate::{
    error::{Error, Result},
    limits::{InputLimits, cut, shown},
    model::ElementKind,
    tensor::Datum,
};

/// Bytes of the length that precedes the header.
const LENGTH_BYTES: u64 = 8;
/// Limit of the format itself.
const MAX_HEADER: u64 = 100_000_000;

/// Dimensions of a tensor, as many as NumPy has.
const MAX_RANK: usize = 64;

/// An open file with its header parsed.
#[derive(Debug)]
pub(crate) struct SafetensorsFile {
    name: String,
    file: File,
    header: Metadata,
    data_start: u64,
}

impl SafetensorsFile {
    /// Opens a file; `name` is what errors call it. What its tensors hold together is for its
    /// caller to limit, with [`Self::data_bytes`].
    pub(crate) fn open(name: &str, path: &Path, limits: &InputLimits) -> Result<SafetensorsFile> {
        let io = |source| Error::Io {
            what: name.to_owned(),
            source,
        };
        let bad = |reason: String| Error::Batch {
            file: name.to_owned(),
            reason,
        };
        let mut file = File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        if size < LENGTH_BYTES {
            return Err(bad(format!(
                "no safetensors file: it has only {size} bytes"
            )));
        }
        let mut length = [0; LENGTH_BYTES as usize];
        file.read_exact(&mut length).map_err(io)?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER.min(size - LENGTH_BYTES) {
            return Err(bad(format!(
                "no safetensors file, or a truncated one: a header of {length} bytes in a file of \
                 {size}"
            )));
        }
        let mut header = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        file.read_exact(&mut header).map_err(io)?;
        tally::check(name, &header, limits)?;
        let header: Metadata = serde_json::from_slice(&header).map_err(|error| {
            bad(format!(
                "damaged safetensors header: {}",
                cut(&error.to_string())
            ))
        })?;
        let deep = |(_, info): &(String, &TensorInfo)| info.shape.len() > MAX_RANK;
        let found = header.tensors().into_iter().filter(deep);
        if let Some((key, info)) = found.min_by(|(a, _), (b, _)| a.cmp(b)) {
            return Err(bad(format!(
                "tensor '{}' has {} dimensions; at most {MAX_RANK} may be",
                shown(key.as_bytes()),
                info.shape.len()
            )));
        }
        let data_start = LENGTH_BYTES + length;
        let (got, wanted) = (size - data_start, header.data_len() as u64);
        if got != wanted {
            return Err(bad(format!(
                "truncated or damaged: the header tells of {wanted} bytes of tensors, the file has \
                 {got}"
            )));
        }
        Ok(SafetensorsFile {
            name: name.to_owned(),
            file,
            header,
            data_start,
        })
    }

    /// Bytes of all tensors.
    pub(super) fn data_bytes(&self) -> u64 {
        self.header.data_len() as u64
    }

    /// Names of the tensors, sorted.
    pub(crate) fn keys(&self) -> Vec<String> {
        let mut keys = self.header.offset_keys();
        keys.sort();
        keys
    }

    /// Shape of a tensor.
    pub(crate) fn shape(&self, key: &str) -> Option<Vec<usize>> {
        self.header.info(key).map(|info| info.shape.clone())
    }

    pub(super) fn dtype(&self, key: &str) -> String {
        self.header
            .info(key)
            .map_or_else(String::new, |info| info.dtype.to_string())
    }

    /// Whether a tensor's type converts without losing its meaning.
    pub(crate) fn readable_as(&self, key: &str, kind: ElementKind) -> bool {
        let Some(info) = self.header.info(key) else {
            return false;
        };
        match kind {
            ElementKind::F32 => {
                matches!(
                    info.dtype,
                    Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64
                )
            }
            ElementKind::I32 => matches!(info.dtype, Dtype::I64 | Dtype::I32 | Dtype::BOOL),
            ElementKind::I8 => info.dtype == Dtype::I8,
            ElementKind::U8 => info.dtype == Dtype::U8,
        }
    }

    /// What reading one of `parts` parts of a tensor holds, and what stays of it.
    pub(super) fn cost(&self, key: &str, kind: ElementKind, parts: Option<usize>) -> Cost {
        let Some(info) = self.header.info(key) else {
            return Cost::default();
        };
        let (start, end) = info.data_offsets;
        let parts = parts.unwrap_or(1).max(1);
        let encoded = (end.saturating_sub(start) / parts) as u64;
        let elements = info
            .shape
            .iter()
            .fold(1, |n: usize, &d| n.saturating_mul(d))
            / parts;
        let wide = match info.dtype {
            Dtype::I64 => encoded,
            _ => 0,
        };
        Cost {
            passing: encoded.saturating_add(wide),
            kept: (elements as u64).saturating_mul(kind.bytes()),
        }
    }

    /// Reads a tensor, or part `part` along its leading axis.
    pub(crate) fn read(
        &mut self,
        key: &str,
        kind: ElementKind,
        part: Option<usize>,
    ) -> Result<Datum> {
        let info = self.header.info(key).cloned();
        let info = info.ok_or_else(|| self.bad(key, "it is not in the file".to_owned()))?;
        let (bytes, shape) = self.bytes(key, &info, part)?;
        let datum = match (kind, info.dtype) {
            (ElementKind::F32, Dtype::F32) => {
                array(&shape, &bytes, f32::from_le_bytes).map(Datum::F32)
            }
            (ElementKind::F32, Dtype::F16) => {
                array(&shape, &bytes, |b| f16::from_le_bytes(b).to_f32()).map(Datum::F32)
            }
            (ElementKind::F32, Dtype::BF16) => {
                array(&shape, &bytes, |b| bf16::from_le_bytes(b).to_f32()).map(Datum::F32)
            }
            (ElementKind::F32, Dtype::F64) => {
                array(&shape, &bytes, |b| f64::from_le_bytes(b) as f32).map(Datum::F32)
            }
            (ElementKind::I32, Dtype::I32) => {
                array(&shape, &bytes, i32::from_le_bytes).map(Datum::I32)
            }
            (ElementKind::I32, Dtype::BOOL) => {
                array(&shape, &bytes, |[b]: [u8; 1]| i32::from(b != 0)).map(Datum::I32)
            }
            (ElementKind::I32, Dtype::I64) => match array(&shape, &bytes, i64::from_le_bytes) {
                Some(wide) => {
                    let narrow = narrowed(&wide).map_err(|reason| self.bad(key, reason))?;
                    Some(Datum::I32(narrow))
                }
                None => None,
            },
            (ElementKind::I8, Dtype::I8) => array(&shape, &bytes, i8::from_le_bytes).map(Datum::I8),
            (ElementKind::U8, Dtype::U8) => array(&shape, &bytes, u8::from_le_bytes).map(Datum::U8),
            (_, dtype) => return Err(self.bad(key, format!("dtype {dtype} does not fit"))),
        };
        datum.ok_or_else(|| self.bad(key, "its data does not fill its shape".to_owned()))
    }

    fn bytes(
        &mut self,
        key: &str,
        info: &TensorInfo,
        part: Option<usize>,
    ) -> Result<(Vec<u8>, Vec<usize>)> {
        let (start, end) = info.data_offsets;
        let (mut start, mut length, mut shape) = (start, end - start, info.shape.clone());
        if let Some(part) = part {
            let count = if shape.is_empty() { 0 } else { shape.remove(0) };
            if part >= count {
                return Err(self.bad(key, format!("it has no part {part} of {count}")));
            }
            length /= count;
            start += part * length;
        }
        let mut bytes = vec![0; length];
        let io = |source| Error::Io {
            what: self.name.clone(),
            source,
        };
        self.file
            .seek(SeekFrom::Start(self.data_start + start as u64))
            .map_err(io)?;
        self.file.read_exact(&mut bytes).map_err(io)?;
        Ok((bytes, shape))
    }

    fn bad(&self, key: &str, reason: String) -> Error {
        Error::Batch {
            file: self.name.clone(),
            reason: format!("tensor '{key}': {reason}"),
        }
    }
}

fn array<T, const N: usize>(
    shape: &[usize],
    bytes: &[u8],
    convert: impl Fn([u8; N]) -> T,
) -> Option<ArrayD<T>> {
    let elements = bytes
        .as_chunks::<N>()
        .0
        .iter()
        .map(|&chunk| convert(chunk))
        .collect();
    ArrayD::from_shape_vec(shape, elements).ok()
}

/// Integers as float execution has them, 32 bits wide.
pub(super) fn narrowed(wide: &ArrayD<i64>) -> Result<ArrayD<i32>, String> {
    match wide.iter().find(|&&value| i32::try_from(value).is_err()) {
        Some(value) => Err(format!("it holds {value}, which does not fit 32 bits")),
        None => Ok(wide.mapv(|value| value as i32)),
    }
}
