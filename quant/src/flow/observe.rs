//! Stage observe: a float run of every calibration batch, every tensor that may need a scale
//! reduced to a sketch; the reduce folds the batches in order into the calibration.

use std::collections::{BTreeMap, BTreeSet};

use dual16_nash::{
    linear::GemmShape,
    mul_sum::{for_each_products, product_range},
    split::SplitWeight,
};

use serde::{Deserialize, Serialize};

use super::{
    Blobs, Context, Event, QueuedStage,
    checkpoints::BatchId,
    mend::Begin,
    payload::{load, store},
    session::Session,
    stage::{Parts, Peak, Stage},
    variants::Variant,
};
use crate::{
    Result,
    error::KernelContext,
    exec::{Capture, Carried, Integers, captured, walk},
    graph::{Linear, NodeId, Op, Side, ValueId},
    observe::{Masked, MergeMode, Sketch, SketchBuilder, Statistics, Wants},
    plan::{Calibration, Key, Slot, floors},
    tensor::Tensor,
    ways::gemm_f32,
};

/// Every value of the model as it is, on the calibration batches.
pub(super) struct Observe;

impl Stage for Observe {
    const NAME: &'static str = "observe";
    /// A calibration file.
    type Map = usize;
    /// By batch of the file.
    type Part = Vec<Sketches>;
    type Given = ();
    /// Blob of the [`Calibration`].
    type Done = String;

    fn peak(session: &Session, &file: &usize, context: &Context<'_>) -> Result<Option<Peak>> {
        peak(session, file, context).map(Some)
    }

    fn map(
        session: &Session,
        file: usize,
        context: &Context<'_>,
        _told: &mut Vec<Event>,
    ) -> Result<Self::Part> {
        observe_file(session, file, context)
    }

    fn reduce(
        session: &Session,
        (): (),
        parts: Parts<'_, Self>,
        blobs: &dyn Blobs,
        _told: &mut Vec<Event>,
    ) -> Result<String> {
        let mut calibration = Calibration {
            statistics: folded(session, parts)?,
            floors: BTreeMap::new(),
            columns: Vec::new(),
        };
        calibration.floors = floors(&session.scale_source(&calibration))?;
        store("calibration", &calibration, blobs)
    }
}

impl Observe {
    pub(super) fn start(session: &Session) -> Result<QueuedStage> {
        Self::queued(0..session.job.calibration.len(), &())
    }
}

/// What the remedies make that the model has places for, and what is inside its Linears.
pub(super) struct ObserveRemedies;

/// A calibration file, and the blob of the calibration that the remedies follow from.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RemediesMap {
    file: usize,
    plain: String,
}

impl Stage for ObserveRemedies {
    const NAME: &'static str = "remedies";
    type Map = RemediesMap;
    type Part = Vec<Sketches>;
    type Given = Begin;
    /// The search that begins, and the blob of the [`Calibration`] of the model and of its remedies.
    type Done = (Begin, String);

    fn peak(
        session: &Session,
        RemediesMap { file, plain }: &RemediesMap,
        context: &Context<'_>,
    ) -> Result<Option<Peak>> {
        let session = session.variant(plain, &Variant::All, context.blobs)?;
        peak(&session, *file, context).map(Some)
    }

    fn map(
        session: &Session,
        RemediesMap { file, plain }: RemediesMap,
        context: &Context<'_>,
        _told: &mut Vec<Event>,
    ) -> Result<Self::Part> {
        let session = session.variant(&plain, &Variant::All, context.blobs)?;
        observe_file(&session, file, context)
    }

    fn reduce(
        session: &Session,
        begin: Begin,
        parts: Parts<'_, Self>,
        blobs: &dyn Blobs,
        _told: &mut Vec<Event>,
    ) -> Result<Self::Done> {
        // What was observed of the model as it is stays.
        let mut calibration: Calibration = load("calibration", &begin.plain, blobs)?;
        calibration.statistics.extend(folded(session, parts)?);
        let calibration = store("calibration", &calibration, blobs)?;
        Ok((begin, calibration))
    }
}

impl ObserveRemedies {
    pub(super) fn start(session: &Session, begin: &Begin) -> Result<QueuedStage> {
        let map = |file| RemediesMap {
            file,
            plain: begin.plain.clone(),
        };
        Self::queued((0..session.job.calibration.len()).map(map), begin)
    }
}

/// What a batch leaves.
type Sketches = Vec<(Key, Sketch)>;

fn peak(session: &Session, file: usize, context: &Context<'_>) -> Result<Peak> {
    let batches = session.file(&session.job.calibration, file, context.blobs)?;
    let bytes = [
        batches.reading_bytes(),
        session.observe_bytes(batches.elements()),
        session.sketches_bytes(batches.count()),
    ];
    Ok(Peak {
        what: format!("observing {}", batches.told()),
        bytes: bytes.into_iter().fold(0, u64::saturating_add),
    })
}

