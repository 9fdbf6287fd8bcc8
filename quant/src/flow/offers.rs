//! Stage fit: what a search may take for a Linear that runs an int8 weight, besides other ways: its
//! integers fitted to its inputs, at the multiply-accumulates of the plain way or few more. Only those are
//! fitted whose turn it is, for most Linears of most models cost the outputs too little. Calibration alone is
//! looked at; what is taken is measured with the model.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    Blobs, Context, Event, QueuedStage, evaluate,
    fits::{self, Tried},
    footprint,
    mend::Begin,
    payload::{load, store},
    session::Session,
    stage::{Parts, Stage},
};
use crate::{
    Result,
    fit::{Fit, Fitted},
    graph::{NodeId, ValueId},
    measured::{Offer, Planned},
    plan::Calibration,
    report::LayerMeasured,
};

/// Tasks that the layers are cut into, at most: each runs the float model over every calibration batch
/// twice, which costs more than fitting a few layers does.
const TASKS: usize = 4;
/// Width of the branch that is offered.
const RANK: u16 = 8;

/// Fits on the way to a search.
pub(super) struct OfferFits;

/// Some Linears.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Linears {
    /// Node indices.
    linears: Vec<usize>,
    /// Blob of the calibration of the model as it is.
    plain: String,
    /// Blob of the [`Planned`] that a search starts from.
    planned: String,
}

impl OfferFits {
    /// A few groups of these layers.
    pub(super) fn start(session: &Session, begin: &Begin, wanted: &[usize]) -> Result<QueuedStage> {
        let groups = evaluate::groups(session).into_iter().map(|mut group| {
            group.retain(|id| wanted.contains(id));
            group
        });
        let groups: Vec<Vec<usize>> = groups.filter(|group| !group.is_empty()).collect();
        let size = groups.len().div_ceil(TASKS).max(1);
        let groups = groups.chunks(size).map(<[Vec<usize>]>::concat);
        let map = |linears| Linears {
            linears,
            plain: begin.plain.clone(),
            planned: begin.planned.clone(),
        };
        Self::queued(groups.map(map), begin)
    }
}

/// Whether there are fits that a search may want of a Linear.
pub(super) fn is_tried(session: &Session, planned: &Planned, id: usize) -> bool {
    let layer = planned.layers.iter().find(|(of, _)| *of == id);
    layer.is_some_and(|(_, layer)| !tried(session, id, layer).is_empty())
}

/// Some Linears and those that read one value with them, of which there are fits: they are equalized together.
pub(super) fn with_readers(session: &Session, planned: &Planned, linears: &[usize]) -> Vec<usize> {
    let input = |id: usize| session.graph.node(NodeId(id)).inputs[0];
    let read: BTreeSet<ValueId> = linears.iter().map(|&id| input(id)).collect();
    let all = session.graph.linears().map(|(id, ..)| id.0);
    all.filter(|&id| read.contains(&input(id)) && is_tried(session, planned, id))
        .collect()
}

impl Stage for OfferFits {
    const NAME: &'static str = "fit";
    type Map = Linears;
    type Part = Vec<Offer>;
    type Given = Begin;
    /// The search, with what it may take.
    type Done = Begin;

    fn map(
        session: &Session,
        linears: Linears,
        context: &Context<'_>,
        _told: &mut Vec<Event>,
    ) -> Result<Vec<Offer>> {
        self::map(session, linears, context)
    }

    fn reduce(
        _session: &Session,
        begin: Begin,
        parts: Parts<'_, Self>,
        blobs: &dyn Blobs,
        _told: &mut Vec<Event>,
    ) -> Result<Begin> {
        self::reduce(begin, parts, blobs)
    }
}

/// Fits that a search may want of a Linear: of one that runs an int8 weight as it is, and not by name.
fn tried(session: &Session, id: usize, layer: &LayerMeasured) -> Vec<Fit> {
    let explicit = session
        .request
        .linears
        .get(&id)
        .is_none_or(|request| request.explicit);
    let has_fits = layer
        .ways
        .iter()
        .any(|way| way.fitted.is_some() && way.way == layer.effective);
    if explicit || has_fits || layer.fit.is_some() {
        return Vec::new();
    }
    let gptq = Fit {
        gptq: true,
        ..Fit::default()
    };
    let of = |equalize| {
        [0, RANK].map(|rank| Fit {
            rank,
            equalize,
            ..gptq
        })
    };
    let fits = [false, true].into_iter().flat_map(of);
    fits.filter(|fit| fit.fits(layer.effective).is_ok())
        .collect()
}

/// Fits a group of layers.
fn map(
    session: &Session,
    Linears {
        linears,
        plain,
        planned,
    }: Linears,
    context: &Context<'_>,
) -> Result<Vec<Offer>> {
    let calibration: Calibration = load("calibration", &plain, context.blobs)?;
    let planned: Planned = load("plan", &planned, context.blobs)?;
    let source = session.scale_source(&calibration);
    let all = planned.layers.iter().filter(|(id, _)| linears.contains(id));
    let all: Tried = all
        .map(|(id, layer)| (*id, vec![(layer.effective, tried(session, *id, layer))]))
        .collect();
    let files = &session.job.calibration;
    let batch = footprint::largest_batch(session, files, context.blobs)?;
    let mut offers: Vec<Offer> = Vec::new();
    fits::in_parts(session, context, &all, &batch, |part| {
        let names = part
            .keys()
            .map(|&id| session.graph.node(NodeId(id)).name.as_str());
        let what = format!("fitting {}", names.collect::<Vec<_>>().join(", "));
        let _held = context.reserve(session, &what, session.fit_bytes(part, &batch))?;
        let fits = fits::fit(&source, session, context, part)?;
        for (linear, accepted) in fits.accepted {
            offers.extend(accepted.into_iter().map(|(way, fitted)| Offer {
                linear,
                way,
                fitted: fitted.told.clone(),
            }));
        }
        Ok(())
    })?;
    Ok(offers)
}

/// Gathers the offers, and the inputs that they equalize for the observation of the remedies.
fn reduce(mut begin: Begin, parts: Parts<'_, OfferFits>, blobs: &dyn Blobs) -> Result<Begin> {
    let mut planned: Planned = load("plan", &begin.planned, blobs)?;
    let mut calibration: Calibration = load("calibration", &begin.plain, blobs)?;
    let mut offers: Vec<Offer> = Vec::new();
    for new in parts {
        offers.extend(new?);
    }
    // Those of one weight were fitted with the first of them.
    offers.sort_by_key(|offer| offer.linear);
    for offer in &offers {
        let known = |(of, _): &(usize, Vec<f64>)| *of == offer.linear;
        if !offer.fitted.fit.fit.equalize || calibration.columns.iter().any(known) {
            continue;
        }
        let fitted: Fitted = load("fitted integers", &offer.fitted.fit.blob, blobs)?;
        let columns = fitted.columns.map(|columns| (offer.linear, columns));
        calibration.columns.extend(columns);
    }
    planned.offers.extend(offers);
    begin.planned = store("plan", &planned, blobs)?;
    begin.plain = store("calibration", &calibration, blobs)?;
    Ok(begin)
}
