//! What every task of a job needs first: the model, loaded, lowered, with the request bound to its
//! names. It is a pure function of the job, so a worker keeps the last few and tasks share them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use dual16_nash::{IntDtype, ways::Way};

use super::{Blobs, Control, FileRef, JobInput, ModelInput, Notice};
use crate::{
    Error, Result,
    batch::{Batch, BatchFile},
    exec::Capture,
    float::FloatModel,
    graph::{Graph, Move, NodeId, Op, ValueId, lower},
    layers,
    model::Model,
    observe::{ObserverKind, Wants},
    plan::{Calibration, Request, ScaleSource, Slot, origin},
    settings::WayChoice,
};

/// Sessions kept: the running job's and the one before, so that two jobs do not evict each other.
const KEPT: usize = 2;

/// A job's model, ready.
pub(crate) struct Session {
    pub(crate) job: JobInput,
    pub(crate) model: Model,
    pub(crate) float: FloatModel,
    pub(crate) graph: Graph,
    pub(crate) request: Request,
    /// Linears that read each value, moves aside, and MatMuls that may read it as int8.
    gemm_inputs: BTreeSet<usize>,
}

type Slots = VecDeque<(String, Arc<Mutex<Option<Arc<Session>>>>)>;

static SESSIONS: Mutex<Slots> = Mutex::new(VecDeque::new());

impl Session {
    /// The job's session, loaded now if no task of the job did before.
    pub(super) fn of(job: &JobInput, blobs: &dyn Blobs) -> Result<Arc<Session>> {
        let slot = {
            let mut sessions = SESSIONS.lock().unwrap_or_else(PoisonError::into_inner);
            match sessions.iter().find(|(digest, _)| *digest == job.digest) {
                Some((_, slot)) => slot.clone(),
                None => {
                    sessions.truncate(KEPT - 1);
                    let slot = Arc::default();
                    sessions.push_front((job.digest.clone(), Arc::clone(&slot)));
                    slot
                }
            }
        };
        // Tasks of one job wait for the first of them to load it; other jobs do not.
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = &*slot {
            return Ok(Arc::clone(session));
        }
        let session = Arc::new(Session::open(job, blobs)?);
        *slot = Some(Arc::clone(&session));
        Ok(session)
    }

    fn open(job: &JobInput, blobs: &dyn Blobs) -> Result<Session> {
        let layer_mode = matches!(job.model, ModelInput::Layers { .. });
        let model = load_model(job, blobs)?;
        // As many threads as parallel sections have: tasks take turns on them.
        let float = FloatModel::load(&model, rayon::current_num_threads())?;
        let probe = probe(job, blobs, &model, &float)?;
        let graph = lower(&model, &probe)?;
        if graph.linears().next().is_none() {
            return Err(Error::Model {
                file: model.file().to_owned(),
                reason:
                    "it has no Linear layer (a MatMul or Gemm with a constant weight), so there \
                         is nothing to quantize"
                        .to_owned(),
            });
        }
        let request = Request::resolve(&graph, &job.settings, layer_mode)?;
        let gemm_inputs = gemm_inputs(&graph);
        Ok(Session {
            job: job.clone(),
            model,
            float,
            graph,
            request,
            gemm_inputs,
        })
    }

    /// The files that errors are measured on.
    pub(super) fn measured_files(&self) -> &[FileRef] {
        match self.job.evaluation.as_slice() {
            [] => &self.job.calibration,
            files => files,
        }
    }

    /// Checks one batch file against the model without reading its tensors.
    pub(super) fn check_file(&self, file: &FileRef, blobs: &dyn Blobs) -> Result<()> {
        open_batches(file, blobs, &self.model).map(|_| ())
    }

    /// Runs `each` for every batch of a file, in order. The name says which batch it is.
    pub(super) fn for_each_batch(
        &self,
        files: &[FileRef],
        index: usize,
        blobs: &dyn Blobs,
        control: &dyn Control,
        mut each: impl FnMut(&str, &Batch) -> Result<()>,
    ) -> Result<()> {
        let file = files.get(index).ok_or_else(|| Error::Payload {
            what: "task",
            reason: format!("the job has no file {index}"),
        })?;
        let mut batches = open_batches(file, blobs, &self.model)?;
        let several = batches.count() > 1;
        for number in 0..batches.count() {
            if control.cancelled() {
                return Err(Error::Cancelled);
            }
            let batch = batches.read(number)?;
            match several {
                true => each(&format!("{} batch {number}", file.name), &batch)?,
                false => each(&file.name, &batch)?,
            }
        }
        Ok(())
    }

