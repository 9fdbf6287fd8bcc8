//! `statistics.bin`: what a job observed, from which scales can be derived again without its batches.

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    job::{JobInput, ModelInput},
    plan::Calibration,
};

/// Its first field; another version of this crate says so instead of misreading it.
const FORMAT: &str = "dual16 statistics 1";

#[derive(Serialize, Deserialize)]
struct Saved<T> {
    format: String,
    /// Digests of the model's files.
    model: Vec<String>,
    calibration: T,
}

/// The file's bytes. `calibration` is of the model as it is.
pub(crate) fn bytes(job: &JobInput, calibration: &Calibration) -> Result<Vec<u8>> {
    let saved = Saved {
        format: FORMAT.to_owned(),
        model: model(job),
        calibration,
    };
    postcard::to_stdvec(&saved).map_err(|error| Error::Payload {
        what: "statistics.bin",
        reason: error.to_string(),
    })
}

/// What such a file holds for this job's model.
///
/// # Errors
/// [`Error::Batch`] for a file of another format or of another model.
pub(crate) fn read(job: &JobInput, file: &str, bytes: &[u8]) -> Result<Calibration> {
    let bad = |reason: String| Error::Batch {
        file: file.to_owned(),
        reason,
    };
    let form = match postcard::take_from_bytes::<String>(bytes) {
        Ok((format, _)) if format == FORMAT => postcard::from_bytes(bytes).ok(),
        _ => None,
    };
    let saved: Saved<Calibration> = form.ok_or_else(|| {
        bad(format!(
            "it is no file of the form '{FORMAT}'; quantize the model again with this version"
        ))
    })?;
    match saved.model == model(job) {
        true => Ok(saved.calibration),
        false => Err(bad(format!(
            "it was observed of another model than {}; give the statistics of a job of this one",
            job.model.name()
        ))),
    }
}

fn model(job: &JobInput) -> Vec<String> {
    match &job.model {
        ModelInput::Onnx {
            model,
            external_data,
        } => {
            let files = std::iter::once(model).chain(external_data);
            files.map(|file| file.digest.clone()).collect()
        }
        ModelInput::Layers { weights } => vec![weights.digest.clone()],
    }
}
