//! Tensor data outside the model file. A location is looked up in the list that came with the
//! model and nowhere else, so a model can make nobody read a file that was not handed over.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Component, Path, PathBuf},
};

use prost::Message;

use super::{DataType, GraphProto, ModelProto, TensorProto, lifted, survey};
use crate::{
    error::{Error, Result},
    limits::{InputLimits, listed, shown},
    tensor::Tensor,
};

/// What tensors may read of external files together: tied weights share a part of one, but a part
/// that a hundred thousand tensors read costs its reader hours.
const TIMES_THE_FILES: u64 = 4;
/// So much more may be read of them, for scalars that have one place.
const BEYOND_THE_FILES: u64 = 16 << 20;

/// The files a model's external data may come from.
#[derive(Debug, Clone)]
pub(crate) struct ExternalData {
    model: String,
    files: BTreeMap<String, PathBuf>,
}

impl ExternalData {
    pub(crate) fn new(model: &str, files: &[(String, PathBuf)]) -> ExternalData {
        ExternalData {
            model: model.to_owned(),
            files: files
                .iter()
                .map(|(location, path)| (plain(location), path.clone()))
                .collect(),
        }
    }

    /// The model's own file too, for what [`lifted::read`] left in it.
    pub(crate) fn with_model(mut self, path: &Path) -> ExternalData {
        self.files
            .insert(lifted::THIS_FILE.to_owned(), path.to_owned());
        self
    }

    /// Refuses tensors that read the files over and over.
    pub(crate) fn check_total(&self, graph: &GraphProto) -> Result<()> {
        let mut files: u64 = 0;
        let beside = |(location, _): &(&String, &PathBuf)| *location != lifted::THIS_FILE;
        for (location, path) in self.files.iter().filter(beside) {
            let io = |source| Error::Io {
                what: location.clone(),
                source,
            };
            files = files.saturating_add(std::fs::metadata(path).map_err(io)?.len());
        }
        let max = files
            .saturating_mul(TIMES_THE_FILES)
            .saturating_add(BEYOND_THE_FILES);
        let mut total: u64 = 0;
        for tensor in tensors(graph).into_iter().filter(is_beside) {
            let range = self.range(&tensor.name, tensor)?;
            total = total.saturating_add(range.length);
            if total > max {
                return Err(Error::TooMuch {
                    file: self.model.clone(),
                    what: format!(
                        "with tensor '{}' in '{}', its tensors read {total} bytes of external \
                         files that have {files}",
                        tensor.name,
                        shown(range.location.as_bytes())
                    ),
                    max,
                });
            }
        }
        Ok(())
    }

    /// The bytes of one tensor.
    pub(crate) fn read(&self, name: &str, tensor: &TensorProto) -> Result<Vec<u8>> {
        let range = self.range(name, tensor)?;
        let io = |source| Error::Io {
            what: shown(range.location.as_bytes()),
            source,
        };
        let mut file = File::open(range.path).map_err(io)?;
        file.seek(SeekFrom::Start(range.offset)).map_err(io)?;
        // In range of a file that exists, so the length is no invitation to allocate at will.
        let mut bytes = vec![0; usize::try_from(range.length).unwrap_or(usize::MAX)];
        file.read_exact(&mut bytes).map_err(io)?;
        Ok(bytes)
    }

    /// The elements of a FLOAT tensor, read piece by piece: beside them a copy of their bytes would leave holes
    /// in memory as large as the weights. `None` for any other type, and where the bytes do not fill the
    /// shape, which whoever reads them all says.
    pub(crate) fn read_floats(&self, name: &str, tensor: &TensorProto) -> Result<Option<Tensor>> {
        let range = self.range(name, tensor)?;
        let shape = match (tensor.element_type(), tensor.shape()) {
            (DataType::Float, Ok(shape)) => shape,
            _ => return Ok(None),
        };
        let count: usize = shape.iter().product();
        if range.length != 4 * count as u64 {
            return Ok(None);
        }
        let io = |source| Error::Io {
            what: shown(range.location.as_bytes()),
            source,
        };
        let mut file = File::open(range.path).map_err(io)?;
        file.seek(SeekFrom::Start(range.offset)).map_err(io)?;
        let mut elements: Vec<f32> = Vec::with_capacity(count);
        let mut piece = [0; 1 << 16];
        while elements.len() < count {
            let bytes = piece.len().min(4 * (count - elements.len()));
            file.read_exact(&mut piece[..bytes]).map_err(io)?;
            let of = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            elements.extend(piece[..bytes].chunks_exact(4).map(of));
        }
        Ok(Tensor::from_shape_vec(shape, elements).ok())
    }

