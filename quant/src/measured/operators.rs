//! Errors of every operator, over all batches, and the rows that tables show of them.

use std::collections::HashMap;

use dual16_nash::compare::extremes;
use serde::{Deserialize, Serialize};

use super::octaves::Octaves;
use crate::{
    graph::{Graph, NodeId, Op, ValueId},
    metrics::{ErrorSums, Metric, Metrics, OutputError},
    plan::Plan,
    report::{EXACT_DB, OperatorMeasured},
    tensor::Tensor,
};

/// Errors and ranges of what one operator makes, over some batches.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct OperatorSums {
    /// The operator alone, on float inputs.
    pub(crate) isolated: ErrorSums,
    /// VALIDATION against float.
    pub(crate) validation: OutputError,
    /// CONVERTED against float.
    pub(crate) converted: ErrorSums,
    /// Elements.
    pub(crate) total: u64,
    /// Those that are 0 quantized and not in float, the operator alone.
    pub(crate) zero: u64,
    /// Those that saturate, the operator alone.
    pub(crate) clipped: u64,
    /// In float.
    pub(crate) float: Spread,
    /// In VALIDATION.
    pub(crate) quantized: Spread,
    /// Channels that are not 0 everywhere: in float, and the operator alone.
    pub(crate) alive: [Channels; 2],
    /// In float, by magnitude in steps.
    pub(crate) octaves: Octaves,
}

impl OperatorSums {
    pub(crate) fn merge(&mut self, other: &Self) {
        self.isolated.merge(&other.isolated);
        self.validation.merge(&other.validation);
        self.converted.merge(&other.converted);
        self.total += other.total;
        self.zero += other.zero;
        self.clipped += other.clipped;
        self.float.merge(&other.float);
        self.quantized.merge(&other.quantized);
        for (alive, more) in self.alive.iter_mut().zip(&other.alive) {
            alive.merge(more);
        }
        self.octaves.merge(&other.octaves);
    }

    /// Channels that have a value other than 0 in float, and none once quantized, the operator alone.
    fn dead_channels(&self) -> u32 {
        let [float, alone] = &self.alive;
        let words = float.0.iter().zip(&alone.0);
        words
            .map(|(float, alone)| (float & !alone).count_ones())
            .sum()
    }
}

/// A set of channels, positions along the last dimension: 64 a word. Empty of tensors whose number of
/// channels differs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Channels(Vec<u64>);

impl Channels {
    /// Those with a value other than 0.
    pub(crate) fn not_zero(tensor: &Tensor) -> Self {
        let channels = tensor.shape().last().copied().unwrap_or(1).max(1);
        let values = tensor.as_standard_layout();
        // All bits but the sign, which are those of no value but 0.
        let mut bits = vec![0u32; channels];
        for row in values.as_slice().unwrap_or_default().chunks(channels) {
            for (bits, x) in bits.iter_mut().zip(row) {
                *bits |= x.to_bits() << 1;
            }
        }
        let word = |bits: &[u32]| {
            let set = bits.iter().rev();
            set.fold(0, |word, &bits| (word << 1) | u64::from(bits != 0))
        };
        Channels(bits.chunks(64).map(word).collect())
    }

    fn merge(&mut self, other: &Self) {
        match self.0.len() == other.0.len() {
            true => self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a |= b),
            false => self.0.clear(),
        }
    }
}

/// Elements that are looked at several times while they are near.
const BLOCK: usize = 2048;

/// Smallest, largest, sum and sum of squares of finite elements.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    count: u64,
    min: f32,
    max: f32,
    sum: f64,
    squares: f64,
    /// Row and channel (the last dimension) of the largest magnitude.
    at: Option<[u64; 2]>,
}

impl Default for Spread {
    fn default() -> Self {
        Spread {
            count: 0,
            min: f32::INFINITY,
            max: f32::NEG_INFINITY,
            sum: 0.0,
            squares: 0.0,
            at: None,
        }
    }
}

impl Spread {
    pub(crate) fn of(tensor: &Tensor) -> Self {
        let mut spread = Spread::default();
        let channels = tensor.shape().last().copied().unwrap_or(1).max(1) as u64;
        let values = tensor.as_standard_layout();
        let mut largest = f32::NEG_INFINITY;
        let mut before = 0;
        for block in values.as_slice().unwrap_or_default().chunks(BLOCK) {
            let (min, max) = extremes(block);
            spread.min = spread.min.min(min);
            spread.max = spread.max.max(max);
            let own = min.abs().max(max.abs());
            if min <= max
                && own > largest
                && let Some(at) = block.iter().position(|x| x.abs() == own)
            {
                largest = own;
                let index = before + at as u64;
                spread.at = Some([index / channels, index % channels]);
            }
            // In their order, and in registers.
            let (mut count, mut sum, mut squares) = (0, spread.sum, spread.squares);
            for &x in block {
                if x.is_finite() {
                    count += 1;
                    sum += f64::from(x);
                    squares += f64::from(x) * f64::from(x);
                }
            }
            (spread.sum, spread.squares) = (sum, squares);
            spread.count += count;
            before += block.len() as u64;
        }
        spread
    }

