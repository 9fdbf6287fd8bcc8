//! What each output of the model is to reach, and how far it is from that.

use super::{payload::BatchErrors, session::Session};
use crate::{
    Error, Result,
    measured::PairedSums,
    metrics::{Metric, Metrics},
};

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
    /// A target for an output that the model does not have, or by a metric that says nothing of both runs.
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
            if matches!(asked.metric, Metric::Rtol | Metric::Kl | Metric::Lsb) {
                return Err(Error::Setting {
                    setting: format!("output_targets[{index}].metric"),
                    reason: format!(
                        "is {}; of the whole model's outputs there is sqnr, cosine, l1, mse and atol",
                        asked.metric.name()
                    ),
                });
            }
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
        let aim = |(target, sums): (&Option<Target>, &PairedSums)| match target {
            Some(target) => runs(sums)
                .map(|metrics| metrics.sqnr_rank() - target.rank(&metrics))
                .into_iter()
                .fold(f64::NEG_INFINITY, f64::max),
            None => f64::NEG_INFINITY,
        };
        self.0.iter().zip(&total.outputs).map(aim).collect()
    }

    /// dB of each output's error energy that are too much in the worse of the two runs; 0 where there are
    /// none.
    pub(super) fn short_db(&self, total: &BatchErrors) -> Vec<f64> {
        let short = |(target, sums): (&Option<Target>, &PairedSums)| {
            let of = |target: &Target| runs(sums).map(|metrics| -target.rank(&metrics));
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
            let worst = runs(sums)
                .into_iter()
                .min_by(|a, b| target.rank(a).total_cmp(&target.rank(b)));
            let told = worst.and_then(|metrics| target.told(&metrics));
            short.extend(told.map(|told| (short_db[output], Short { output, told })));
        }
        short.sort_by(|a, b| b.0.total_cmp(&a.0));
        short.into_iter().map(|(_, short)| short).collect()
    }
}

fn runs(sums: &PairedSums) -> [Metrics; 2] {
    [false, true].map(|converted| sums.metrics(converted, None))
}

impl Target {
    /// dB of error energy that are left to spare, below 0 where it is too much; `None` without a figure.
    fn excess_db(self, metrics: &Metrics) -> Option<f64> {
        let Target { metric, value } = self;
        // The error's energy beside the reference's, where it stands at a right angle to that.
        let of_cosine = |cosine: f64| -10.0 * (1.0 / (cosine * cosine) - 1.0).log10();
        let decades = |factor: f64, figure: Option<f64>| {
            figure.map(|figure| factor * (value / figure).log10())
        };
        match metric {
            Metric::Sqnr => Some(metrics.sqnr_rank() - value),
            Metric::Cosine => metrics
                .cosine
                .map(|cosine| of_cosine(cosine) - of_cosine(value)),
            Metric::L1 => decades(20.0, metrics.l1),
            Metric::Atol => decades(20.0, metrics.atol),
            Metric::Mse => decades(10.0, metrics.mse),
            Metric::Rtol | Metric::Kl | Metric::Lsb => None,
        }
    }

    /// The same for comparing: -inf without a figure.
    fn rank(self, metrics: &Metrics) -> f64 {
        let excess = self.excess_db(metrics);
        excess
            .filter(|db| !db.is_nan())
            .unwrap_or(f64::NEG_INFINITY)
    }

    /// "28.3 dB where 30 dB were asked for".
    fn told(self, metrics: &Metrics) -> Option<String> {
        let Target { metric, value } = self;
        let figure = match metric {
            Metric::Sqnr => {
                return Some(format!(
                    "{:.1} dB where {value} dB were asked for",
                    metrics.sqnr_db?
                ));
            }
            Metric::Cosine => metrics.cosine?,
            Metric::L1 => metrics.l1?,
            Metric::Atol => metrics.atol?,
            Metric::Mse => metrics.mse?,
            Metric::Rtol | Metric::Kl | Metric::Lsb => return None,
        };
        let name = metric.name();
        Some(format!("{name} {figure:.6} where {value} was asked for"))
    }
}
