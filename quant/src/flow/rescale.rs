//! Stage rescale: a plan from what another job observed, with the remedies and the fits that it had. Nothing
//! is run, so ways are as they are asked for and nothing has figures.

use super::{
    Blobs, Context, Event, Notice,
    asked::Asked,
    payload::store,
    session::Session,
    stage::{Parts, Stage, no_maps},
    trouble,
};
use crate::{
    Error, Result,
    artifact::statistics_bin::{self, KeptFit, Observed},
    fit::way_name,
    job::JobKind,
    measured::{Measured, Offer, PairedSums, Planned, Sums},
    plan::{Change, Mended, Plan},
    report::LayerMeasured,
    settings::{OperatorChoice, WayChoice},
    ways::RunCounts,
};

/// Why nothing has figures.
const NOT_RUN: &str = "rescaled from statistics, no batch was run";

/// A plan from what another job observed.
pub(super) struct Rescale;

impl Stage for Rescale {
    const NAME: &'static str = "rescale";
    type Map = ();
    type Part = ();
    type Given = ();
    /// Blob of the [`Measured`].
    type Done = String;

    fn map(_: &Session, (): (), _: &Context<'_>, _: &mut Vec<Event>) -> Result<()> {
        Err(no_maps(Self::NAME))
    }

    fn reduce(
        session: &Session,
        (): (),
        _parts: Parts<'_, Self>,
        blobs: &dyn Blobs,
        told: &mut Vec<Event>,
    ) -> Result<String> {
        let JobKind::Rescale { statistics } = &session.job.kind else {
            return Err(Error::Payload {
                what: Self::NAME,
                reason: "the job has no statistics".to_owned(),
            });
        };
        let io = |source| Error::Io {
            what: statistics.name.clone(),
            source,
        };
        let path = blobs.path(&statistics.digest).map_err(io)?;
        let bytes = std::fs::read(path).map_err(io)?;
        let observed = statistics_bin::read(&session.job, &statistics.name, &bytes)?;
        let mut planned = Planned {
            plan: Plan::default(),
            layers: layers(session, &observed)?,
            notices: session.notices(),
            found: Vec::new(),
            calibration: String::new(),
            mended: None,
            steps: Vec::new(),
            refused: Vec::new(),
            offers: Vec::new(),
            in_the_way: Vec::new(),
        };
        for kept in observed.fits {
            let mut fitted = kept.fitted;
            fitted.fit.blob = store("fitted integers", &kept.integers, blobs)?;
            planned.offers.push(Offer {
                linear: kept.linear,
                way: kept.way,
                fitted,
            });
        }
        let plain = store("calibration", &observed.plain, blobs)?;
        let mut calibration = observed.plain;
        planned.calibration = plain.clone();
        let places = session.places(&plain, blobs)?;
        let asked = Asked::of(&session.request, &session.graph, &places);
        planned.notices.extend(asked.notices());
        if observed.mended.is_none()
            && let Some(asked) = session
                .request
                .operators
                .iter()
                .find(|asked| asked.choice != OperatorChoice::Plain)
        {
            return Err(Error::Setting {
                setting: format!("operator {}={}", asked.name, asked.choice),
                reason: "the job observed no remedies, for its outputs needed none and none was asked for; \
                         quantize again"
                    .to_owned(),
            });
        }
        if let Some(mended) = observed.mended {
            if session.place_names(&plain, blobs)? != mended.places {
                return Err(Error::Setting {
                    setting: "toolchain".to_owned(),
                    reason: "the job's remedies are for another one: with this one other operators take their \
                             place; quantize again with it"
                        .to_owned(),
                });
            }
            calibration = mended.calibration;
            planned.calibration = store("calibration", &calibration, blobs)?;
            let mut changes = still_asked(session, &planned, mended.changes);
            changes.retain(|change| !asked.rules(*change, &places));
            changes.extend(asked.changes());
            planned.mended = Some(Mended { plain, changes });
        }
        let plain = session;
        let variant = session.of_plan(&planned, blobs)?;
        let session = variant.as_deref().unwrap_or(plain);
        let source = session.scale_source(&calibration);
        let (plan, found) = Plan::build(&source, &planned.chosen())?;
        let mut notices = trouble::of_plan(&session.graph, &calibration, &plan, found);
        notices.push(Notice {
            warning: false,
            code: "NOT_MEASURED".to_owned(),
            subject: session.job.model.name().to_owned(),
            message: format!(
                "{NOT_RUN}; `dual16 quantize` with these settings measures the result"
            ),
        });
        told.extend(notices.iter().cloned().map(Event::Notice));
        planned.notices.extend(notices);
        planned.plan = plan;
        let linears = planned.layers.iter();
        let measured = Measured {
            linears: linears
                .map(|(id, _)| (*id, not_run(), RunCounts::default()))
                .collect(),
            outputs: vec![not_run(); session.graph.outputs.len()],
            operators: Vec::new(),
            saved: Vec::new(),
            planned,
        };
        store("measurements", &measured, blobs)
    }
}

/// No figures of either run.
fn not_run<S: Sums + Default>() -> PairedSums<S> {
    let mut none = PairedSums::default();
    for converted in [false, true] {
        none.fail(converted, NOT_RUN);
    }
    none
}

/// Each Linear as its settings have it, which name the fit that it had in the job.
fn layers(session: &Session, observed: &Observed) -> Result<Vec<(usize, LayerMeasured)>> {
    let layers = session.graph.linears().filter_map(|(id, node, _)| {
        let request = session.request.linears.get(&id.0)?;
        let kept = |kept: &KeptFit| {
            (kept.linear, kept.way, Some(kept.fitted.fit.fit)) == (id.0, request.start, request.fit)
        };
        let is_known = request.fit.is_none() || observed.fits.iter().any(kept);
        if request.requested == WayChoice::Auto || !is_known {
            return Some(Err(Error::Setting {
                setting: format!(
                    "linear {}={}",
                    node.name,
                    match request.requested {
                        WayChoice::Auto => "auto".to_owned(),
                        _ => way_name(request.start, request.fit),
                    }
                ),
                reason: "ways are chosen and weights fitted by running batches; name a plain way or the fit \
                         that it had, or quantize again"
                    .to_owned(),
            }));
        }
        let layer = LayerMeasured {
            layer: node.name.clone(),
            op: "Linear".to_owned(),
            requested: request.requested.to_string(),
            effective: request.start,
            fit: request.fit,
            reason: request.reason.clone(),
            ways: Vec::new(),
        };
        Some(Ok((id.0, layer)))
    });
    layers.collect()
}

/// The changes that settings do not contradict: of a Linear that runs as it did, of a value whose dtype is not
/// given.
fn still_asked(session: &Session, planned: &Planned, changes: Vec<Change>) -> Vec<Change> {
    let runs = |of: usize, way, fit| {
        let layer = planned.layers.iter().find(|(id, _)| *id == of);
        layer.is_some_and(|(_, layer)| (layer.effective, layer.fit) == (way, fit))
    };
    let asked = |change: &Change| match *change {
        Change::Way { linear, way, fit } => runs(linear, way, fit),
        Change::Int16(value) => {
            let request = session.request.values.get(value);
            !request.is_some_and(|request| request.explicit)
        }
        Change::Remedy(_) | Change::Division(_) => true,
    };
    changes.into_iter().filter(asked).collect()
}
