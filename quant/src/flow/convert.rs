//! Stage convert: the integer weights of every layer; the reduce writes the job's files.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Blobs, Context, Event, FileRef, QueuedStage, asked, evaluate,
    payload::load,
    session::{Session, fits},
    stage::{Parts, Peak, Stage},
};
use crate::{
    Error, Result,
    artifact::{
        Report, graph_json, outputs, per_layer, plan_json, result_json, statistics,
        statistics_bin::{self, KeptFit, MendedModel, Observed},
        ways, weights,
    },
    graph::{NodeId, Op},
    handoff::{Handoff, Source, TENSORS},
    measured::Measured,
    plan::{Calibration, Plan, shared},
    ways::{Integers, QuantizedLinear},
};

/// The folder of what is for the toolchain.
const FOLDER: &str = "handoff/";

/// The integer weights of every layer, and the job's files.
pub(super) struct Convert;

/// Some Linears.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Linears {
    /// Node indices, in execution order.
    linears: Vec<usize>,
    /// Blob of the [`Measured`].
    measured: String,
}

/// Their integers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Converted {
    /// Blob of a safetensors file.
    weights: String,
    /// Layers whose weight is written under the name of another, and that name.
    aliases: BTreeMap<String, String>,
}

impl Convert {
    /// The same groups of layers as in evaluate.
    pub(super) fn start(session: &Session, measured: &str) -> Result<QueuedStage> {
        let map = |linears| Linears {
            linears,
            measured: measured.to_owned(),
        };
        let groups = evaluate::groups(session);
        Self::queued(groups.into_iter().map(map), &measured.to_owned())
    }
}

impl Stage for Convert {
    const NAME: &'static str = "convert";
    type Map = Linears;
    type Part = Converted;
    /// Blob of the [`Measured`].
    type Given = String;
    /// The job's files.
    type Done = Vec<FileRef>;

    fn peak(session: &Session, map: &Linears, context: &Context<'_>) -> Result<Option<Peak>> {
        let blobs = context.blobs;
        let Measured { planned, .. } = load("measurements", &map.measured, blobs)?;
        let variant = session.of_plan(&planned, blobs)?;
        let session = variant.as_deref().unwrap_or(session);
        Ok(Some(Peak {
            what: "converting layers".to_owned(),
            bytes: session.convert_bytes(&map.linears, &planned.plan),
        }))
    }

    fn map(
        session: &Session,
        map: Linears,
        context: &Context<'_>,
        _told: &mut Vec<Event>,
    ) -> Result<Converted> {
        self::map(session, map, context.blobs)
    }

    fn reduce(
        session: &Session,
        measured: String,
        parts: Parts<'_, Self>,
        blobs: &dyn Blobs,
        _told: &mut Vec<Event>,
    ) -> Result<Vec<FileRef>> {
        self::reduce(session, &measured, parts, blobs)
    }
}

