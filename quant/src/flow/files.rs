//! A job's files, opened: its model and its batches. Knows no lowered graph but which inputs mask.

use std::collections::BTreeSet;

use super::{Blobs, Control, FileRef, JobInput, ModelInput};
use crate::{
    Error, Result,
    batch::BatchFile,
    graph::Graph,
    layers,
    limits::InputLimits,
    model::{InputSpec, Model},
    tensor::Datum,
};

/// Ends here where the job was cancelled.
pub(super) fn go_on(control: &dyn Control) -> Result<()> {
    match control.cancelled() {
        true => Err(Error::Cancelled),
        false => Ok(()),
    }
}

/// The job's model.
pub(super) fn load_model(
    job: &JobInput,
    blobs: &dyn Blobs,
    control: &dyn Control,
) -> Result<Model> {
    let path = |file: &FileRef| {
        blobs.path(&file.digest).map_err(|source| Error::Io {
            what: file.name.clone(),
            source,
        })
    };
    let limits = &job.limits;
    match &job.model {
        ModelInput::Onnx {
            model,
            external_data,
        } => {
            let external: Result<Vec<_>> = external_data
                .iter()
                .map(|file| Ok((file.name.clone(), path(file)?)))
                .collect();
            let (path, cancelled) = (path(model)?, || control.cancelled());
            Model::load_unless(&model.name, &path, &external?, limits, &cancelled)
        }
        ModelInput::Layers { weights } => {
            let first = job.calibration.first().ok_or_else(no_calibration)?;
            let names = layers::layers_in(&first.name, &path(first)?, limits)?;
            let bytes = layers::to_onnx(&weights.name, &path(weights)?, Some(&names), limits)?;
            Model::from_bytes(&weights.name, bytes.into(), &[], &InputLimits::NONE)
        }
    }
}

/// A file of batches, its headers checked.
pub(super) fn open_batches(
    file: &FileRef,
    blobs: &dyn Blobs,
    inputs: &[InputSpec],
    limits: &InputLimits,
) -> Result<BatchFile> {
    let io = |source| Error::Io {
        what: file.name.clone(),
        source,
    };
    let path = blobs.path(&file.digest).map_err(io)?;
    BatchFile::open(&file.name, &path, inputs, limits)
}

/// The file whose first batch tells the shapes: the first without an empty input, or else, of a model
/// that may be given nothing at an input (a cache before its first step), the first of the largest.
pub(super) fn probe_file<'j>(
    job: &'j JobInput,
    blobs: &dyn Blobs,
    inputs: &[InputSpec],
) -> Result<&'j FileRef> {
    let mut largest: Option<(usize, &FileRef)> = None;
    for file in &job.calibration {
        let batches = open_batches(file, blobs, inputs, &job.limits)?;
        if batches.empty_inputs().next().is_none() {
            return Ok(file);
        }
        let elements = batches.elements();
        if largest.is_none_or(|(most, _)| elements > most) {
            largest = Some((elements, file));
        }
    }
    largest.map(|(_, file)| file).ok_or_else(no_calibration)
}

/// Inputs of the model that a Softmax is masked with, by their name in a batch.
pub(super) fn masks(graph: &Graph) -> BTreeSet<String> {
    let masks = graph
        .inputs
        .iter()
        .filter(|id| graph.mask_side(**id).is_some());
    masks
        .filter_map(|id| graph.value(*id).onnx.clone())
        .collect()
}

/// Whether any float is infinite.
pub(super) fn is_infinite(datum: &Datum) -> bool {
    datum
        .as_f32()
        .is_some_and(|tensor| tensor.iter().any(|x| x.is_infinite()))
}

/// The error of a job without batches.
pub(super) fn no_calibration() -> Error {
    Error::Setting {
        setting: "calibration".to_owned(),
        reason: "there is no batch; give at least one .safetensors or .npz file".to_owned(),
    }
}
