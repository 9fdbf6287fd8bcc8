//! `statistics.bin`: what a job observed and what came of it, from which scales can be derived again without
//! its batches.

use dual16_nash::ways::Way;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    fit::Fitted,
    job::{JobInput, ModelInput},
    plan::{Calibration, Change},
    remedy::Remedy,
    report::WayFitted,
};

/// Its first field; another version of this crate says so instead of misreading it.
const FORMAT: &str = "dual16 statistics 2";

#[derive(Serialize, Deserialize)]
struct Saved<T> {
    format: String,
    /// Digests of the model's files.
    model: Vec<String>,
    observed: T,
}

/// What is kept of a job.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Observed {
    /// Of the model as it is.
    pub(crate) plain: Calibration,
    /// What was changed, where anything was.
    pub(crate) mended: Option<MendedModel>,
    /// The fits that run.
    pub(crate) fits: Vec<KeptFit>,
}

/// A model with changes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MendedModel {
    /// All places for remedies, by the numbers that changes and the calibration know them by: the remedy and
    /// its node.
    pub(crate) places: Vec<(Remedy, usize)>,
    pub(crate) changes: Vec<Change>,
    /// Of the model and of what the remedies make.
    pub(crate) calibration: Calibration,
}

/// A fit with its integers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeptFit {
    /// Node index of the Linear.
    pub(crate) linear: usize,
    #[serde(with = "crate::plan::way_text")]
    pub(crate) way: Way,
    pub(crate) fitted: WayFitted,
    pub(crate) integers: Fitted,
}

/// The file's bytes.
pub(crate) fn bytes(job: &JobInput, observed: &Observed) -> Result<Vec<u8>> {
    let saved = Saved {
        format: FORMAT.to_owned(),
        model: model(job),
        observed,
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
pub(crate) fn read(job: &JobInput, file: &str, bytes: &[u8]) -> Result<Observed> {
    let bad = |reason: String| Error::Batch {
        file: file.to_owned(),
        reason,
    };
    let form = match postcard::take_from_bytes::<String>(bytes) {
        Ok((format, _)) if format == FORMAT => postcard::from_bytes(bytes).ok(),
        _ => None,
    };
    let saved: Saved<Observed> = form.ok_or_else(|| {
        bad(format!(
            "it is no file of the form '{FORMAT}'; quantize the model again with this version"
        ))
    })?;
    match saved.model == model(job) {
        true => Ok(saved.observed),
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
