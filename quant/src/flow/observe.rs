//! Stage observe: a float run of every calibration batch, every tensor that may need a scale
//! reduced to a sketch; the reduce folds the batches in order into the calibration.

use std::collections::BTreeMap;

use dual16_nash::{
    linear::GemmShape,
    mul_sum::{for_each_products, product_range},
    split::SplitWeight,
};

use super::{
    Context, Next, Stage, TaskInput, TaskOutput, evaluate,
    mend::{self, Begin},
    payload::{ObserveMap, Observed, decode, encode, load, store},
    session::Session,
    variants::Variant,
};
use crate::{
    Result,
    error::KernelContext,
    exec::{Capture, Carried, Integers, captured, gemm_f32, walk},
    flow::Blobs,
    graph::{Linear, NodeId, Side},
    observe::{Masked, Sketch, SketchBuilder, Statistics, Wants},
    plan::{Calibration, Key, Slot, floors},
    tensor::Tensor,
};

/// The stage: one map a calibration file.
pub(super) fn stage(session: &Session) -> Result<Stage> {
    of(session, None)
}

/// The same of the remedies that the model has places for, on the way to a search among them.
pub(super) fn remedies(session: &Session, begin: Begin) -> Result<Stage> {
    of(session, Some(begin))
}

fn of(session: &Session, begin: Option<Begin>) -> Result<Stage> {
    let files = 0..session.job.calibration.len();
    let remedies_of = begin.as_ref().map(|begin| &begin.plain);
    let map = |file| ObserveMap {
        file,
        remedies_of: remedies_of.cloned(),
    };
    let maps: Result<Vec<Vec<u8>>> = files
        .map(|file| encode("observe task", &map(file)))
        .collect();
    Ok(Stage {
        name: "observe",
        maps: maps?,
        reduce: encode("observe reduce", &begin)?,
    })
}

/// Observes every batch of one file.
pub(super) fn map(
    session: &Session,
    task: &TaskInput<'_>,
    context: &Context<'_>,
) -> Result<TaskOutput> {
    let ObserveMap { file, remedies_of } = decode("observe task", task.payload)?;
    let all = |plain: String| session.variant(&plain, &Variant::All, context.blobs);
    let variant = remedies_of.map(all).transpose()?;
    let session = variant.as_deref().unwrap_or(session);
    let mut observed = Vec::new();
    let mut batches = session.file(&session.job.calibration, file, context.blobs)?;
    let bytes = [
        batches.reading_bytes(),
        session.observe_bytes(batches.elements()),
        session.sketches_bytes(batches.count()),
    ];
    let bytes = bytes.into_iter().fold(0, u64::saturating_add);
    let _held = context.reserve(session, &format!("observing {}", batches.told()), bytes)?;
    session.for_each_batch(&mut batches, context, |_, batch| {
        let capture = session.float_run(batch, &session.all_values())?;
        observed.push(observe_batch(session, &capture)?);
        Ok(())
    })?;
    let batches = observed;
    let result = encode("observations", &Observed { batches })?;
    Ok(TaskOutput {
        result,
        ..TaskOutput::default()
    })
}

/// Folds all batches in order and starts the next stage.
pub(super) fn reduce(
    session: &Session,
    task: &TaskInput<'_>,
    blobs: &dyn Blobs,
) -> Result<TaskOutput> {
    // Each map's sketches are folded before the next are decoded.
    let begin: Option<Begin> = decode("observe reduce", task.payload)?;
    let merge = session.job.settings.merge;
    let mut statistics: BTreeMap<Key, Statistics> = BTreeMap::new();
    for input in task.inputs {
        let observed: Observed = decode("observations", input)?;
        for (key, sketch) in observed.batches.into_iter().flatten() {
            statistics.entry(key).or_default().push(sketch, merge);
        }
    }
    let mut calibration = Calibration {
        statistics,
        floors: BTreeMap::new(),
        columns: BTreeMap::new(),
    };
    let next = match begin {
        None => {
            calibration.floors = floors(&session.scale_source(&calibration))?;
            let calibration = store("calibration", &calibration, blobs)?;
            evaluate::stage(session, &calibration)?
        }
        Some(begin) => {
            // What was observed of the model as it is stays.
            let plain: Calibration = load("calibration", &begin.plain, blobs)?;
            calibration.statistics.extend(plain.statistics);
            calibration.floors = plain.floors;
            calibration.columns = plain.columns;
            let calibration = store("calibration", &calibration, blobs)?;
            mend::observed(session, begin, &calibration, blobs)?
        }
    };
    Ok(TaskOutput {
        next: Some(Next::Stage(next)),
        ..TaskOutput::default()
    })
}