    /// A float run of one batch that keeps the named values beside the batch's own.
    pub(super) fn float_run(&self, batch: &Batch, values: &[&str]) -> Result<Capture> {
        let mut capture = self.float.run(batch, values)?;
        for (name, datum) in batch {
            capture.entry(name.clone()).or_insert_with(|| datum.clone());
        }
        Ok(capture)
    }

    /// ONNX names of everything a walk in CALIBRATION takes from the float run.
    pub(super) fn all_values(&self) -> Vec<&str> {
        let float = self.graph.nodes.iter().flat_map(|node| &node.outputs);
        let float = float.filter_map(|id| self.graph.value(*id).onnx.as_deref());
        unique(float.chain(self.island_operands()))
    }

    /// ONNX names of what VALIDATION and CONVERTED compare with and need: outputs of Linears and of
    /// the model, shapes of moves, non-float operands of islands.
    pub(super) fn reference_values(&self) -> Vec<&str> {
        let shaped = |op: &Op| matches!(op, Op::Move(Move::Reshape | Move::Expand) | Op::Linear(_));
        let nodes = self.graph.nodes.iter().filter(|node| shaped(&node.op));
        let ids = nodes
            .flat_map(|node| &node.outputs)
            .chain(&self.graph.outputs);
        let names = ids.filter_map(|id| self.graph.value(*id).onnx.as_deref());
        unique(names.chain(self.island_operands()))
    }

    /// ONNX names of some values.
    pub(super) fn names_of(&self, values: &[ValueId]) -> Vec<&str> {
        unique(
            values
                .iter()
                .filter_map(|id| self.graph.value(*id).onnx.as_deref()),
        )
    }

    /// Operands of islands that are no value of the graph: shapes, indices, masks.
    fn island_operands(&self) -> impl Iterator<Item = &str> {
        let islands = self.graph.nodes.iter().filter_map(|node| match &node.op {
            Op::Island(island) => Some(&island.from_float_run),
            _ => None,
        });
        islands.flatten().map(String::as_str)
    }

    /// What the float model's outputs are called in the ONNX graph.
    pub(super) fn output_names(&self) -> Vec<String> {
        self.graph
            .outputs
            .iter()
            .map(|&id| self.output_name(id))
            .collect()
    }

    /// What one output is called in the ONNX graph.
    pub(super) fn output_name(&self, id: ValueId) -> String {
        let value = self.graph.value(id);
        value.onnx.clone().unwrap_or_else(|| value.name.clone())
    }

    /// Scales from a calibration.
    pub(super) fn scale_source<'a>(&'a self, calibration: &'a Calibration) -> ScaleSource<'a> {
        let (graph, settings, request) = (&self.graph, &self.job.settings, &self.request);
        ScaleSource {
            graph,
            settings,
            request,
            calibration,
        }
    }

    /// Ways of a Linear that may be measured before the job ends.
    pub(super) fn ways_in_play(&self, linear: NodeId) -> Vec<Way> {
        match self.request.linears.get(&linear.0) {
            Some(request) => match (request.explicit, request.requested) {
                (true, WayChoice::Fixed(way)) => vec![way],
                _ => Way::ALL.to_vec(),
            },
            None => Vec::new(),
        }
    }

    /// What observation must keep of a value so that every scale it may need can be derived.
    pub(super) fn wants(&self, id: ValueId) -> Wants {
        let request = &self.request.values[id.0];
        let mut dtypes = vec![request.dtype];
        if self.gemm_inputs.contains(&id.0) {
            dtypes = IntDtype::ALL.to_vec();
        }
        let mut observers = vec![request.observer];
        for (id_of, node, _) in self.graph.linears() {
            if origin(&self.graph, node.inputs[0]) == id {
                observers.extend(self.request.slot(id_of.0, Slot::Input).observer);
            }
        }
        wants_of(&observers, &dtypes)
    }

