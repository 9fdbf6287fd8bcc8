//! What every task of a job needs first: the model, loaded, lowered, with the request bound to its
//! names. It is a pure function of the job, so that tasks can share it.

mod float_runs;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    Blobs, Context, Control, FileRef, JobInput, ModelInput, Notice,
    checkpoints::Checkpoints,
    files::{go_on, is_infinite, load_model, masks, open_batches, probe_file},
    footprint, left_out,
    payload::load,
    variants::Variants,
};
use crate::{
    Error, Result,
    batch::{Batch, BatchFile},
    exec::{Integers, Prepared},
    fit::{Fits, Fitted},
    float::FloatModel,
    graph::{Graph, Node, Op, ValueId, lower},
    memory::{MemoryBudget, Reservation},
    model::{InputSpec, Model, without_linear},
    observe::ObserverKind,
    place,
    plan::{Calibration, Plan, Request, ScaleSource, Slot},
};

/// A job's model, ready.
pub(crate) struct Session {
    pub(crate) job: Arc<JobInput>,
    pub(crate) float: Arc<FloatModel>,
    /// The canonical form, whose large constants the graph and the float engine share.
    pub(super) model: Arc<Model>,
    pub(crate) graph: Graph,
    pub(crate) request: Request,
    /// What of the weights is not measured, in layer mode.
    left_out: Arc<Vec<Notice>>,
    /// What a batch must hold.
    inputs: Arc<Vec<InputSpec>>,
    /// Which of it masks, and may be infinite.
    masks: BTreeSet<String>,
    /// Linears that read each value, moves aside, and MatMuls that may read it as int8.
    pub(super) gemm_inputs: BTreeSet<usize>,
    /// Observers that were asked for by name for the inputs of Linears, by the value they are of.
    pub(super) input_observers: BTreeMap<usize, Vec<ObserverKind>>,
    /// Elements of the batch that the graph's shapes are of.
    pub(super) probe_elements: usize,
    /// Names of all values that are tensors in a float run.
    tensors: Arc<HashSet<String>>,
    /// How far float runs got that later ones may begin behind.
    checkpoints: Arc<Checkpoints>,
    /// The last plan that was made ready to run, by the digest of its blob.
    prepared: Mutex<Option<(String, Arc<Prepared>)>>,
    /// Values from here on are of remedies; those before were observed with the model as it is.
    new_values: usize,
    /// The same model with other nodes, as mending needed it last.
    pub(super) variants: Variants,
    /// This session's share of the worker's memory.
    held: Arc<Reservation>,
}

impl Session {
    /// Loads the job's model; a large one takes long enough to be cancelled. `evict` makes room where
    /// there is none for it.
    ///
    /// The file's own bytes are dropped once the model is lowered: weights are held by the graph and,
    /// as a copy of its own, by rten.
    pub(super) fn open(
        job: &JobInput,
        blobs: &dyn Blobs,
        memory: &Arc<MemoryBudget>,
        control: &dyn Control,
        evict: impl Fn(),
    ) -> Result<Session> {
        let layer_mode = matches!(job.model, ModelInput::Layers { .. });
        let what = format!("loading {}", job.model.name());
        place::at(&what);
        let held = memory.resident(&what, footprint::session(job), &evict)?;
        let model = load_model(job, blobs, control)?;
        go_on(control)?;
        // As many threads as parallel sections have: tasks take turns on them.
        let float = Arc::new(FloatModel::load(&model, rayon::current_num_threads())?);
        go_on(control)?;
        let first = probe_file(job, blobs, model.inputs())?;
        let (graph, tensors, probe_elements) = {
            // Which inputs are masks is known of the graph only.
            let any = || model.inputs().iter().map(|input| input.name.clone());
            let open = || open_batches(first, blobs, model.inputs(), &job.limits);
            let mut batches = open()?.with_masks(any().collect());
            let what = format!("a float run of {}", first.name);
            let run = |bytes| {
                if !memory.could_hold(bytes) {
                    evict();
                }
                memory.running(&what, bytes, || control.cancelled())
            };
            let reading = batches.reading_bytes();
            let mut held = run(reading)?;
            let mut batch = batches.read(0)?;
            if memory.limit().is_some() {
                let probing = footprint::probe(float.probe_bytes(&batch)?);
                if !held.grow(probing) {
                    // Whoever waits holds nothing that another may wait for.
                    drop((batch, batches, held));
                    held = run(reading.saturating_add(probing))?;
                    batches = open()?.with_masks(any().collect());
                    batch = batches.read(0)?;
                }
            }
            go_on(control)?;
            let probed = float.probe(&batch)?;
            let graph = lower(&model, &probed)?;
            let tensors = probed.into_keys().collect();
            let elements = batches.elements();
            if batch.values().any(is_infinite) {
                batches.with_masks(masks(&graph)).read(0)?;
            }
            drop(held);
            (graph, tensors, elements)
        };
        if graph.linears().next().is_none() {
            return Err(Error::Model {
                file: model.file().to_owned(),
                reason: no_linear(&model, &graph),
            });
        }
        no_row(&graph, &first.name)?;
        let request = Request::resolve(&graph, &job.settings, layer_mode)?;
        let inputs = model.inputs().to_vec();
        Ok(Session {
            job: Arc::new(job.clone()),
            float,
            model: Arc::new(model),
            left_out: Arc::new(left_out::notices(job, blobs)?),
            inputs: Arc::new(inputs),
            masks: masks(&graph),
            gemm_inputs: gemm_inputs(&graph),
            input_observers: input_observers(&graph, &request),
            probe_elements,
            tensors: Arc::new(tensors),
            checkpoints: Arc::default(),
            prepared: Mutex::default(),
            new_values: 0,
            variants: Variants::default(),
            held: Arc::new(held),
            graph,
            request,
        })
    }