fn observe_file(session: &Session, file: usize, context: &Context<'_>) -> Result<Vec<Sketches>> {
    let mut observed = Vec::new();
    let mut batches = session.file(&session.job.calibration, file, context.blobs)?;
    session.for_each_batch(&mut batches, context, |_, batch| {
        let capture = session.float_run(batch, &session.all_values())?;
        session.float.check_hidden(&capture)?;
        observed.push(observe_batch(session, &capture)?);
        Ok(())
    })?;
    Ok(observed)
}

/// All batches in order. A file's sketches are folded before the next are decoded.
fn folded(
    session: &Session,
    files: impl Iterator<Item = Result<Vec<Sketches>>>,
) -> Result<BTreeMap<Key, Statistics>> {
    let merge = session.job.settings.merge;
    let mut statistics: BTreeMap<Key, Statistics> = BTreeMap::new();
    for batches in files {
        fold(&mut statistics, batches?.into_iter().flatten(), merge);
    }
    Ok(statistics)
}

fn fold(
    statistics: &mut BTreeMap<Key, Statistics>,
    sketches: impl IntoIterator<Item = (Key, Sketch)>,
    merge: MergeMode,
) {
    for (key, sketch) in sketches {
        // Where the inputs of a table lie is a matter of all batches.
        let merge = match key {
            Key::Above(_) | Key::Below(_) => MergeMode::Exact,
            Key::Value(_) | Key::Slot(..) => merge,
        };
        statistics.entry(key).or_default().push(sketch, merge);
    }
}

/// The tensors inside some Linears, by node index, on all calibration batches.
pub(super) fn observe_inside(
    session: &Session,
    context: &Context<'_>,
    slots: &BTreeMap<usize, Vec<Slot>>,
) -> Result<BTreeMap<Key, Statistics>> {
    let mut statistics = BTreeMap::new();
    if slots.is_empty() {
        return Ok(statistics);
    }
    let inputs = slots
        .keys()
        .map(|&id| session.graph.node(NodeId(id)).inputs[0]);
    let inputs: Vec<ValueId> = inputs.collect();
    for (number, file) in session.job.calibration.iter().enumerate() {
        let mut batches = session.file(&session.job.calibration, number, context.blobs)?;
        let peak = session.observe_bytes(batches.elements());
        let bytes = peak.saturating_add(batches.reading_bytes());
        let what = format!("observing inside Linears on {}", batches.told());
        let _held = context.reserve(session, &what, bytes)?;
        let mut id = BatchId::first(file);
        session.for_each_batch(&mut batches, context, |_, batch| {
            let capture = session.float_run_on(&id, batch, &session.names_of(&inputs))?;
            id.number += 1;
            let mut sketches = Vec::new();
            for (&node, slots) in slots {
                if let Some(inside) = Inside::of(session, NodeId(node), &capture)? {
                    inside.observe(slots, &mut sketches)?;
                }
            }
            fold(&mut statistics, sketches, session.job.settings.merge);
            Ok(())
        })?;
    }
    Ok(statistics)
}

fn observe_batch(session: &Session, capture: &Capture) -> Result<Sketches> {
    let graph = &session.graph;
    let mut sketches = Vec::new();
    let mut machine = crate::exec::Calibration::new(graph, capture);
    let tables: BTreeSet<ValueId> = session.tables_in_play().collect();
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
            if let Carried::Value(value) = value
                && tables.contains(&id)
            {
                sketches.extend(by_sign(id, value, graph.mask_side(id)));
            }
            Ok(())
        },
    )?;
    for (id, ..) in graph.linears() {
        let slots = session.slots_to_observe(id);
        if !slots.is_empty()
            && let Some(inside) = Inside::of(session, id, capture)?
        {
            inside.observe(&slots, &mut sketches)?;
        }
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

impl<'a> Inside<'a> {
    /// Of a node in a float run; None of one that is no Linear.
    fn of(session: &'a Session, id: NodeId, capture: &'a Capture) -> Result<Option<Self>> {
        let graph = &session.graph;
        let node = graph.node(id);
        let Op::Linear(linear) = &node.op else {
            return Ok(None);
        };
        Ok(Some(Inside {
            session,
            node: id,
            layer: &node.name,
            linear,
            x: captured(graph, capture, node.inputs[0])?,
        }))
    }

    fn observe(&self, slots: &[Slot], sketches: &mut Vec<(Key, Sketch)>) -> Result<()> {
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
                let mut floats = Vec::with_capacity(plane.len());
                for (row, scale) in plane.chunks(k.max(1)).zip(scales) {
                    floats.extend(row.iter().map(|&q| f32::from(q) * scale.get()));
                }
                floats
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

/// Histograms of what a table reads, of either sign; masked elements are left out.
fn by_sign(id: ValueId, value: &Tensor, mask: Option<Side>) -> [(Key, Sketch); 2] {
    let wants = Wants {
        histogram: true,
        ..Wants::default()
    };
    let (above, below): (Vec<f32>, Vec<f32>) = value
        .iter()
        .filter(|&&x| !mask.is_some_and(|side| side.is_masked(x)))
        .partition(|x| **x >= 0.0);
    let sketch = |values: &[f32]| Sketch::of(values, &[values.len()], wants);
    [
        (Key::Above(id.0), sketch(&above)),
        (Key::Below(id.0), sketch(&below)),
    ]
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
