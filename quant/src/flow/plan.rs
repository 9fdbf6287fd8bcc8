//! Stage plan: the model is loaded, the request bound to its names, every batch file checked, and
//! what cannot run said, before any work is queued. Of some jobs it is all that is done.

use std::{collections::BTreeMap, sync::Arc};

use dual16_nash::legality::Rules;
use serde::Serialize;

use super::{
    Blobs, Context, Event, FileRef, Notice, asked,
    convert::{Convert, Files},
    evaluate, float_share,
    session::Session,
    stage::{Parts, Stage, no_maps},
    targets::Targets,
};
use crate::{
    Result,
    artifact::{
        cost_json::{CostJson, EstimateJson},
        plan_json::RequestJson,
    },
    cost::PlanCost,
    error::{KernelContext, json_error},
    flow::ModelInput,
    graph::Op,
    plan::{Calibration, Chosen, Plan},
};

/// Everything that can be known before any batch is run.
pub(super) struct Check;

impl Stage for Check {
    const NAME: &'static str = "plan";
    type Map = ();
    type Part = ();
    type Given = ();
    type Done = ();

    fn map(_: &Session, (): (), _: &Context<'_>, _: &mut Vec<Event>) -> Result<()> {
        Err(no_maps(Self::NAME))
    }

    fn reduce(
        session: &Session,
        (): (),
        _parts: Parts<'_, Self>,
        blobs: &dyn Blobs,
        told: &mut Vec<Event>,
    ) -> Result<()> {
        let job = &session.job;
        for file in job.calibration.iter().chain(&job.evaluation) {
            session.check_file(file, blobs)?;
        }
        Targets::of(session)?;
        asked::check(session)?;
        told.extend(session.notices().into_iter().map(Event::Notice));
        told.extend(float_share::told(session)?.map(Event::Notice));
        Ok(())
    }
}

/// The files of a job that ends here.
pub(super) fn files(session: &Session, blobs: &dyn Blobs) -> Result<Vec<FileRef>> {
    let mut files = Files {
        blobs,
        written: Vec::new(),
    };
    files.put("plan.json", dry_run(session)?.into_bytes())?;
    Ok(files.written)
}

#[derive(Serialize)]
struct DryRun<'a> {
    format: &'static str,
    model: &'a str,
    request: RequestJson,
    layers: Vec<LayerJson<'a>>,
    /// What settings may call each operation of the file, Linears first.
    names: Vec<NamesJson<'a>>,
    /// Tasks of each stage, its reduce included.
    tasks: BTreeMap<&'static str, usize>,
    bytes: BytesJson,
    /// What the ways that the layers start with cost.
    estimate: CostJson<'a>,
    notices: Vec<Notice>,
}

#[derive(Serialize)]
struct LayerJson<'a> {
    name: &'a str,
    op: &'static str,
    shape: [usize; 2],
    /// Multiply-accumulates of one batch.
    macs: u64,
    requested: String,
    /// The way it starts with; it may be replaced once its error is known.
    way: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    legal: Vec<String>,
    /// Way and the rule it breaks.
    illegal: BTreeMap<String, String>,
    /// Of the way it starts with.
    estimate: EstimateJson,
}

#[derive(Serialize)]
struct NamesJson<'a> {
    name: &'a str,
    op: &'a str,
    /// PyTorch module; it is a name of the operation where `is_module`.
    #[serde(skip_serializing_if = "str::is_empty")]
    module: &'a str,
    is_module: bool,
    /// ONNX nodes.
    nodes: &'a [String],
    /// Values those nodes make.
    outputs: &'a [String],
    /// What can run in its stead, by `operator` and its name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    remedies: Vec<&'static str>,
    /// Name by module and running number, where it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    scoped: Option<&'a str>,
}

#[derive(Serialize)]
struct BytesJson {
    model: u64,
    calibration: u64,
    evaluation: u64,
}

