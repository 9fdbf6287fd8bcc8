//! A whole job's measurements as they go from stage to stage and into the files: the final plan,
//! and the sums of errors of every Linear and output.

pub(crate) mod octaves;
pub(crate) mod operators;

use std::collections::BTreeMap;

use dual16_nash::ways::Way;
use serde::{Deserialize, Serialize};

use operators::OperatorSums;

use crate::{
    fit::Fit,
    metrics::{ErrorSums, Metric, Metrics, OutputError},
    plan::{Change, Chosen, Mended, Plan},
    report::{LayerMeasured, MendStep, Notice, WayFitted},
    ways::RunCounts,
};

/// The final plan and everything that led to it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Planned {
    /// What runs.
    pub(crate) plan: Plan,
    /// By node index of each Linear.
    pub(crate) layers: Vec<(usize, LayerMeasured)>,
    /// Fallbacks, islands and the like.
    pub(crate) notices: Vec<Notice>,
    /// What is to be told of this plan once it is the last.
    pub(crate) found: Vec<Notice>,
    /// Blob of the [`Calibration`](crate::plan::Calibration).
    pub(crate) calibration: String,
    /// What was changed for the outputs' sake; `None` where nothing was tried.
    pub(crate) mended: Option<Mended>,
    /// The search for it, step by step.
    pub(crate) steps: Vec<MendStep>,
    /// Changes that it tried and took back.
    pub(crate) refused: Vec<Change>,
    /// Fits that the search may take, beside those that the layers tell of.
    pub(crate) offers: Vec<Offer>,
    /// What costs the outputs most where they could not be made good enough.
    pub(crate) in_the_way: Vec<String>,
}

/// A fit that was made and accepted for a search, and is told of where the search takes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Offer {
    /// Node index of the Linear.
    pub(crate) linear: usize,
    /// The way that is fitted.
    #[serde(with = "crate::plan::way_text")]
    pub(crate) way: Way,
    /// How.
    pub(crate) fitted: WayFitted,
}

impl Planned {
    /// Accepted fits of a Linear that can be set up, and their ways.
    pub(crate) fn fits(&self, linear: usize) -> impl Iterator<Item = (Way, &WayFitted)> {
        let layer = self.layers.iter().filter(move |(id, _)| *id == linear);
        let told = layer.flat_map(|(_, layer)| &layer.ways);
        let told = told.filter(|way| way.legal);
        let told = told.filter_map(|way| Some((way.way, way.fitted.as_ref()?)));
        let offers = self
            .offers
            .iter()
            .filter(move |offer| offer.linear == linear);
        told.chain(offers.map(|offer| (offer.way, &offer.fitted)))
    }

    /// One of them.
    pub(crate) fn fitted(&self, linear: usize, way: Way, fit: Fit) -> Option<&WayFitted> {
        let mut fits = self.fits(linear);
        let found = fits.find(|(of, fitted)| (*of, fitted.fit.fit) == (way, fit));
        found.map(|(_, fitted)| fitted)
    }

    /// What a plan has of each Linear, by node index.
    pub(crate) fn chosen(&self) -> BTreeMap<usize, Chosen> {
        let chosen = |(id, layer): &(usize, LayerMeasured)| {
            let fitted = layer
                .fit
                .and_then(|fit| self.fitted(*id, layer.effective, fit));
            let chosen = Chosen {
                way: layer.effective,
                fit: fitted.map(|fitted| fitted.fit.clone()),
                requested: layer.requested.clone(),
                reason: layer.reason.clone(),
            };
            (*id, chosen)
        };
        self.layers.iter().map(chosen).collect()
    }

    /// What was changed so far.
    pub(crate) fn changes(&self) -> Vec<Change> {
        self.mended
            .as_ref()
            .map_or_else(Vec::new, |mended| mended.changes.clone())
    }
}

/// What errors of several batches add up to.
pub(crate) trait Sums {
    /// The part that the cheap metrics follow from.
    fn errors(&self) -> &ErrorSums;

    /// Adds another batch.
    fn add(&mut self, other: &Self);
}

impl Sums for ErrorSums {
    fn errors(&self) -> &ErrorSums {
        self
    }

    fn add(&mut self, other: &Self) {
        self.merge(other);
    }
}

impl Sums for OutputError {
    fn errors(&self) -> &ErrorSums {
        self.sums()
    }

    fn add(&mut self, other: &Self) {
        self.merge(other);
    }
}

/// Errors of one tensor in both kinds of run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct PairedSums<S = ErrorSums> {
    /// VALIDATION against float.
    validation: S,
    /// CONVERTED against float.
    converted: S,
    /// Why either has no figures, in this order.
    failed: [Option<String>; 2],
}

impl<S: Sums> PairedSums<S> {
    /// The sums of one kind of run.
    pub(crate) fn side(&mut self, converted: bool) -> &mut S {
        match converted {
            true => &mut self.converted,
            false => &mut self.validation,
        }
    }

    /// The tensor could not be made in one kind of run, or not compared; the first reason stays.
    pub(crate) fn fail(&mut self, converted: bool, reason: &str) {
        self.failed[usize::from(converted)].get_or_insert_with(|| reason.to_owned());
    }

    /// The figures of one kind of run; `scale` is that of the output.
    pub(crate) fn metrics(&self, converted: bool, scale: Option<f32>) -> Metrics {
        let sums = if converted {
            &self.converted
        } else {
            &self.validation
        };
        match &self.failed[usize::from(converted)] {
            Some(reason) => Metrics::none(reason.clone()),
            None => sums.errors().finish(scale),
        }
    }

    /// Whether no batch had an element of it.
    pub(crate) fn is_empty(&self) -> bool {
        self.validation.errors().is_empty()
            && self.converted.errors().is_empty()
            && self.failed.iter().all(Option::is_none)
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.validation.add(&other.validation);
        self.converted.add(&other.converted);
        for (converted, reason) in [false, true].into_iter().zip(&other.failed) {
            if let Some(reason) = reason {
                self.fail(converted, reason);
            }
        }
    }
}

impl PairedSums<OutputError> {
    /// A metric of one kind of run; None where it has no finite figure.
    pub(crate) fn figure(&self, converted: bool, metric: Metric) -> Option<f64> {
        let error = match converted {
            true => &self.converted,
            false => &self.validation,
        };
        match &self.failed[usize::from(converted)] {
            Some(_) => None,
            None => error.figure(metric),
        }
    }
}

/// Everything that the files are written from.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) planned: Planned,
    /// Sums over all batches, by node index of each Linear.
    pub(crate) linears: Vec<(usize, PairedSums, RunCounts)>,
    /// By position among the model's outputs.
    pub(crate) outputs: Vec<PairedSums<OutputError>>,
    /// By value, ascending: what each operator makes.
    pub(crate) operators: Vec<(usize, OperatorSums)>,
    /// Blobs of the saved outputs of all batches, in order.
    pub(crate) saved: Vec<String>,
}

/// Scale of a Linear's output in the plan, where it is requantized.
pub(crate) fn linear_scale(plan: &Plan, node: usize) -> Option<f32> {
    let output = plan.linears.get(&node)?.params.output?;
    Some(output.scale)
}