/// Integer weights of a group of layers.
fn map(
    session: &Session,
    Linears { linears, measured }: Linears,
    blobs: &dyn Blobs,
) -> Result<Converted> {
    let Measured { planned, .. } = load("measurements", &measured, blobs)?;
    let variant = session.of_plan(&planned, blobs)?;
    let session = variant.as_deref().unwrap_or(session);
    // The plan has run; its integers, made ready, would lie beside those that are made here.
    session.drop_prepared();
    let owners = shared::owners(&session.graph, &planned.plan);
    let fits = fits(&session.graph, &planned.plan, &linears, blobs)?;
    let mut made: BTreeMap<usize, weights::Layer<'_>> = BTreeMap::new();
    for id in linears {
        let node = session.graph.node(NodeId(id));
        let (Op::Linear(linear), Some(plan)) = (&node.op, planned.plan.linears.get(&id)) else {
            continue;
        };
        let settings = &session.job.settings;
        let same = owners.get(&id).and_then(|owner| made.get(owner));
        let (weight_of, same) = same.map(|same| (same.name, &same.linear)).unzip();
        let (name, way, params) = (&node.name, plan.way, &plan.params);
        let integers = Integers {
            linear,
            fitted: fits.get(&id),
        };
        match QuantizedLinear::beside(name, integers, way, params, settings, same) {
            Ok(linear) => {
                let layer = weights::Layer {
                    name,
                    linear,
                    weight_of,
                };
                made.insert(id, layer);
            }
            // Its runs have failed as well, and its figures say so.
            Err(Error::Kernel { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let bytes = weights::part(made.values())?;
    let weight_of =
        |layer: &weights::Layer<'_>| Some((layer.name.to_owned(), layer.weight_of?.to_owned()));
    let aliases = made.values().filter_map(weight_of).collect();
    let io = |source| Error::Io {
        what: "converted weights".to_owned(),
        source,
    };
    Ok(Converted {
        weights: blobs.put(bytes).map_err(io)?,
        aliases,
    })
}

/// Writes every file of the job.
fn reduce(
    session: &Session,
    measured: &str,
    converted: Parts<'_, Convert>,
    blobs: &dyn Blobs,
) -> Result<Vec<FileRef>> {
    let measured: Measured = load("measurements", measured, blobs)?;
    let calibration: Calibration = load("calibration", &measured.planned.calibration, blobs)?;
    let plain_session = session;
    let variant = session.of_plan(&measured.planned, blobs)?;
    let session = variant.as_deref().unwrap_or(session);
    let report = Report {
        graph: &session.graph,
        job: &session.job,
        output_names: &session.output_names(),
        measured: &measured,
        operators: &asked::operators(plain_session, &measured.planned, blobs)?,
        calibration: &calibration,
    };
    let mut files = Files {
        blobs,
        written: Vec::new(),
    };
    let mut parts = Vec::new();
    let mut aliases = BTreeMap::new();
    for part in converted {
        let part = part?;
        parts.push(part.weights);
        aliases.extend(part.aliases);
    }
    let plan = plan_json::text(&report, &aliases)?;
    files.put_file("converted.safetensors", |path| {
        weights::join(&parts, &plan, blobs, path)
    })?;
    files.put("plan.json", plan.into_bytes())?;
    files.put("result.json", result_json::text(&report)?.into_bytes())?;
    files.put("graph.json", graph_json::text(&report)?.into_bytes())?;
    files.put("per_layer.csv", per_layer::text(&report).into_bytes())?;
    files.put("ways.csv", ways::text(&report).into_bytes())?;
    files.put("statistics.csv", statistics::text(&report).into_bytes())?;
    if session.job.settings.save_outputs {
        files.put_file("outputs.safetensors", |path| {
            outputs::join(&measured.saved, blobs, path)
        })?;
    }
    handed_back(plain_session, session, &measured.planned.plan, &mut files)?;
    let fits = kept_fits(&measured, blobs)?;
    let observed = match &measured.planned.mended {
        Some(mended) => Observed {
            plain: load("calibration", &mended.plain, blobs)?,
            mended: Some(MendedModel {
                places: plain_session.place_names(&mended.plain, blobs)?,
                changes: mended.changes.clone(),
                calibration,
            }),
            fits,
        },
        None => Observed {
            plain: calibration,
            mended: None,
            fits,
        },
    };
    let observed = statistics_bin::bytes(&session.job, &observed)?;
    files.put("statistics.bin", observed)?;
    Ok(files.written)
}

/// Adds what the toolchain takes, in a folder of its own.
fn handed_back(
    plain: &Session,
    session: &Session,
    plan: &Plan,
    files: &mut Files<'_>,
) -> Result<()> {
    let blobs = files.blobs;
    let fitted = |linear: usize| Ok(fits(&session.graph, plan, &[linear], blobs)?.remove(&linear));
    let source = Source {
        model: &plain.model,
        plain: &plain.graph,
        graph: &session.graph,
        plan,
        settings: &session.job.settings,
        file: session.job.model.name(),
        fitted: &fitted,
    };
    let mut handoff = Handoff::of(&source)?;
    for (name, bytes) in std::mem::take(&mut handoff.files) {
        files.put(&format!("{FOLDER}{name}"), bytes)?;
    }
    files.put_file(&format!("{FOLDER}{TENSORS}"), |path| {
        handoff.write_tensors(&source, path)
    })
}

/// The fits that run, with their integers.
fn kept_fits(measured: &Measured, blobs: &dyn Blobs) -> Result<Vec<KeptFit>> {
    let planned = &measured.planned;
    let fitted = planned.layers.iter().filter_map(|(linear, layer)| {
        let fitted = planned.fitted(*linear, layer.effective, layer.fit?)?;
        Some((*linear, layer.effective, fitted.clone()))
    });
    let kept = fitted.map(|(linear, way, mut fitted)| {
        // The integers are in the file; where else they lie is of no use to others.
        let blob = std::mem::take(&mut fitted.fit.blob);
        Ok(KeptFit {
            linear,
            way,
            fitted,
            integers: load("fitted integers", &blob, blobs)?,
        })
    });
    kept.collect()
}

/// The artifacts so far.
pub(super) struct Files<'a> {
    pub(super) blobs: &'a dyn Blobs,
    pub(super) written: Vec<FileRef>,
}

impl Files<'_> {
    /// Adds a small file.
    pub(super) fn put(&mut self, name: &str, bytes: Vec<u8>) -> Result<()> {
        let size = bytes.len() as u64;
        let io = |source| Error::Io {
            what: name.to_owned(),
            source,
        };
        let digest = self.blobs.put(bytes).map_err(io)?;
        self.written.push(FileRef {
            name: name.to_owned(),
            digest,
            size,
        });
        Ok(())
    }

    /// Adds a file that may be large, written to a temporary path first.
    fn put_file(
        &mut self,
        name: &str,
        write: impl FnOnce(&std::path::Path) -> Result<()>,
    ) -> Result<()> {
        let io = |source| Error::Io {
            what: name.to_owned(),
            source,
        };
        let directory = tempfile::tempdir().map_err(io)?;
        let path = directory.path().join("file");
        write(&path)?;
        let size = std::fs::metadata(&path).map_err(io)?.len();
        let digest = self.blobs.put_file(&path).map_err(io)?;
        self.written.push(FileRef {
            name: name.to_owned(),
            digest,
            size,
        });
        Ok(())
    }
}
