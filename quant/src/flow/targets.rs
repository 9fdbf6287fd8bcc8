//! What each output of the model is to reach, and how far it is from that.

use super::{payload::BatchErrors, session::Session};
use crate::{
    Error, Result,
    measured::PairedSums,
    metrics::{Metric, OutputError},
};

/// Errors of an output in both runs.
type Errors = PairedSums<OutputError>;
/// Below this, a cosine is none to reckon with; and one below 0 is worse still.
const LEAST_COSINE: f64 = 1e-6;

/// What every output is to reach, in the order of the graph; `None` for one that may be anything.
pub(super) struct Targets(Vec<Option<Target>>);

#[derive(Debug, Clone, Copy)]
struct Target {
    metric: Metric,
    value: f64,
}

/// An output that is not as good as was asked.
pub(super) struct Short {
    /// Position among the outputs.
    pub(super) output: usize,
    /// What was reached and what was asked for.
    pub(super) told: String,
}

impl Targets {
    /// # Errors
    /// A target for an output that the model does not have, by a metric that outputs do not have, or that
    /// nothing could reach.
    pub(super) fn of(session: &Session) -> Result<Self> {
        let (settings, outputs) = (&session.job.settings, &session.graph.outputs);
        let general = (settings.min_output_sqnr > 0.0).then_some(Target {
            metric: Metric::Sqnr,
            value: settings.min_output_sqnr,
        });
        let mut targets = vec![general; outputs.len()];
        for (index, asked) in settings.output_targets.iter().enumerate() {
            let names = |&id| {
                session.output_name(id) == asked.output
                    || session.graph.value(id).name == asked.output
            };
            let found = outputs.iter().position(names);
            let found = found.ok_or_else(|| Error::UnknownName {
                what: "output",
                name: asked.output.clone(),
                near: session.output_names(),
            })?;
            let target = Target {
                metric: asked.metric,
                value: asked.value,
            };
            target.check(index)?;
            targets[found] = Some(target);
        }
        Ok(Targets(targets))
    }

    /// Whether every output may be anything.
    pub(super) fn is_none(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// SQNR in dB that each output is to have so that it reaches its target, judged by what it has now in the
    /// worse of the two runs; -inf for one that may be anything.
    pub(super) fn aims(&self, total: &BatchErrors) -> Vec<f64> {
        let aim = |(target, sums): (&Option<Target>, &Errors)| match target {
            Some(target) => RUNS
                .map(|run| sums.metrics(run, None).sqnr_rank() - target.rank(sums, run))
                .into_iter()
                .fold(f64::NEG_INFINITY, f64::max),
            None => f64::NEG_INFINITY,
        };
        self.0.iter().zip(&total.outputs).map(aim).collect()
    }

    /// dB of each output's error energy that are too much in the worse of the two runs; 0 where there are
    /// none.
    pub(super) fn short_db(&self, total: &BatchErrors) -> Vec<f64> {
        let short = |(target, sums): (&Option<Target>, &Errors)| {
            let of = |target: &Target| RUNS.map(|run| -target.rank(sums, run));
            let short = target.as_ref().map(of).into_iter().flatten();
            short.fold(0.0, f64::max)
        };
        self.0.iter().zip(&total.outputs).map(short).collect()
    }

    /// The outputs that are short, the worst first. What has no figure is no matter of precision.
    pub(super) fn short(&self, total: &BatchErrors) -> Vec<Short> {
        let short_db = self.short_db(total);
        let mut short: Vec<(f64, Short)> = Vec::new();
        for (output, (target, sums)) in self.0.iter().zip(&total.outputs).enumerate() {
            let Some(target) = target.filter(|_| short_db[output] > 0.0) else {
                continue;
            };
            if !short_db[output].is_finite() {
                continue;
            }
            let rank = |run: &bool| target.rank(sums, *run);
            let worst = RUNS.into_iter().min_by(|a, b| rank(a).total_cmp(&rank(b)));
            let told = worst.and_then(|run| target.told(sums, run));
            short.extend(told.map(|told| (short_db[output], Short { output, told })));
        }
        short.sort_by(|a, b| b.0.total_cmp(&a.0));
        short.into_iter().map(|(_, short)| short).collect()
    }
}

/// VALIDATION and CONVERTED.
const RUNS: [bool; 2] = [false, true];

impl Target {
    /// Refuses what outputs do not have and what could never be reached, or always is.
    fn check(self, index: usize) -> Result<()> {
        let refused = |field: &str, reason: String| {
            Err(Error::Setting {
                setting: format!("output_targets[{index}].{field}"),
                reason,
            })
        };
        let Target { metric, value } = self;
        match metric {
            Metric::Lsb => refused(
                "metric",
                "is lsb, which outputs do not have; one of sqnr, cosine, l1, mse, atol, rtol, kl"
                    .to_owned(),
            ),
            Metric::Cosine if !(value > 0.0 && value < 1.0) => refused(
                "value",
                format!("is {value}; a cosine to reach is above 0 and below 1, such as 0.9995"),
            ),
            Metric::L1 | Metric::Mse | Metric::Atol | Metric::Rtol | Metric::Kl if value <= 0.0 => {
                refused(
                    "value",
                    format!(
                        "is {value}; the most that {metric} may be is above 0, for integers are never exact"
                    ),
                )
            }
            _ => Ok(()),
        }
    }

    /// dB of error energy that are left to spare in a run, below 0 where it is too much; -inf without a figure.
    fn rank(self, sums: &Errors, converted: bool) -> f64 {
        let Target { metric, value } = self;
        let Some(figure) = sums.figure(converted, metric) else {
            // Without an error there is no figure of the one metric that is a ratio to it.
            return sums.metrics(converted, None).sqnr_rank();
        };
        // The error's energy beside the reference's, where it stands at a right angle to that.
        let of_cosine = |cosine: f64| {
            let cosine = cosine.max(LEAST_COSINE);
            -10.0 * (1.0 / (cosine * cosine) - 1.0).log10()
        };
        match metric {
            Metric::Sqnr => figure - value,
            Metric::Cosine => of_cosine(figure) - of_cosine(value),
            // In proportion to the error; of histograms because a value that leaves its bin counts whole, and as
            // many do as the error is large.
            Metric::L1 | Metric::Atol | Metric::Rtol | Metric::Kl => {
                20.0 * (value / figure).log10()
            }
            // In proportion to its energy.
            Metric::Mse => 10.0 * (value / figure).log10(),
            Metric::Lsb => f64::NEG_INFINITY,
        }
    }

    /// "28.3 dB where 30 dB were asked for".
    fn told(self, sums: &Errors, converted: bool) -> Option<String> {
        let Target { metric, value } = self;
        let figure = sums.figure(converted, metric)?;
        Some(match metric {
            Metric::Sqnr => format!("{figure:.1} dB where {value} dB were asked for"),
            _ => format!("{metric} {figure:.6} where {value} was asked for"),
        })
    }
}