    /// The same for a tensor inside a Linear; these are int16 always.
    pub(super) fn slot_wants(&self, linear: NodeId, slot: Slot) -> Wants {
        let observer = self.request.slot(linear.0, slot).observer;
        wants_of(
            &[observer.unwrap_or(self.job.settings.observer)],
            &[IntDtype::Int16],
        )
    }

    /// What is known to be worth telling before any data is seen.
    pub(super) fn notices(&self) -> Vec<Notice> {
        let islands = self.graph.nodes.iter().filter_map(|node| match &node.op {
            Op::Island(island) => Some(Notice {
                warning: true,
                code: "FLOAT_ISLAND".to_owned(),
                subject: node.name.clone(),
                message: format!(
                    "{} has no integer kernel and runs in float between dequantize and quantize",
                    island.op_type
                ),
            }),
            _ => None,
        });
        self.request
            .notices
            .iter()
            .cloned()
            .chain(islands)
            .collect()
    }

    /// Multiply-accumulates of every Linear over one batch of the probe's shape, by node index.
    pub(super) fn macs(&self) -> BTreeMap<usize, u64> {
        let of = |(id, node, linear): (NodeId, &crate::graph::Node, &crate::graph::Linear)| {
            let shape = &self.graph.value(node.inputs[0]).shape;
            let rows: usize = shape.iter().rev().skip(1).product();
            (id.0, (rows * linear.weight.len()) as u64)
        };
        self.graph.linears().map(of).collect()
    }
}

fn load_model(job: &JobInput, blobs: &dyn Blobs) -> Result<Model> {
    let path = |file: &FileRef| {
        blobs.path(&file.digest).map_err(|source| Error::Io {
            what: file.name.clone(),
            source,
        })
    };
    match &job.model {
        ModelInput::Onnx {
            model,
            external_data,
        } => {
            let external: Result<Vec<_>> = external_data
                .iter()
                .map(|file| Ok((file.name.clone(), path(file)?)))
                .collect();
            Model::load(&model.name, &path(model)?, &external?)
        }
        ModelInput::Layers { weights } => {
            let first = job.calibration.first().ok_or_else(no_calibration)?;
            let names = layers::layers_in(&first.name, &path(first)?)?;
            let bytes = layers::to_onnx(&weights.name, &path(weights)?, Some(&names))?;
            Model::from_bytes(&weights.name, bytes.into(), &[])
        }
    }
}

/// Every value of one float run: dtypes and shapes for lowering.
fn probe(job: &JobInput, blobs: &dyn Blobs, model: &Model, float: &FloatModel) -> Result<Capture> {
    let first = job.calibration.first().ok_or_else(no_calibration)?;
    let batch = open_batches(first, blobs, model)?.read(0)?;
    float.probe(&batch)
}

fn open_batches(file: &FileRef, blobs: &dyn Blobs, model: &Model) -> Result<BatchFile> {
    let io = |source| Error::Io {
        what: file.name.clone(),
        source,
    };
    let path = blobs.path(&file.digest).map_err(io)?;
    BatchFile::open(&file.name, &path, model.inputs())
}

fn no_calibration() -> Error {
    Error::Setting {
        setting: "calibration".to_owned(),
        reason: "there is no batch; give at least one .safetensors or .npz file".to_owned(),
    }
}

/// Origins of everything a Linear or MatMul reads: their scales may be needed in either dtype.
fn gemm_inputs(graph: &Graph) -> BTreeSet<usize> {
    let gemm = |op: &Op| matches!(op, Op::Linear(_) | Op::MatMul);
    let inputs = graph
        .nodes
        .iter()
        .filter(|node| gemm(&node.op))
        .flat_map(|node| &node.inputs);
    inputs.map(|&id| origin(graph, id).0).collect()
}

fn wants_of(observers: &[ObserverKind], dtypes: &[IntDtype]) -> Wants {
    let pairs = observers
        .iter()
        .flat_map(|&observer| dtypes.iter().map(move |&d| (observer, d)));
    pairs
        .map(|(observer, dtype)| Wants::of(observer, dtype))
        .fold(Wants::default(), Wants::union)
}

fn unique<'n>(names: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
    names.collect::<BTreeSet<_>>().into_iter().collect()
}
