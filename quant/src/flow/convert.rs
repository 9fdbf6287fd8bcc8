//! Stage convert: the integer weights of every layer, and beside them what is for the toolchain; the reduce
//! writes the job's other files.

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
    measured::{Measured, Planned},
    plan::{Calibration, Plan, shared},
    ways::{Integers, QuantizedLinear},
};

/// The folder of what is for the toolchain.
const FOLDER: &str = "handoff/";

/// The integer weights of every layer, and the job's files.
pub(super) struct Convert;

/// Something of a plan that was measured.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Piece {
    of: PieceOf,
    /// Blob of the [`Measured`].
    measured: String,
}

#[derive(Debug, Serialize, Deserialize)]
enum PieceOf {
    /// The folder of what is for the toolchain: all weights once more, in floats.
    Handoff,
    /// Linears by node index, in execution order.
    Linears(Vec<usize>),
}

/// What a piece has become.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Converted {
    Handoff(Vec<FileRef>),
    Linears {
        /// Blob of a safetensors file.
        weights: String,
        /// Layers whose weight is written under the name of another, and that name.
        aliases: BTreeMap<String, String>,
    },
}

impl Convert {
    /// The folder for the toolchain first, which takes longest, and the same groups of layers as in evaluate.
    pub(super) fn start(session: &Session, measured: &str) -> Result<QueuedStage> {
        let groups = evaluate::groups(session).into_iter();
        let pieces = [PieceOf::Handoff]
            .into_iter()
            .chain(groups.map(PieceOf::Linears));
        let map = |of| Piece {
            of,
            measured: measured.to_owned(),
        };
        Self::queued(pieces.map(map), &measured.to_owned())
    }

    /// Tasks of the stage.
    pub(super) fn tasks(groups: usize) -> usize {
        // The folder, and the reduce.
        groups + 2
    }
}

impl Stage for Convert {
    const NAME: &'static str = "convert";
    type Map = Piece;
    type Part = Converted;
    /// Blob of the [`Measured`].
    type Given = String;
    /// The job's files.
    type Done = Vec<FileRef>;

    fn peak(session: &Session, map: &Piece, context: &Context<'_>) -> Result<Option<Peak>> {
        let PieceOf::Linears(linears) = &map.of else {
            // A tensor at a time.
            return Ok(None);
        };
        let blobs = context.blobs;
        let Measured { planned, .. } = load("measurements", &map.measured, blobs)?;
        let variant = session.of_plan(&planned, blobs)?;
        let session = variant.as_deref().unwrap_or(session);
        Ok(Some(Peak {
            what: "converting layers".to_owned(),
            bytes: session.convert_bytes(linears, &planned.plan),
        }))
    }

    fn map(
        session: &Session,
        Piece { of, measured }: Piece,
        context: &Context<'_>,
        _told: &mut Vec<Event>,
    ) -> Result<Converted> {
        let blobs = context.blobs;
        let Measured { planned, .. } = load("measurements", &measured, blobs)?;
        let variant = session.of_plan(&planned, blobs)?;
        let of_plan = variant.as_deref().unwrap_or(session);
        // The plan has run; its integers, made ready, would lie beside those that are made here.
        of_plan.drop_prepared();
        match of {
            PieceOf::Handoff => {
                handed_back(session, of_plan, &planned.plan, blobs).map(Converted::Handoff)
            }
            PieceOf::Linears(linears) => integers(of_plan, &planned, linears, blobs),
        }
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
fn integers(
    session: &Session,
    planned: &Planned,
    linears: Vec<usize>,
    blobs: &dyn Blobs,
) -> Result<Converted> {
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
    Ok(Converted::Linears {
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
    let mut handoff = Vec::new();
    for part in converted {
        match part? {
            Converted::Handoff(files) => handoff.extend(files),
            Converted::Linears {
                weights,
                aliases: of_group,
            } => {
                parts.push(weights);
                aliases.extend(of_group);
            }
        }
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
    files.written.extend(handoff);
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

/// What the toolchain takes, in a folder of its own.
fn handed_back(
    plain: &Session,
    session: &Session,
    plan: &Plan,
    blobs: &dyn Blobs,
) -> Result<Vec<FileRef>> {
    let mut files = Files {
        blobs,
        written: Vec::new(),
    };
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
    })?;
    Ok(files.written)
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
