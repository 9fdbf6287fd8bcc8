//! What the page says in words, as `result.json` and `plan.json` hold it. Everything else goes through the
//! page as it is.

use serde::Deserialize;

/// `result.json`.
#[derive(Debug, Deserialize)]
pub(super) struct Results {
    pub(super) model: String,
    pub(super) outputs: Vec<Output>,
    pub(super) layers: Vec<Layer>,
    #[serde(default)]
    pub(super) mended: Vec<Step>,
    #[serde(default)]
    pub(super) in_the_way: Vec<String>,
    pub(super) estimate: Estimate,
    pub(super) notices: Vec<Notice>,
}

/// An output of the model.
#[derive(Debug, Deserialize)]
pub(super) struct Output {
    pub(super) name: String,
    pub(super) validation: Errors,
    pub(super) converted: Errors,
}

/// Errors of one run.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Errors {
    pub(super) sqnr_db: Option<f64>,
    pub(super) atol: Option<f64>,
    #[serde(default)]
    pub(super) reason: String,
}

/// A Linear.
#[derive(Debug, Deserialize)]
pub(super) struct Layer {
    pub(super) requested: String,
    pub(super) effective: String,
}

/// A change for the outputs' sake.
#[derive(Debug, Deserialize)]
pub(super) struct Step {
    pub(super) op: String,
    pub(super) to: String,
    pub(super) share: f64,
    pub(super) kept: bool,
    pub(super) added_us: f64,
    pub(super) before_sqnr_db: Option<f64>,
}

/// What the plan costs.
#[derive(Debug, Deserialize)]
pub(super) struct Estimate {
    pub(super) march: String,
    pub(super) latency_us: f64,
    pub(super) bound: String,
}

/// Something that the user must know.
#[derive(Debug, Deserialize)]
pub(super) struct Notice {
    pub(super) warning: bool,
    pub(super) code: String,
    pub(super) subject: String,
    pub(super) message: String,
}

/// What was asked for, in `plan.json`.
#[derive(Debug, Deserialize)]
pub(super) struct Request {
    pub(super) template: String,
    pub(super) toolchain: String,
    pub(super) march: String,
    pub(super) min_output_sqnr: f64,
}

impl Errors {
    /// SQNR in dB, infinite where there is no error; `None` where there is no figure.
    pub(super) fn rank(&self) -> Option<f64> {
        match (self.sqnr_db, self.atol) {
            (None, Some(0.0)) => Some(f64::INFINITY),
            (figure, _) => figure,
        }
    }
}