fn dry_run(session: &Session) -> Result<String> {
    let settings = &session.job.settings;
    let rules = Rules::of(settings.march, settings.toolchain);
    let legal: Vec<String> = rules.legal_ways().map(|way| way.to_string()).collect();
    let checked = dual16_nash::ways::Way::ALL
        .into_iter()
        .map(|way| (way, rules.check(way)));
    let illegal: BTreeMap<String, String> = checked
        .filter(|(_, legality)| !legality.legal)
        .map(|(way, legality)| (way.to_string(), legality.reason))
        .collect();
    let macs = session.macs();
    let chip = settings.chip().of("plan.json")?;
    let cost = PlanCost::of(&session.graph, &starting_plan(session)?, &chip);
    let layers = session.graph.linears().filter_map(|(id, node, linear)| {
        let request = session.request.linears.get(&id.0)?;
        Some(LayerJson {
            name: &node.name,
            op: "Linear",
            shape: linear.weight.dim().into(),
            macs: macs.get(&id.0).copied().unwrap_or(0),
            requested: request.requested.to_string(),
            way: request.start.to_string(),
            reason: &request.reason,
            legal: legal.clone(),
            illegal: illegal.clone(),
            estimate: EstimateJson::of(&cost.nodes[id.0].estimate),
        })
    });
    let groups = evaluate::groups(session).len();
    let tasks = BTreeMap::from([
        ("plan", 1),
        ("observe", session.job.calibration.len() + 1),
        ("evaluate", groups + 1),
        ("validate", session.measured_files().len() + 1),
        ("convert", Convert::tasks(groups)),
    ]);
    let (model, model_bytes) = match &session.job.model {
        ModelInput::Onnx {
            model,
            external_data,
        } => (
            &model.name,
            model.size + external_data.iter().map(|file| file.size).sum::<u64>(),
        ),
        ModelInput::Layers { weights } => (&weights.name, weights.size),
    };
    let plan = DryRun {
        format: "dual16 dry run 1",
        model,
        request: RequestJson::of(settings),
        layers: layers.collect(),
        names: names(session),
        tasks,
        bytes: BytesJson {
            model: model_bytes,
            calibration: session.job.calibration.iter().map(|file| file.size).sum(),
            evaluation: session.job.evaluation.iter().map(|file| file.size).sum(),
        },
        estimate: CostJson::totals(&cost, &chip),
        notices: session.notices(),
    };
    let mut text = serde_json::to_string_pretty(&plan).map_err(|e| json_error("plan.json", &e))?;
    text.push('\n');
    Ok(text)
}

/// The plan in which every layer runs as it starts, as far as it can be known before any data is seen:
/// dtypes and ways, no scales.
fn starting_plan(session: &Session) -> Result<Plan> {
    let calibration = Calibration::unseen(&session.graph);
    let requests = session.request.linears.iter();
    let chosen = requests.map(|(&id, request)| {
        let chosen = Chosen {
            way: request.start,
            fit: None,
            requested: request.requested.to_string(),
            reason: String::new(),
        };
        (id, chosen)
    });
    let (plan, _) = Plan::build(&session.scale_source(&calibration), &chosen.collect())?;
    Ok(plan)
}

fn names(session: &Session) -> Vec<NamesJson<'_>> {
    let graph = &session.graph;
    let places = asked::supposed(session);
    // The nodes that one operation became follow each other and share its names.
    let nodes: Vec<usize> = (0..graph.nodes.len()).collect();
    let operations = nodes
        .chunk_by(|&a, &b| Arc::ptr_eq(&graph.nodes[a].names, &graph.nodes[b].names))
        .filter_map(|ids| Some((graph.nodes.get(*ids.first()?)?, ids)));
    let (mut linears, others): (Vec<_>, Vec<_>) =
        operations.partition(|(node, _)| matches!(node.op, Op::Linear(_)));
    linears.extend(others);
    linears
        .into_iter()
        .map(|(node, ids)| NamesJson {
            remedies: asked::legal(graph, &places, &ids.iter().copied().collect()),
            name: &node.names.name,
            op: &node.names.op,
            module: &node.names.module,
            is_module: node.names.is_module,
            nodes: &node.names.nodes,
            outputs: &node.names.outputs,
            scoped: node.names.scoped.as_deref(),
        })
        .collect()
}
