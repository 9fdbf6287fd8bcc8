//! Errors at the outputs to first order: a row changes its value by a known e, and the output by
//! J e. Backward passes of random signs r (Rademacher) give g = J^T r at every value at once, and
//! the mean of (g · e)^2 over the passes estimates ||J e||^2 (Hutchinson's estimator, without bias).
//!
//! A pass is of one output: the signs of several outputs together would give only the sum of their
//! errors, and the error of each cannot be had from it, while the sum of the errors follows from
//! each. What does not lead to the output takes no part in its pass, so models with several heads
//! pay little more than with one. All passes of an output go through the graph together, so that
//! local derivatives and the errors e are computed once for them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    analysis::{Analysis, missing},
    backward::{Backward, Measure},
    row::Row,
    values::FloatValues,
};
use crate::{
    Result,
    graph::{Node, NodeId, ValueId},
    tensor::Tensor,
};

/// Passes of an output of one batch that are enough to rank rows: (g · e)^2 of one pass spreads by a
/// factor, the mean of eight by about 2 dB, and rows lie tens of dB apart.
pub const PROBES: usize = 8;

/// Passes of an output over all batches together: they rank to about a dB.
const OVER_ALL: usize = 16;

/// Passes of an output of each batch where the estimates of so many batches are merged. Signs differ by
/// batch, so what the merged estimate spreads by is a matter of all passes together.
pub fn probes(batches: usize) -> usize {
    OVER_ALL.div_ceil(batches.max(1)).max(2)
}

/// Estimated errors of rows at outputs; batches are merged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// By output, sum of squares of the float run's.
    signals: Vec<f64>,
    /// By row and output, estimated sum of squared errors; None where there is no estimate.
    energies: Vec<Vec<Option<f64>>>,
}

impl Estimate {
    /// Adds another batch, of the same rows and outputs. A row that has no estimate in one of them
    /// has none.
    pub fn merge(&mut self, other: &Self) {
        let signals = self.signals.iter_mut().zip(&other.signals);
        signals.for_each(|(signal, other)| *signal += other);
        let rows = self.energies.iter_mut().zip(&other.energies);
        for (energy, other) in rows.flat_map(|(row, other)| row.iter_mut().zip(other)) {
            *energy = energy.zip(*other).map(|(a, b)| a + b);
        }
    }

    /// Sum of squared errors of an output with one row on; None where there is no estimate.
    pub fn energy(&self, row: usize, output: usize) -> Option<f64> {
        *self.energies.get(row)?.get(output)?
    }

    /// SQNR of an output in dB, 10 log10(||y||^2 / ||J e||^2), with one row on: +infinity where there
    /// is no error, -infinity where the output is 0 everywhere. None where there is no estimate, for
    /// the row reaches the output only through an island whose derivative is not known.
    pub fn sqnr_db(&self, row: usize, output: usize) -> Option<f64> {
        let energy = (*self.energies.get(row)?.get(output)?)?;
        Some(decibels(*self.signals.get(output)?, energy))
    }

    /// SQNR of all outputs together in dB: the errors of each relative to its own signal, averaged
    /// over the outputs. None where any of them has no estimate.
    pub fn whole_db(&self, row: usize) -> Option<f64> {
        let mut shares = 0.0;
        for (energy, &signal) in self.energies.get(row)?.iter().zip(&self.signals) {
            let energy = (*energy)?;
            if energy > 0.0 {
                shares += energy / signal;
            }
        }
        Some(decibels(self.signals.len() as f64, shares))
    }
}

fn decibels(signal: f64, error: f64) -> f64 {
    match error == 0.0 {
        true => f64::INFINITY,
        false => 10.0 * (libm::log10(signal) - libm::log10(error)),
    }
}

/// Estimates the errors of `rows` on one batch, with `probes` passes for each output ([`PROBES`] or
/// [`probes()`] are enough to rank). `seed` determines the signs: a batch's number, so that batches do not share them.
///
/// On one thread; a pure function of its arguments.
///
/// # Errors
/// As [`exact()`](super::exact()).
pub fn estimate(
    analysis: &Analysis<'_>,
    values: &FloatValues,
    rows: &[Row],
    probes: usize,
    seed: u64,
) -> Result<Estimate> {
    let mut estimate = Estimate {
        signals: Vec::with_capacity(analysis.outputs.len()),
        energies: vec![Vec::with_capacity(analysis.outputs.len()); rows.len()],
    };
    let mut places: BTreeMap<Place, Vec<usize>> = BTreeMap::new();
    for (index, &row) in rows.iter().enumerate() {
        places.entry(Place::of(row)).or_default().push(index);
    }
    for (number, &output) in analysis.outputs.iter().enumerate() {
        let y = values.get(analysis, output)?.as_f32();
        let squares = y.map_or(0.0, |y| {
            let finite = y.iter().filter(|y| y.is_finite());
            finite.map(|&y| f64::from(y) * f64::from(y)).sum()
        });
        estimate.signals.push(squares);
        let leads = analysis.leading_to(&[output]);
        let mut measured = Energies {
            analysis,
            values,
            rows,
            places: &places,
            leads: &leads,
            energies: vec![None; rows.len()],
        };
        if let Some(y) = y {
            let seed = seed ^ (number as u64).rotate_left(32);
            let start = (output, signs(seed, probes.max(1) * y.len()));
            Backward::run(analysis, values, start, &leads, &mut measured)?;
        }
        for (energies, energy) in estimate.energies.iter_mut().zip(measured.energies) {
            energies.push(energy);
        }
    }
    Ok(estimate)
}

/// Where the perturbation of a row sits: in a value, or in what a node makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Value(ValueId),
    Node(NodeId),
}

