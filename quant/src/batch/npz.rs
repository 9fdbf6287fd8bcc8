//! NumPy archives. A file is opened by its headers alone, and an array is unpacked when it is asked
//! for: what nobody asks for costs nothing. What all of them would unpack to has a limit, all the
//! same.

mod end;

use std::{collections::BTreeMap, fmt::Display, fs::File, io::BufReader, path::Path};

use ndarray::{ArrayD, Axis};
use zip::ZipArchive;

use super::{Cost, npy::Header};
use crate::{
    error::{Error, Result},
    limits::InputLimits,
    model::ElementKind,
    tensor::Datum,
};

/// An open archive.
#[derive(Debug)]
pub(super) struct NpzFile {
    name: String,
    archive: ZipArchive<BufReader<File>>,
    arrays: BTreeMap<String, Array>,
    /// Stacks of batches that have been unpacked: each part would unpack all before it again.
    stacks: BTreeMap<(String, ElementKind), Datum>,
}

/// One array. One that cannot be read is an error only for whoever wants it: files often hold
/// labels and notes beside the inputs.
#[derive(Debug)]
struct Array {
    /// In the archive.
    index: usize,
    header: Result<Header, String>,
}

impl NpzFile {
    pub(super) fn open(name: &str, path: &Path, limits: &InputLimits) -> Result<NpzFile> {
        let io = |source| Error::Io {
            what: name.to_owned(),
            source,
        };
        let bad = |reason: String| Error::Batch {
            file: name.to_owned(),
            reason,
        };
        let mut file = BufReader::new(File::open(path).map_err(io)?);
        let no_archive =
            |reason: &dyn Display| bad(format!("no .npz file, or a truncated one: {reason}"));
        let count = end::entries(&mut file).map_err(io)?;
        let count = count.ok_or_else(|| no_archive(&"it does not end as an archive does"))?;
        limits.check_tensors(name, count)?;
        let mut archive = ZipArchive::new(file).map_err(|error| no_archive(&error))?;
        limits.check_tensors(name, archive.len() as u64)?;
        let mut arrays = BTreeMap::new();
        let mut unpacked: u64 = 0;
        for index in 0..archive.len() {
            let mut entry = archive
                .by_index(index)
                .map_err(|error| bad(format!("entry {index} is damaged: {error}")))?;
            let key = entry.name().strip_suffix(".npy");
            let key = key.unwrap_or(entry.name()).to_owned();
            limits.check_name(name, "array", key.as_bytes())?;
            let header = Header::read(&mut entry);
            // Neither the archive nor the array need tell the truth.
            let stated = header.as_ref().ok().and_then(Header::bytes);
            unpacked = unpacked.saturating_add(entry.size().max(stated.unwrap_or(0)));
            arrays.insert(key, Array { index, header });
        }
        limits.check_unpacked(name, unpacked)?;
        Ok(NpzFile {
            name: name.to_owned(),
            archive,
            arrays,
            stacks: BTreeMap::new(),
        })
    }

    pub(super) fn keys(&self) -> Vec<String> {
        self.arrays.keys().cloned().collect()
    }

    /// Why an array cannot be read.
    pub(super) fn problem(&self, key: &str) -> Option<String> {
        self.arrays.get(key)?.header.clone().err()
    }

    pub(super) fn shape(&self, key: &str) -> Option<Vec<usize>> {
        self.header(key).map(|header| header.shape.clone())
    }

    /// What reading one of `parts` parts of an array holds, and what stays of it.
    pub(super) fn cost(&self, key: &str, kind: ElementKind, parts: Option<usize>) -> Cost {
        let Some(header) = self.header(key) else {
            return Cost::default();
        };
        let decoded = header.decoded(kind);
        // The stack stays, beside the part that is cut out.
        let part = parts.map_or(0, |parts| decoded / parts.max(1) as u64);
        Cost {
            passing: header.reading(kind).saturating_sub(decoded),
            kept: decoded.saturating_add(part),
        }
    }

    /// An array, or part `part` along its leading axis.
    pub(super) fn read(
        &mut self,
        key: &str,
        kind: ElementKind,
        part: Option<usize>,
    ) -> Result<Datum> {
        let Some(part) = part else {
            return self.unpack(key, kind);
        };
        let of = (key.to_owned(), kind);
        if !self.stacks.contains_key(&of) {
            let stack = self.unpack(key, kind)?;
            self.stacks.insert(of.clone(), stack);
        }
        let cut = self.stacks.get(&of).and_then(|stack| match stack {
            Datum::F32(array) => cut(array, part).map(Datum::F32),
            Datum::I32(array) => cut(array, part).map(Datum::I32),
            Datum::I8(array) => cut(array, part).map(Datum::I8),
            Datum::U8(array) => cut(array, part).map(Datum::U8),
        });
        cut.ok_or_else(|| self.bad(key, &format!("it has no part {part}")))
    }

    fn unpack(&mut self, key: &str, kind: ElementKind) -> Result<Datum> {
        let Some(Array { index, .. }) = self.arrays.get(key) else {
            return Err(self.bad(key, "it is not in the file"));
        };
        let unpacked = match self.archive.by_index(*index) {
            // The header is read again, for the elements begin where it ends.
            Ok(mut entry) => {
                Header::read(&mut entry).and_then(|header| header.elements(&mut entry, kind))
            }
            Err(error) => Err(format!("damaged: {error}")),
        };
        unpacked.map_err(|reason| self.bad(key, &reason))
    }

    fn header(&self, key: &str) -> Option<&Header> {
        self.arrays.get(key)?.header.as_ref().ok()
    }

    fn bad(&self, key: &str, reason: &str) -> Error {
        Error::Batch {
            file: self.name.clone(),
            reason: format!("tensor '{key}': {reason}"),
        }
    }
}

fn cut<T: Clone>(array: &ArrayD<T>, part: usize) -> Option<ArrayD<T>> {
    let length = array.shape().first()?;
    (part < *length).then(|| array.index_axis(Axis(0), part).to_owned())
}