fn observe_batch(session: &Session, capture: &Capture) -> Result<Vec<(Key, Sketch)>> {
    let graph = &session.graph;
    let mut sketches = Vec::new();
    let mut machine = crate::exec::Calibration::new(graph, capture);
    walk(
        graph,
        &session.float,
        capture,
        Integers::Computed,
        &mut machine,
        |id, value| {
            // A moved tensor shares the scale of what it was moved from; integers have none.
            if let Carried::Value(value) = value
                && graph.origin(id) == id
                && session.is_new(id)
            {
                let sketch = sketch(value, session.wants(id), graph.mask_side(id));
                sketches.push((Key::Value(id.0), sketch));
            }
            Ok(())
        },
    )?;
    for (id, node, linear) in graph.linears() {
        if !session.is_new(node.outputs[0]) {
            continue;
        }
        let x = captured(graph, capture, node.inputs[0])?;
        let inside = Inside {
            session,
            node: id,
            layer: &node.name,
            linear,
            x,
        };
        inside.observe(&mut sketches)?;
    }
    Ok(sketches)
}

/// The tensors inside a Linear that some way may need a scale for.
struct Inside<'a> {
    session: &'a Session,
    node: NodeId,
    layer: &'a str,
    linear: &'a Linear,
    x: &'a Tensor,
}

impl Inside<'_> {
    fn observe(&self, sketches: &mut Vec<(Key, Sketch)>) -> Result<()> {
        let slots: Vec<Slot> = self.session.slots_in_play(self.node).collect();
        // What no integer stands for is told of with the tensor that it is in.
        let mut x = self.x.as_standard_layout();
        if x.iter().any(|v| !v.is_finite()) {
            x.mapv_inplace(|v| if v.is_finite() { v } else { 0.0 });
        }
        let x = x.as_slice().unwrap_or_default();
        let weight = self.linear.weight.as_standard_layout();
        let weight = weight.as_slice().unwrap_or_default();
        let (o, k) = self.linear.weight.dim();
        let shape = GemmShape {
            n: x.len() / k.max(1),
            k,
            o,
        };
        if slots.contains(&Slot::Product) {
            sketches.push(self.keyed(Slot::Product, self.products(x, weight, shape)?));
            sketches.push(self.keyed(Slot::Sum, self.sketch(Slot::Sum, x, weight, shape, false)));
        }
        if slots.contains(&Slot::High) {
            let planes = SplitWeight::new(weight, [o, k]).of(self.layer)?;
            let high = planes.hi_scales().of(self.layer)?;
            let float = |plane: &[i8], scales: &[dual16_nash::Scale]| -> Vec<f32> {
                let rows = plane.chunks(k.max(1)).zip(scales);
                rows.flat_map(|(row, s)| row.iter().map(|&q| f32::from(q) * s.get()))
                    .collect()
            };
            let high = float(&planes.hi, &high);
            let low = float(&planes.lo, &planes.scales);
            sketches.push(self.keyed(Slot::High, self.sketch(Slot::High, x, &high, shape, true)));
            sketches.push(self.keyed(Slot::Low, self.sketch(Slot::Low, x, &low, shape, false)));
        }
        Ok(())
    }

    fn keyed(&self, slot: Slot, sketch: Sketch) -> (Key, Sketch) {
        (Key::Slot(self.node.0, slot), sketch)
    }

    /// Products of x and the weight. Where the observer needs only their range, that is exact
    /// without forming one; otherwise they stream by in chunks.
    fn products(&self, x: &[f32], weight: &[f32], shape: GemmShape) -> Result<Sketch> {
        let wants = self.session.slot_wants(self.node, Slot::Product);
        let dims = [shape.n, shape.o, shape.k];
        if !wants.histogram {
            let (min, max) = product_range(x, weight, shape).of(self.layer)?;
            return Ok(Sketch::of_range(&dims, min, max));
        }
        let mut builder = SketchBuilder::new(&dims, wants.histogram);
        for_each_products(x, weight, shape, |products| builder.update(products)).of(self.layer)?;
        Ok(builder.finish())
    }

    /// Output of one product of matrices, with the bias or without.
    fn sketch(
        &self,
        slot: Slot,
        x: &[f32],
        weight: &[f32],
        shape: GemmShape,
        with_bias: bool,
    ) -> Sketch {
        let mut y = gemm_f32(x, weight, shape);
        if let Some(bias) = self.linear.bias.as_ref().filter(|_| with_bias) {
            for row in y.chunks_exact_mut(shape.o.max(1)) {
                row.iter_mut().zip(bias.iter()).for_each(|(y, b)| *y += b);
            }
        }
        let wants = self.session.slot_wants(self.node, slot);
        Sketch::of(&y, &[shape.n, shape.o], wants)
    }
}

/// Masked elements are left out where the value may hold some.
fn sketch(tensor: &Tensor, wants: Wants, mask: Option<Side>) -> Sketch {
    let standard = tensor.as_standard_layout();
    let values = standard.as_slice().unwrap_or_default();
    let (values, masked) = match mask {
        Some(side) => Masked::part(values, |x| side.is_masked(x)),
        None => (values.into(), None),
    };
    Sketch::of(&values, tensor.shape(), wants).beside(masked)
}