impl Place {
    fn of(row: Row) -> Self {
        match row {
            Row::Activation(id) | Row::Constant(id) => Place::Value(id),
            Row::Weight(id) | Row::Operand(id, _) | Row::Converted(id) => Place::Node(id),
        }
    }
}

/// Energies of the rows at one output.
struct Energies<'a> {
    analysis: &'a Analysis<'a>,
    values: &'a FloatValues,
    rows: &'a [Row],
    places: &'a BTreeMap<Place, Vec<usize>>,
    /// By value, whether the output follows from it.
    leads: &'a [bool],
    /// By row.
    energies: Vec<Option<f64>>,
}

impl Measure for Energies<'_> {
    fn wants(&self, id: ValueId) -> bool {
        self.places.contains_key(&Place::Value(id))
    }

    fn value(&mut self, id: ValueId, cotangent: Option<&[f32]>) -> Result<()> {
        let analysis = self.analysis;
        for &index in self.at(Place::Value(id)) {
            let error = || {
                let x = self.values.tensor(analysis, id)?;
                let name = &analysis.graph.value(id).name;
                match analysis.plan.params(id) {
                    Some(params) => {
                        let changed = analysis.fake_quantized(name, x, params)?;
                        Ok(difference(&changed, x))
                    }
                    None => Ok(vec![0.0; x.len()]),
                }
            };
            self.energies[index] = energy(self.leads[id.0], cotangent, error);
        }
        Ok(())
    }

    fn node(&mut self, id: NodeId, node: &Node, cotangent: Option<&[f32]>) -> Result<()> {
        let Some(&output) = node.outputs.first() else {
            return Ok(());
        };
        for &index in self.at(Place::Node(id)) {
            let error = || {
                if matches!(self.rows[index], Row::Converted(_)) {
                    let inputs = self.inputs(node)?;
                    let shapes = self.values.shapes(node);
                    return self.analysis.beyond_validation(id, node, &inputs, &shapes);
                }
                let old = self.values.tensor(self.analysis, output)?;
                let changed = self.changed(id, node, self.rows[index])?;
                Ok(difference(&changed, old))
            };
            self.energies[index] = energy(self.leads[output.0], cotangent, error);
        }
        Ok(())
    }
}

impl<'a> Energies<'a> {
    /// Rows whose perturbation sits here.
    fn at(&self, place: Place) -> &'a [usize] {
        self.places.get(&place).map_or(&[], Vec::as_slice)
    }

    /// What a node reads, in float.
    fn inputs(&self, node: &Node) -> Result<Vec<&'a Tensor>> {
        let inputs = node.inputs.iter();
        inputs
            .map(|&input| self.values.tensor(self.analysis, input))
            .collect()
    }

    /// What a node makes with a row of its own on.
    fn changed(&self, id: NodeId, node: &Node, row: Row) -> Result<Tensor> {
        let analysis = self.analysis;
        let mut inputs = self.inputs(node)?;
        if matches!(row, Row::Weight(_)) {
            let x = crate::exec::ops_f32::operand(node, &inputs, 0)?;
            return analysis.prepared.linear(id, node)?.run_fake_quant(x);
        }
        let mut requantized = None;
        if let Row::Operand(_, operand) = row
            && let (Some(params), Some(x)) =
                (analysis.requantized(id, operand), inputs.get(operand))
        {
            requantized = Some((operand, analysis.fake_quantized(&node.name, x, params)?));
        }
        if let Some((operand, tensor)) = &requantized {
            inputs[*operand] = tensor;
        }
        let shapes = self.values.shapes(node);
        let made = analysis.node(id, node, &inputs, &shapes)?;
        made.into_iter().next().ok_or_else(|| {
            let output = node.outputs.first().copied().unwrap_or(ValueId(0));
            missing(analysis.graph, output, "its node did not make it")
        })
    }
}

/// Random signs: splitmix64 (Steele, Lea, Flood 2014), a bit each.
fn signs(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let mut signs = Vec::with_capacity(count);
    while signs.len() < count {
        let bits = next();
        let left = (count - signs.len()).min(64);
        signs.extend((0..left).map(|bit| if bits >> bit & 1 == 1 { 1.0 } else { -1.0 }));
    }
    signs
}

/// changed - old; 0 where that is not finite, as of a mask of -inf.
fn difference(changed: &Tensor, old: &Tensor) -> Vec<f32> {
    let finite = |difference: f32| {
        if difference.is_finite() {
            difference
        } else {
            0.0
        }
    };
    let pairs = changed.iter().zip(old);
    pairs.map(|(changed, old)| finite(changed - old)).collect()
}

/// Mean over the lanes of (g · e)^2. None where there is no cotangent though the output follows from
/// the value, where a node cannot run quantized (its runs say why), and where the mean is not finite.
fn energy(
    leads: bool,
    cotangent: Option<&[f32]>,
    error: impl FnOnce() -> Result<Vec<f32>>,
) -> Option<f64> {
    let cotangent = match (leads, cotangent) {
        (false, _) => return Some(0.0),
        (true, None) => return None,
        (true, Some(cotangent)) => cotangent,
    };
    let error = error().ok()?;
    if error.iter().all(|&e| e == 0.0) {
        return Some(0.0);
    }
    let lanes = cotangent.chunks_exact(error.len());
    let count = lanes.len() as f64;
    let squares = lanes.map(|g| {
        let product = dot(g, &error);
        product * product
    });
    let mean = squares.sum::<f64>() / count;
    mean.is_finite().then_some(mean)
}

/// In f64, in eight sums whose order is fixed.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0.0f64; LANES];
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for (sum, (&a, &b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += f64::from(a) * f64::from(b);
        }
    }
    let rest = a_rest.iter().zip(b_rest);
    let rest: f64 = rest.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    sums.iter().sum::<f64>() + rest
}