    /// Where a tensor's bytes are, within a file that was handed over.
    fn range<'a>(&'a self, name: &str, tensor: &'a TensorProto) -> Result<Range<'a>> {
        let bad = |reason: String| Error::Model {
            file: self.model.clone(),
            reason: format!("tensor '{name}': {reason}"),
        };
        let location = location(tensor).map_err(bad)?;
        let (location, path) = self.files.get_key_value(&location).ok_or_else(|| {
            let given = self.files.keys().filter(|key| *key != lifted::THIS_FILE);
            let known: Vec<String> = given.cloned().collect();
            bad(format!(
                "its data is in '{}', which is not among the files given: {}",
                shown(location.as_bytes()),
                listed(&known, "none")
            ))
        })?;
        let io = |source| Error::Io {
            what: shown(location.as_bytes()),
            source,
        };
        let size = std::fs::metadata(path).map_err(io)?.len();
        let offset = number(tensor, "offset").map_err(bad)?.unwrap_or(0);
        let length = number(tensor, "length")
            .map_err(bad)?
            .unwrap_or(size.saturating_sub(offset));
        if offset.checked_add(length).is_none_or(|end| end > size) {
            return Err(bad(format!(
                "its data is bytes {offset}..{} of '{}', which has only {size}",
                offset.saturating_add(length),
                shown(location.as_bytes())
            )));
        }
        Ok(Range {
            location,
            path,
            offset,
            length,
        })
    }
}

/// Part of a file, in bytes; never beyond its end.
struct Range<'a> {
    location: &'a str,
    path: &'a Path,
    offset: u64,
    length: u64,
}

/// The files a model needs beside itself: relative, below its own folder, plainly written, sorted.
/// Whoever submits a model uses this to find them.
///
/// # Errors
/// [`Error::Model`] for a file that is no ONNX model or names a file outside its folder;
/// [`Error::Limit`] for one that holds more than `limits` allow.
pub fn external_locations(
    file_name: &str,
    path: &Path,
    limits: &InputLimits,
) -> Result<Vec<String>> {
    let bytes = lifted::read(path).map_err(|source| Error::Io {
        what: file_name.to_owned(),
        source,
    })?;
    let bad = |reason: String| Error::Model {
        file: file_name.to_owned(),
        reason,
    };
    survey::check(file_name, &bytes, limits)?;
    let proto = ModelProto::decode(bytes.as_slice())
        .map_err(|error| bad(format!("no ONNX model, or a truncated one: {error}")))?;
    let mut locations = BTreeSet::new();
    for tensor in proto.graph.iter().flat_map(tensors).filter(|tensor| {
        tensor.is_external() && entry(tensor, "location") != Some(lifted::THIS_FILE)
    }) {
        let location = location(tensor)
            .map_err(|reason| bad(format!("tensor '{}': {reason}", tensor.name)))?;
        locations.insert(location);
    }
    Ok(locations.into_iter().collect())
}

/// Whether a tensor's data is in a file beside the model's own.
fn is_beside(tensor: &&TensorProto) -> bool {
    tensor.is_external() && entry(tensor, "location") != Some(lifted::THIS_FILE)
}

/// Every tensor of a graph, those of attributes and subgraphs included.
fn tensors(graph: &GraphProto) -> Vec<&TensorProto> {
    let attributes = || graph.node.iter().flat_map(|node| &node.attribute);
    let mut all: Vec<&TensorProto> = graph.initializer.iter().collect();
    let sparse = graph.sparse_initializer.iter();
    all.extend(sparse.flat_map(|sparse| sparse.values.iter().chain(&sparse.indices)));
    all.extend(attributes().filter_map(|attribute| attribute.t.as_ref()));
    for attribute in attributes() {
        all.extend(
            attribute
                .g
                .iter()
                .chain(&attribute.graphs)
                .flat_map(tensors),
        );
    }
    all
}

/// The location, plainly written, if it is one that cannot lead out of the model's folder.
fn location(tensor: &TensorProto) -> Result<String, String> {
    let location = entry(tensor, "location")
        .ok_or("its data is external, but no location is given; export the model again")?;
    let inside = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    let safe = !location.contains('\\') && Path::new(location).components().all(inside);
    match plain(location) {
        plain if safe && !plain.is_empty() => Ok(plain),
        _ => Err(format!(
            "its data is in '{}', outside the model's folder; only relative paths below it are read",
            shown(location.as_bytes())
        )),
    }
}

/// A relative path without what changes nothing: "./a.bin", "a//./b.bin".
fn plain(location: &str) -> String {
    let parts = location
        .split('/')
        .filter(|part| !matches!(*part, "" | "."));
    parts.collect::<Vec<_>>().join("/")
}

fn number(tensor: &TensorProto, key: &str) -> Result<Option<u64>, String> {
    let parse = |text: &str| {
        text.parse().map_err(|_| {
            format!(
                "external {key} '{}' is no number of bytes",
                shown(text.as_bytes())
            )
        })
    };
    entry(tensor, key).map(parse).transpose()
}

fn entry<'a>(tensor: &'a TensorProto, key: &str) -> Option<&'a str> {
    let found = tensor.external_data.iter().find(|entry| entry.key == key)?;
    Some(&found.value)
}
