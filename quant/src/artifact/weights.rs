//! `converted.safetensors`: the integers of every layer, with the plan as metadata. Layers are
//! converted in parts by different workers; joining them gives the same bytes however they were
//! cut, because a safetensors file is ordered by dtype and name.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use safetensors::{SafeTensors, serialize, serialize_to_file, tensor::TensorView};

use crate::{
    Error, Result,
    blobs::Blobs,
    ways::{Parameter, QuantizedLinear},
};

/// A layer to be written.
pub(crate) struct Layer<'a> {
    pub(crate) name: &'a str,
    pub(crate) linear: QuantizedLinear,
    /// The layer that its weight is written with.
    pub(crate) weight_of: Option<&'a str>,
}

/// The integers of some layers as one safetensors file in memory.
pub(crate) fn part<'a>(layers: impl Iterator<Item = &'a Layer<'a>>) -> Result<Vec<u8>> {
    let integers: Vec<(&str, Vec<Parameter<'_>>)> = layers
        .map(|layer| {
            let mut parameters = layer.linear.integers().parameters;
            parameters.extend(io_scales(&layer.linear));
            parameters.retain(|one| layer.weight_of.is_none() || !one.is_of_weight());
            (layer.name, parameters)
        })
        .collect();
    let tensors = integers.iter().flat_map(|(layer, parameters)| {
        parameters
            .iter()
            .map(move |parameter| (format!("{layer}.{}", parameter.name), parameter))
    });
    serialize(tensors, None).map_err(|error| failed("converted weights", &error))
}

/// Joins parts into one file at `path`, with the text of `plan.json` as metadata. One entry only:
/// the crate writes several in random order, and the bytes must not be random.
pub(crate) fn join(parts: &[String], plan: &str, blobs: &dyn Blobs, path: &Path) -> Result<()> {
    const WHAT: &str = "converted.safetensors";
    let mut bytes = Vec::with_capacity(parts.len());
    for digest in parts {
        let io = |source| Error::Io {
            what: WHAT.to_owned(),
            source,
        };
        bytes.push(std::fs::read(blobs.path(digest).map_err(io)?).map_err(io)?);
    }
    let mut tensors: BTreeMap<String, TensorView<'_>> = BTreeMap::new();
    for bytes in &bytes {
        let part = SafeTensors::deserialize(bytes).map_err(|error| failed(WHAT, &error))?;
        tensors.extend(part.iter().map(|(name, tensor)| (name.to_owned(), tensor)));
    }
    let metadata = HashMap::from([("plan".to_owned(), plan.to_owned())]);
    serialize_to_file(tensors, Some(metadata), path).map_err(|error| failed(WHAT, &error))
}

fn io_scales(linear: &QuantizedLinear) -> Vec<Parameter<'static>> {
    let params = linear.params();
    let mut scales = vec![Parameter::scales("input_scale", vec![params.input.scale])];
    let output = params
        .output
        .map(|output| Parameter::scales("output_scale", vec![output.scale]));
    scales.extend(output);
    scales
}

pub(super) fn failed(what: &str, error: &safetensors::SafeTensorError) -> Error {
    match error {
        safetensors::SafeTensorError::IoError(source) => {
            let source = std::io::Error::new(source.kind(), source.to_string());
            Error::Io {
                what: what.to_owned(),
                source,
            }
        }
        error => Error::Io {
            what: what.to_owned(),
            source: std::io::Error::other(error.to_string()),
        },
    }
}
