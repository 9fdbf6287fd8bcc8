//! Which way a layer gets, once its figures are known. Linears of one weight get one together, by the
//! one of them that it is worst for, so that the weight is there in one form.

use std::collections::BTreeMap;

use dual16_nash::ways::Way;

use super::{LayerMeasured, WayMeasured, session::Session};
use crate::{
    Error, Result,
    graph::NodeId,
    plan::{Candidate, choose, shared},
    settings::WayChoice,
};

/// Why a layer runs the plain way though a fit was asked for and accepted.
const NOT_MEASURED: &str = "the fit that was asked for cannot be set up here";

/// What was measured, by node index.
pub(super) type AllMeasured = BTreeMap<usize, Vec<WayMeasured>>;

/// Linears of one weight that were asked for alike. One that a setting names is asked for otherwise.
fn together(session: &Session) -> BTreeMap<usize, Vec<usize>> {
    let asked = |id: &usize| {
        let request = session.request.linears.get(id);
        request.map(|request| (request.requested, request.explicit))
    };
    let mut together = BTreeMap::new();
    for set in shared::by_weight(&session.graph) {
        for &id in &set {
            let alike = set.iter().filter(|other| asked(other) == asked(&id));
            let alike: Vec<usize> = alike.copied().collect();
            if alike.len() > 1 {
                together.insert(id, alike);
            }
        }
    }
    together
}

/// Chooses among measured ways.
pub(super) struct Choice<'a> {
    session: &'a Session,
    /// Linears that a way is chosen for with others of the same weight, by node index.
    together: BTreeMap<usize, Vec<usize>>,
}

impl<'a> Choice<'a> {
    pub(super) fn of(session: &'a Session) -> Self {
        Choice {
            session,
            together: together(session),
        }
    }

    /// The Linears that a way is chosen by: this one, and those it is chosen together with.
    pub(super) fn deciders(&self, id: usize) -> Vec<usize> {
        self.together.get(&id).cloned().unwrap_or_else(|| vec![id])
    }

    /// Of those a way is chosen by, the one that it is worst for, and its figures.
    fn worst<'m>(
        &self,
        id: usize,
        way: Way,
        measured: &'m AllMeasured,
    ) -> Option<(usize, &'m WayMeasured)> {
        let figures = self.deciders(id).into_iter().filter_map(|id| {
            let ways = measured.get(&id)?;
            let plain = |measured: &&WayMeasured| measured.way == way && measured.fitted.is_none();
            Some((id, ways.iter().find(plain)?))
        });
        figures.min_by(|(_, a), (_, b)| {
            let (a, b) = (a.metrics.sqnr_rank(), b.metrics.sqnr_rank());
            a.total_cmp(&b)
        })
    }

    /// Says who decides where others do as well: " of 'fc2', the worst of 3 with this weight".
    fn of_worst(&self, id: usize, worst: usize) -> String {
        match self.together.get(&id) {
            Some(all) => format!(
                " of '{}', the worst of {} with this weight",
                self.session.graph.node(NodeId(worst)).name,
                all.len()
            ),
            None => String::new(),
        }
    }

    /// The way of a layer, and why. Plain ways are chosen among; a fit is taken where it was asked for
    /// and accepted, and `declined` says why it was not.
    pub(super) fn of_layer(
        &self,
        id: usize,
        measured: &AllMeasured,
        declined: Option<&str>,
    ) -> Result<LayerMeasured> {
        let node = self.session.graph.node(NodeId(id));
        let unknown = || Error::Payload {
            what: "evaluate task",
            reason: format!("node {id} is no Linear of this model"),
        };
        let request = self.session.request.linears.get(&id).ok_or_else(unknown)?;
        let threshold = self.session.job.settings.min_layer_sqnr;
        let ways = measured.get(&id).cloned().unwrap_or_default();
        let start = self.worst(id, request.start, measured);
        let auto = request.requested == WayChoice::Auto;
        let plain = || ways.iter().filter(|way| way.fitted.is_none());
        let replace = auto || plain().count() > 1;
        let candidate = |way: &WayMeasured| {
            let (_, worst) = self.worst(id, way.way, measured)?;
            Some(Candidate {
                way: way.way,
                legal: way.legal,
                sqnr_db: worst.metrics.sqnr_rank(),
                macs: way.macs,
            })
        };
        let candidates: Vec<Candidate> = plain().filter_map(candidate).collect();
        let effective = match replace {
            true => choose(&candidates).unwrap_or(request.start),
            false => request.start,
        };
        let accepted =
            |way: &WayMeasured| way.legal && way.way == effective && way.fit() == request.fit;
        let fit = request.fit.filter(|_| ways.iter().any(accepted));
        let reason = match start {
            _ if request.fit != fit => declined.unwrap_or(NOT_MEASURED).to_owned(),
            _ if !replace => request.reason.clone(),
            _ if auto => {
                let worst = self.worst(id, effective, measured);
                let whose = worst.map(|(worst, _)| self.of_worst(id, worst));
                format!(
                    "{effective} is the best legal way{}",
                    whose.unwrap_or_default()
                )
            }
            Some(_) if effective == request.start => request.reason.clone(),
            Some((worst, start)) => {
                let whose = self.of_worst(id, worst);
                let found = match start.metrics.sqnr_db {
                    Some(db) => format!("is {db:.1} dB, below {threshold} dB"),
                    None => format!("has no figure ({})", start.metrics.reason),
                };
                format!(
                    "isolated SQNR of {}{whose} {found}; {effective} is the best legal way",
                    request.start
                )
            }
            None => request.reason.clone(),
        };
        Ok(LayerMeasured {
            layer: node.name.clone(),
            op: "Linear".to_owned(),
            requested: request.requested.to_string(),
            effective,
            fit,
            reason,
            ways,
        })
    }
}
