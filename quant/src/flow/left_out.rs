//! What of a checkpoint is not measured in layer mode, where the captured inputs alone say what is.

use super::{Blobs, FileRef, JobInput, ModelInput, Notice};
use crate::{Error, Result, layers};

/// Notices of it; none for a model, whose graph names every layer.
pub(super) fn notices(job: &JobInput, blobs: &dyn Blobs) -> Result<Vec<Notice>> {
    let (ModelInput::Layers { weights }, Some(first)) = (&job.model, job.calibration.first())
    else {
        return Ok(Vec::new());
    };
    let path = |file: &FileRef| {
        blobs.path(&file.digest).map_err(|source| Error::Io {
            what: file.name.clone(),
            source,
        })
    };
    let captured = layers::layers_in(&first.name, &path(first)?, &job.limits)?;
    layers::left_out(&weights.name, &path(weights)?, &captured, &job.limits)
}
