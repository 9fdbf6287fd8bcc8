//! What each kind of task holds at its peak, in bytes, from shapes alone: the figures that tasks
//! reserve before they start; and how long any may take. They are upper bounds with a margin; `tests/memory` runs real jobs
//! under a counting allocator and holds the estimates against it.

use std::collections::BTreeMap;

use dual16_nash::ways::Way;

use super::{FileRef, JobInput, ModelInput, session::Session};
use crate::{
    exec::peak_elements,
    graph::{Linear, NodeId, Op, ValueId},
    observe::{BINS, Sketch},
    plan::{Key, Plan},
};

/// Copies of the model's files while it is loaded: the file, rten's image of it and rten's weights,
/// the graph's. Two stay; a plan's integers take the place of a third.
const MODEL_COPIES: u64 = 4;

/// Multiply-accumulates that a slow core does in a second, by the slowest kernel.
const RATE: f64 = 5e8;

/// Bytes of an f32.
const F32: u64 = 4;

/// A sketch without a histogram: its place in a list that grows, its shape, itself as bytes.
const SKETCH: u64 = 2 * size_of::<(Key, Sketch)>() as u64 + 160;
/// A bin of a histogram.
const BIN: u64 = 8;
/// The same in a task's result: two bytes count up to 16,383 values.
const ENCODED_BIN: u64 = 2;

/// Allocators round up and keep what was freed.
fn with_margin(bytes: u64) -> u64 {
    bytes.saturating_add(bytes / 4).saturating_add(4 << 20)
}

/// A job's model, loaded and lowered, with a plan's integers; values of its first batch excluded.
pub(super) fn session(job: &JobInput) -> u64 {
    let files: u64 = match &job.model {
        ModelInput::Onnx {
            model,
            external_data,
        } => model.size + external_data.iter().map(|file| file.size).sum::<u64>(),
        ModelInput::Layers { weights } => weights.size,
    };
    with_margin(files.saturating_mul(MODEL_COPIES))
}

/// A run that keeps every value, `sampled` being about what those take.
pub(super) fn probe(sampled: u64) -> u64 {
    with_margin(sampled.saturating_add(sampled / 4))
}

/// Blobs that are decoded into values.
pub(super) fn decoded(inputs: &[Vec<u8>]) -> u64 {
    let bytes: usize = inputs.iter().map(Vec::len).sum();
    with_margin((bytes as u64).saturating_mul(8))
}

impl Session {
    /// One batch of observe: every value of the float run, the walk over them, the widest Linear.
    pub(super) fn observe_bytes(&self, elements: usize) -> u64 {
        let values = self.graph.running().flat_map(|(_, node)| &node.outputs);
        let captured = self.elements_of(values.chain(&self.graph.inputs));
        let walked = peak_elements(&self.graph);
        let inside = self.graph.linears().map(|(_, node, linear)| {
            let (o, k) = linear.weight.dim();
            let outputs = self.elements_of([&node.outputs[0]]);
            // Both planes in int8 and f32, packed once more by the product; sums and their search.
            let weights = (o * k) as u64 * (2 + 4 * F32);
            (weights, outputs * 4 * F32)
        });
        let (weights, outputs) = inside.fold((0, 0), |(w, o), (weights, outputs)| {
            (w.max(weights), o.max(outputs))
        });
        let batch = captured * F32 + walked * F32 + outputs + self.temporaries();
        with_margin(self.scaled(batch, elements) + weights)
    }

    /// What observe keeps of so many batches until their file is done: a sketch of each value, and
    /// all of them once more as the task's result.
    pub(super) fn sketches_bytes(&self, batches: usize) -> u64 {
        let bytes = self.sketches().map(|wants| match wants.histogram {
            true => SKETCH + BINS as u64 * (BIN + 2 * ENCODED_BIN),
            false => SKETCH,
        });
        bytes.sum::<u64>().saturating_mul(batches as u64)
    }

    /// Evaluate: these ways of these Linears, and one batch of their inputs and outputs.
    pub(super) fn evaluate_bytes(
        &self,
        wanted: &BTreeMap<usize, Vec<Way>>,
        largest: &LargestBatch,
    ) -> u64 {
        let (mut weights, mut captured, mut widest) = (0, 0, 0);
        for (&id, ways) in wanted {
            let node = self.graph.node(NodeId(id));
            if let Op::Linear(linear) = &node.op {
                weights += ways.iter().map(|&way| way_bytes(linear, way)).sum::<u64>();
            }
            let (x, y) = (
                self.elements_of([&node.inputs[0]]),
                self.elements_of([&node.outputs[0]]),
            );
            captured += (x + y) * F32;
            // The input in both dtypes and packed; accumulators, the output and its float twin.
            widest = widest.max(x * 8 + y * 24);
        }
        let batch = captured + widest + self.checkpoint_bytes() + self.temporaries();
        with_margin(weights + self.scaled(batch, largest.elements)).saturating_add(largest.reading)
    }

    /// One batch of mend or analyze: the float values of the whole graph twice, once as captured and once
    /// as computed, what so many passes or rows hold of it at once, and a run of validate.
    pub(super) fn sensitivity_bytes(&self, plan: &Plan, elements: usize, lanes: usize) -> u64 {
        let values = self.graph.running().flat_map(|(_, node)| &node.outputs);
        let values = self.elements_of(values.chain(&self.graph.inputs));
        let walked = peak_elements(&self.graph).saturating_mul(lanes as u64);
        let batch = self.scaled((2 * values + walked) * F32, elements);
        with_margin(batch).saturating_add(self.validate_bytes(plan, elements))
    }

