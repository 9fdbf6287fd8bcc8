//! Stage rescale: a plan from what another job observed. Nothing is run, so ways are as they are asked for
//! and nothing has figures.

use super::{
    Blobs, Context, Event, Notice,
    payload::store,
    session::Session,
    stage::{Parts, Stage, no_maps},
    trouble,
};
use crate::{
    Error, Result,
    artifact::statistics_bin,
    job::JobKind,
    measured::{Measured, PairedSums, Planned},
    plan::Plan,
    report::LayerMeasured,
    settings::WayChoice,
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
        let calibration = statistics_bin::read(&session.job, &statistics.name, &bytes)?;
        let layers = session.graph.linears().filter_map(|(id, node, _)| {
            let request = session.request.linears.get(&id.0)?;
            if request.requested == WayChoice::Auto || request.fit.is_some() {
                return Some(Err(Error::Setting {
                    setting: format!("linear {}={}", node.name, request.requested),
                    reason: "ways are chosen and weights fitted by running batches; name a plain way, or \
                             quantize again"
                        .to_owned(),
                }));
            }
            let layer = LayerMeasured {
                layer: node.name.clone(),
                op: "Linear".to_owned(),
                requested: request.requested.to_string(),
                effective: request.start,
                fit: None,
                reason: request.reason.clone(),
                ways: Vec::new(),
            };
            Some(Ok((id.0, layer)))
        });
        let mut planned = Planned {
            plan: Plan::default(),
            layers: layers.collect::<Result<_>>()?,
            notices: session.notices(),
            found: Vec::new(),
            calibration: store("calibration", &calibration, blobs)?,
            mended: None,
            steps: Vec::new(),
            offers: Vec::new(),
            in_the_way: Vec::new(),
        };
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
        let mut none = PairedSums::default();
        for converted in [false, true] {
            none.fail(converted, NOT_RUN);
        }
        let linears = planned.layers.iter();
        let measured = Measured {
            linears: linears
                .map(|(id, _)| (*id, none.clone(), RunCounts::default()))
                .collect(),
            outputs: vec![none.clone(); session.graph.outputs.len()],
            operators: Vec::new(),
            saved: Vec::new(),
            planned,
        };
        store("measurements", &measured, blobs)
    }
}