    fn merge(&mut self, other: &Self) {
        if other.largest() > self.largest() {
            self.at = other.at;
        }
        self.count += other.count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum += other.sum;
        self.squares += other.squares;
    }

    /// Largest magnitude.
    fn largest(&self) -> f32 {
        match self.count {
            0 => f32::NEG_INFINITY,
            _ => self.max.abs().max(self.min.abs()),
        }
    }

    /// Smallest, largest, mean and variance; 0 of nothing.
    fn figures(&self) -> [f64; 4] {
        match self.count {
            0 => [0.0; 4],
            _ => [
                self.min.into(),
                self.max.into(),
                self.mean(),
                self.variance(),
            ],
        }
    }

    /// Arithmetic mean; 0 of nothing.
    fn mean(&self) -> f64 {
        self.sum / self.count.max(1) as f64
    }

    /// Variance of the population; 0 of nothing.
    fn variance(&self) -> f64 {
        (self.squares / self.count.max(1) as f64 - self.mean().powi(2)).max(0.0)
    }
}

/// The rows of a whole job, in graph order.
pub(crate) fn measured(
    graph: &Graph,
    plan: &Plan,
    sums: &[(usize, OperatorSums)],
) -> Vec<OperatorMeasured> {
    let sums: HashMap<usize, &OperatorSums> = sums.iter().map(|(id, sums)| (*id, sums)).collect();
    let mut measured: Vec<OperatorMeasured> = Vec::new();
    let mut row_of: HashMap<usize, usize> = HashMap::new();
    for (node, value) in rows(graph) {
        let Some(sums) = sums.get(&value.0) else {
            continue;
        };
        let own = graph.value(value);
        let params = plan.params(value);
        let scale = params.map(|params| params.scale);
        let validation = sums.validation.sums().finish(scale);
        let converted = sums.converted.finish(scale);
        let inputs = node.into_iter().flat_map(|node| &graph.node(node).inputs);
        let before: Vec<&OperatorMeasured> = inputs
            .filter_map(|input| measured.get(*row_of.get(&graph.origin(*input).0)?))
            .collect();
        let db = |db: f64| db.min(EXACT_DB);
        let (own_db, gap) = (db(validation.sqnr_rank()), gap(&validation, &converted));
        let worst = before
            .iter()
            .map(|row| db(row.validation.sqnr_rank()))
            .fold(EXACT_DB, f64::min);
        let parted = before
            .iter()
            .map(|row| self::gap(&row.validation, &row.converted))
            .fold(0.0, f64::max);
        let largest = f64::from(sums.float.largest());
        let reach =
            params.map(|params| f64::from(params.scale) * (f64::from(params.dtype.qmax()) + 0.5));
        row_of.insert(value.0, measured.len());
        measured.push(OperatorMeasured {
            name: own.name.clone(),
            module: node.map_or_else(String::new, |node| graph.node(node).names.module.clone()),
            op: node
                .map_or("Input", |node| graph.node(node).op.name())
                .to_owned(),
            shape: own.shape.clone(),
            dtype: params.map_or_else(|| "float".to_owned(), |params| params.dtype.to_string()),
            scale,
            isolated: sums.isolated.finish(scale),
            kl: sums.validation.figure(Metric::Kl),
            rtol: sums.validation.figure(Metric::Rtol),
            // A plane of a remedy is a remainder, whatever its own SQNR.
            drop_db: Some(worst - own_db)
                .filter(|drop| drop.is_finite() && own.stated.dtype.is_none()),
            parts_db: Some(gap - parted).filter(|parts| parts.is_finite()),
            validation,
            converted,
            zero_share: sums.zero as f64 / sums.total.max(1) as f64,
            clip_share: sums.clipped as f64 / sums.total.max(1) as f64,
            dead_channels: sums.dead_channels(),
            range_covered: reach
                .map(|reach| largest / reach)
                .filter(|covered| covered.is_finite()),
            float: sums.float.figures(),
            largest_at: sums.float.at,
            quantized: sums.quantized.figures(),
        });
    }
    measured
}

/// dB that CONVERTED is behind VALIDATION.
fn gap(validation: &Metrics, converted: &Metrics) -> f64 {
    let db = |metrics: &Metrics| metrics.sqnr_rank().min(EXACT_DB);
    db(validation) - db(converted)
}

/// What has a row: inputs, and float outputs of every node that computes.
pub(crate) fn rows(graph: &Graph) -> impl Iterator<Item = (Option<NodeId>, ValueId)> + '_ {
    let inputs = graph.inputs.iter().map(|&input| (None, input));
    let computes = graph
        .running()
        .filter(|(_, node)| !matches!(node.op, Op::Move(_)));
    let made =
        computes.flat_map(|(id, node)| node.outputs.iter().map(move |&value| (Some(id), value)));
    inputs
        .chain(made)
        .filter(|(_, value)| graph.value(*value).kind.is_float())
}