    /// One batch of validate; the plan's integers are the session's own.
    pub(super) fn validate_bytes(&self, plan: &Plan, elements: usize) -> u64 {
        let values = self.graph.running().flat_map(|(_, node)| &node.outputs);
        let captured = self.elements_of(values.chain(&self.graph.inputs));
        let walked = peak_elements(&self.graph);
        let weights = self.graph.linears().filter_map(|(id, _, linear)| {
            let planned = plan.linears.get(&id.0)?;
            let (o, k) = linear.weight.dim();
            // Made from floats, run in floats once more.
            Some(way_bytes(linear, planned.way) + (o * k) as u64 * 2 * F32)
        });
        let widest = weights.max().unwrap_or(0);
        // Captured, and computed once more for the operators' own figures.
        let batch = (2 * captured + 2 * walked) * F32 + self.temporaries();
        with_margin(widest + self.scaled(batch, elements))
    }

    /// Convert: the integers of some Linears, and the same again as a file.
    pub(super) fn convert_bytes(&self, linears: &[usize], plan: &Plan) -> u64 {
        let bytes = linears.iter().filter_map(|id| {
            let planned = plan.linears.get(id)?;
            match &self.graph.node(NodeId(*id)).op {
                // Fitted integers are read in int16.
                Op::Linear(linear) if planned.params.fit.is_some() => {
                    Some(2 * way_bytes(linear, planned.way) + 4 * linear.weight.len() as u64)
                }
                Op::Linear(linear) => Some(2 * way_bytes(linear, planned.way)),
                _ => None,
            }
        });
        with_margin(bytes.sum())
    }

    /// What any task of the job may take, in seconds on a slow core: all batches, walked once for each
    /// node as the longest searches and rows do, and a fit of each layer.
    pub(super) fn seconds(&self) -> u64 {
        let files = self.job.calibration.iter().chain(&self.job.evaluation);
        let elements: u64 = files.map(|file| file.size / F32).sum();
        let batches = elements as f64 / self.probe_elements.max(1) as f64 + 1.0;
        let (mut walk, mut fits, mut nodes) = (0.0, 0.0, 0.0);
        for (_, node) in self.graph.running() {
            nodes += 1.0;
            // Beside the products, some work on each value.
            walk += (self.graph.macs(node) + 64 * self.elements_of(&node.outputs)) as f64;
            if let Op::Linear(linear) = &node.op {
                let (o, k) = linear.weight.dim();
                let (o, k) = (o as f64, k as f64);
                fits += k * k * (k + 16.0 * o);
            }
        }
        ((batches * walk * (nodes + 64.0) + fits) / RATE).ceil() as u64
    }

    /// The checkpoint that a float run begins at, that which it leaves, and the bytes of one of them.
    pub(super) fn checkpoint_bytes(&self) -> u64 {
        3 * F32 * peak_elements(&self.graph)
    }

    /// What rten holds beside the values that were asked for: operands and result of an operation,
    /// and a packed copy.
    fn temporaries(&self) -> u64 {
        let of = |value: &crate::graph::Value| value.shape.iter().product::<usize>() as u64;
        4 * F32 * self.graph.values.iter().map(of).max().unwrap_or(0)
    }

    /// Elements of some values in the probe batch.
    fn elements_of<'v>(&self, values: impl IntoIterator<Item = &'v ValueId>) -> u64 {
        let of = |id: &ValueId| self.graph.value(*id).shape.iter().product::<usize>() as u64;
        values.into_iter().map(of).sum()
    }

    /// Bytes in a batch of `elements`, given those in the probe batch.
    fn scaled(&self, bytes: u64, elements: usize) -> u64 {
        let ratio = elements as f64 / self.probe_elements.max(1) as f64;
        (bytes as f64 * ratio.max(1.0)).ceil() as u64
    }
}

/// What the batches of some files take at most, from their headers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LargestBatch {
    /// Elements of a batch.
    elements: usize,
    /// [`BatchFile::reading_bytes`](crate::batch::BatchFile::reading_bytes).
    reading: u64,
}

impl LargestBatch {
    /// The larger of both.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            elements: self.elements.max(other.elements),
            reading: self.reading.max(other.reading),
        }
    }
}

/// The largest batch of some files.
pub(super) fn largest_batch(
    session: &Session,
    files: &[FileRef],
    blobs: &dyn super::Blobs,
) -> crate::Result<LargestBatch> {
    files
        .iter()
        .try_fold(LargestBatch::default(), |largest, file| {
            let batches = session.batches(file, blobs)?;
            Ok(LargestBatch {
                elements: largest.elements.max(batches.elements()),
                reading: largest.reading.max(batches.reading_bytes()),
            })
        })
}

/// A Linear's integers in one way, and one float copy while they are made.
fn way_bytes(linear: &Linear, way: Way) -> u64 {
    let elements = linear.weight.len() as u64;
    let planes = match way {
        Way::Split => 2,
        way => u64::from(way.weight_dtype().bits() / 8),
    };
    // Bias, scales and multipliers of each channel.
    elements * planes + linear.weight.nrows() as u64 * 48
}