    /// The same job with another graph of its model.
    pub(super) fn with_graph(&self, graph: Graph) -> Result<Session> {
        let layer_mode = matches!(self.job.model, ModelInput::Layers { .. });
        let request = Request::resolve(&graph, &self.job.settings, layer_mode)?;
        Ok(Session {
            job: Arc::clone(&self.job),
            float: Arc::clone(&self.float),
            model: Arc::clone(&self.model),
            left_out: Arc::clone(&self.left_out),
            inputs: Arc::clone(&self.inputs),
            masks: masks(&graph),
            gemm_inputs: gemm_inputs(&graph),
            input_observers: input_observers(&graph, &request),
            probe_elements: self.probe_elements,
            tensors: Arc::clone(&self.tensors),
            checkpoints: Arc::clone(&self.checkpoints),
            prepared: Mutex::default(),
            new_values: self.graph.values.len(),
            variants: Variants::default(),
            held: Arc::clone(&self.held),
            graph,
            request,
        })
    }

    /// The plan of a blob, ready to run. Tasks that need it wait for the first of them to make it.
    pub(super) fn prepared(
        &self,
        digest: &str,
        plan: &Plan,
        blobs: &dyn Blobs,
    ) -> Result<Arc<Prepared>> {
        let mut slot = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, prepared)) = &*slot
            && of == digest
        {
            return Ok(Arc::clone(prepared));
        }
        let all: Vec<usize> = plan.linears.keys().copied().collect();
        let fits = fits(&self.graph, plan, &all, blobs)?;
        let prepared = Prepared::new(&self.graph, plan, &fits, &self.job.settings)?;
        let prepared = Arc::new(prepared);
        *slot = Some((digest.to_owned(), Arc::clone(&prepared)));
        Ok(prepared)
    }

    /// Drops the plan that was made ready: whoever needs it still makes it again.
    pub(super) fn drop_prepared(&self) {
        *self.prepared.lock().unwrap_or_else(PoisonError::into_inner) = None;
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
        let batches = self.batches(file, blobs)?;
        let constant = |key: &&String| self.model.is_given_a_value(key);
        match batches.ignored_keys().iter().find(constant) {
            None => Ok(()),
            Some(key) => Err(Error::Batch {
                file: file.name.clone(),
                reason: format!(
                    "tensor '{key}': the model has the values of this input, as an initializer, and they are what \
                     is quantized; leave it out of the batch, or the initializer out of the model"
                ),
            }),
        }
    }

    /// A file of batches, its headers checked.
    pub(super) fn batches(&self, file: &FileRef, blobs: &dyn Blobs) -> Result<BatchFile> {
        let batches = open_batches(file, blobs, &self.inputs, &self.job.limits)?;
        Ok(batches.with_masks(self.masks.clone()))
    }

    /// The file that a task is of, its headers checked.
    pub(super) fn file(
        &self,
        files: &[FileRef],
        index: usize,
        blobs: &dyn Blobs,
    ) -> Result<BatchFile> {
        let file = files.get(index).ok_or_else(|| Error::Payload {
            what: "task",
            reason: format!("the job has no file {index}"),
        })?;
        self.batches(file, blobs)
    }

    /// Runs `each` for every batch of a file, in order. The name says which batch it is. Whoever
    /// calls it holds a share for [`BatchFile::reading_bytes`], and `each` waits for no other.
    pub(super) fn for_each_batch(
        &self,
        batches: &mut BatchFile,
        context: &Context<'_>,
        mut each: impl FnMut(&str, &Batch) -> Result<()>,
    ) -> Result<()> {
        let several = batches.count() > 1;
        for number in 0..batches.count() {
            go_on(context.control)?;
            let batch = batches.read(number)?;
            match several {
                true => each(&format!("{} batch {number}", batches.name()), &batch)?,
                false => each(batches.name(), &batch)?,
            }
        }
        Ok(())
    }

    /// Whether the graph is the model's with remedies.
    pub(super) fn has_remedies(&self) -> bool {
        self.new_values > 0
    }

    /// Whether a value is to be observed.
    pub(super) fn is_new(&self, id: ValueId) -> bool {
        id.0 >= self.new_values
    }

    /// Whose integers follow from activations in a quantized run.
    pub(super) fn integers(&self) -> Integers {
        match self.job.settings.freeze_integers {
            true => Integers::Frozen,
            false => Integers::Computed,
        }
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

    /// What is known to be worth telling before any data is seen.
    pub(super) fn notices(&self) -> Vec<Notice> {
        let islands = self.graph.running().filter_map(|(_, node)| match &node.op {
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
        let left_out = self.graph.left_out.iter().map(|left_out| Notice {
            warning: true,
            code: "NOT_A_LINEAR".to_owned(),
            subject: left_out.name.clone(),
            message: format!("it is not quantized as a Linear: {}", left_out.reason),
        });
        self.request
            .notices
            .iter()
            .cloned()
            .chain(self.left_out.iter().cloned())
            .chain(islands)
            .chain(left_out)
            .chain(self.frozen())
            .collect()
    }

    /// Says whose integers a quantized run has, where there are any that follow from activations.
    fn frozen(&self) -> Option<Notice> {
        let nodes = self.graph.running().map(|(_, node)| node);
        let asked = nodes.filter(|node| !self.graph.answered_in_float(node));
        let exact: Vec<&str> = asked
            .flat_map(|node| &node.outputs)
            .map(|id| self.graph.value(*id))
            .filter(|value| !value.kind.is_float())
            .map(|value| value.name.as_str())
            .collect();
        let first = exact.first()?;
        let count = exact.len();
        let whose = match self.integers() {
            Integers::Computed => "are computed from the quantized values",
            Integers::Frozen => "are the float run's (freeze_integers)",
        };
        Some(Notice {
            warning: false,
            code: "INTEGERS".to_owned(),
            subject: (*first).to_owned(),
            message: format!(
                "{count} tensors of integers or booleans follow from activations and {whose}"
            ),
        })
    }

    /// Multiply-accumulates of every Linear over one batch of the probe's shape, by node index.
    pub(super) fn macs(&self) -> BTreeMap<usize, u64> {
        let linears = self.graph.linears();
        linears
            .map(|(id, node, _)| (id.0, self.graph.macs(node)))
            .collect()
    }
}

/// The fitted integers that a plan of a graph names, of some of its Linears, as they run there.
pub(super) fn fits(
    graph: &Graph,
    plan: &Plan,
    linears: &[usize],
    blobs: &dyn Blobs,
) -> Result<Fits> {
    let named = linears.iter().filter_map(|id| {
        let fit = plan.linears.get(id)?.params.fit.as_ref()?;
        Some((*id, fit))
    });
    let loaded = named.map(|(id, fit)| {
        let fitted: Fitted = load("fitted integers", &fit.blob, blobs)?;
        let divided = match graph.nodes.get(id).map(|node| &node.op) {
            Some(Op::Linear(linear)) => linear.divided.as_deref(),
            _ => None,
        };
        let fitted = match divided {
            Some(factors) => fitted.divided(factors),
            None => fitted,
        };
        Ok((id, fitted))
    });
    loaded.collect()
}

/// Why there is nothing to quantize: what each product with a constant is instead, where there are
/// any.
fn no_linear(model: &Model, graph: &Graph) -> String {
    match graph.left_out.as_slice() {
        [] => without_linear(model.nodes()),
        [first, ..] => format!(
            "it has no Linear layer (a MatMul or Gemm with a constant weight): '{}' is none, for {}",
            first.name, first.reason
        ),
    }
}

/// Refuses a probe in which no Linear has a row to work on: no batch has more.
fn no_row(graph: &Graph, file: &str) -> Result<()> {
    let shape = |node: &Node| graph.value(node.inputs[0]).shape.clone();
    let mut linears = graph.linears().map(|(_, node, _)| node);
    match linears.find(|node| !shape(node).contains(&0)) {
        Some(_) => Ok(()),
        None => {
            let told = graph
                .linears()
                .next()
                .map(|(_, node, _)| format!("; of '{}' it has shape {:?}", node.name, shape(node)));
            Err(Error::Batch {
                file: file.to_owned(),
                reason: format!(
                    "every batch is empty: in the largest, this, the input of each Linear has no \
                     element{}; give at least one batch without a dimension of 0",
                    told.unwrap_or_default()
                ),
            })
        }
    }
}

/// Origins of everything a product reads: their scales may be needed in either dtype.
fn gemm_inputs(graph: &Graph) -> BTreeSet<usize> {
    let gemm = |op: &Op| matches!(op, Op::Linear(_) | Op::MatMul | Op::Dot { .. });
    let inputs = graph
        .running()
        .filter(|(_, node)| gemm(&node.op))
        .flat_map(|(_, node)| &node.inputs);
    inputs.map(|&id| graph.origin(id).0).collect()
}

fn input_observers(graph: &Graph, request: &Request) -> BTreeMap<usize, Vec<ObserverKind>> {
    let mut observers: BTreeMap<usize, Vec<ObserverKind>> = BTreeMap::new();
    for (id, node, _) in graph.linears() {
        if let Some(observer) = request.slot(id.0, Slot::Input).observer {
            let from = graph.origin(node.inputs[0]);
            observers.entry(from.0).or_default().push(observer);
        }
    }
    observers
}
