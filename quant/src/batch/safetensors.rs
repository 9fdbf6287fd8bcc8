//! Safetensors files, of which only the header and the tensors asked for are read.

mod tally;

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use safetensors::{tensor::Metadata, tensor::TensorInfo};

use super::{
    Cost,
    element::{Element, Encoded},
};
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

    /// Why a tensor cannot be read.
    pub(super) fn problem(&self, key: &str) -> Option<String> {
        element(self.header.info(key)?).err()
    }

    /// Whether a tensor holds floats, of whatever width.
    pub(crate) fn is_float(&self, key: &str) -> bool {
        let info = self.header.info(key);
        info.and_then(|info| element(info).ok())
            .is_some_and(Element::is_float)
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
        Cost {
            passing: encoded,
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
        let encoded = Encoded {
            element: element(&info).map_err(|reason| self.bad(key, reason))?,
            bytes: &bytes,
            big_endian: false,
            fortran: false,
            shape: &shape,
            part,
        };
        encoded.decode(kind).map_err(|reason| self.bad(key, reason))
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

fn element(info: &TensorInfo) -> Result<Element, String> {
    Element::of_safetensors(info.dtype).ok_or_else(|| Element::unreadable(&info.dtype.to_string()))
}
