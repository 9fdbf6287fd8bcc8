//! What settings ask of operators by name, bound to the places that remedies have in the model.

use std::collections::{BTreeMap, BTreeSet};

use super::{Blobs, Notice, session::Session, variants::standing};
use crate::{
    Error, Result,
    artifact::OperatorPlan,
    graph::{Graph, Op},
    measured::Planned,
    plan::{Calibration, Change, OperatorRequest, Request},
    remedy::{Places, Remedy},
    settings::OperatorChoice,
};

/// The changes that settings ask for, and what they leave to nobody else.
pub(super) struct Asked<'r> {
    /// By the node that a remedy is for, or a table's: the change; `None` where it stays as it is.
    by_node: BTreeMap<usize, Option<Change>>,
    /// Settings none of whose operators can run so.
    unmet: Vec<&'r OperatorRequest>,
}

impl<'r> Asked<'r> {
    /// Settings in their order, the later of two counts.
    pub(super) fn of(request: &'r Request, graph: &Graph, places: &Places) -> Self {
        let mut by_node = BTreeMap::new();
        let mut unmet = Vec::new();
        for asked in &request.operators {
            let at = places.at(&asked.nodes);
            let remedies = at.map(|(index, place)| {
                let change = match asked.choice {
                    OperatorChoice::Plain => Some(None),
                    OperatorChoice::Remedy(remedy) if remedy == place.remedy => {
                        Some(Some(Change::Remedy(index)))
                    }
                    OperatorChoice::Remedy(_) | OperatorChoice::Division => None,
                };
                change.map(|change| (place.node.0, change))
            });
            let tables = tables(graph, &asked.nodes).map(|table| match asked.choice {
                OperatorChoice::Plain => Some((table, None)),
                OperatorChoice::Division => Some((table, Some(Change::Division(table)))),
                OperatorChoice::Remedy(_) => None,
            });
            let found: Vec<_> = remedies.chain(tables).flatten().collect();
            if found.is_empty() {
                unmet.push(asked);
            }
            by_node.extend(found);
        }
        Asked { by_node, unmet }
    }

    /// The changes, by node.
    pub(super) fn changes(&self) -> impl Iterator<Item = Change> {
        self.by_node.values().copied().flatten()
    }

    /// Whether a node, of a remedy or a table, runs as a setting has it.
    pub(super) fn names(&self, node: usize) -> bool {
        self.by_node.contains_key(&node)
    }

    /// Whether what a change is of runs as a setting has it.
    pub(super) fn rules(&self, change: Change, places: &Places) -> bool {
        match change {
            Change::Remedy(index) => {
                let place = places.places.get(index);
                place.is_some_and(|place| self.names(place.node.0))
            }
            Change::Division(table) => self.names(table),
            Change::Way { .. } | Change::Int16(_) => false,
        }
    }

    /// Says of what could be, by the model, that the batches gave no reason for it.
    pub(super) fn notices(&self) -> impl Iterator<Item = Notice> {
        self.unmet.iter().map(|asked| Notice {
            warning: true,
            code: "NOT_APPLIED".to_owned(),
            subject: asked.name.clone(),
            message: format!(
                "{} was asked for and stays as it is: by the calibration batches there is nothing to take \
                 apart",
                asked.choice
            ),
        })
    }
}

/// How operators run that are not as the model has them, or were asked not to be, by node.
pub(super) fn operators(
    session: &Session,
    planned: &Planned,
    blobs: &dyn Blobs,
) -> Result<Vec<OperatorPlan>> {
    let Some(mended) = &planned.mended else {
        return Ok(Vec::new());
    };
    let places = session.places(&mended.plain, blobs)?;
    let asked = Asked::of(&session.request, &session.graph, &places);
    let remedies = standing(&places, &mended.changes)
        .filter(|place| place.remedy != Remedy::Equalize)
        .map(|place| (place.node.0, OperatorChoice::Remedy(place.remedy)));
    let divided = planned.plan.divisions.keys();
    let divided = divided.map(|&table| (table, OperatorChoice::Division));
    // Of two at one node the later runs.
    let effective: BTreeMap<usize, OperatorChoice> = remedies.chain(divided).collect();
    let requested: BTreeMap<usize, OperatorChoice> = asked
        .by_node
        .iter()
        .filter_map(|(&node, change)| {
            let choice = match (*change)? {
                Change::Remedy(index) => OperatorChoice::Remedy(places.places.get(index)?.remedy),
                Change::Division(_) => OperatorChoice::Division,
                Change::Way { .. } | Change::Int16(_) => return None,
            };
            Some((node, choice))
        })
        .collect();
    let nodes: BTreeSet<usize> = effective.keys().chain(requested.keys()).copied().collect();
    let of = |all: &BTreeMap<usize, OperatorChoice>, node| {
        all.get(&node).copied().unwrap_or(OperatorChoice::Plain)
    };
    let operator = |node| OperatorPlan {
        node,
        requested: of(&requested, node),
        effective: of(&effective, node),
    };
    Ok(nodes.into_iter().map(operator).collect())
}

/// Refuses what no batch could make possible, before any is run.
///
/// # Errors
/// Names the setting and what can run there instead.
pub(super) fn check(session: &Session) -> Result<()> {
    if session.request.operators.is_empty() {
        return Ok(());
    }
    let (graph, settings) = (&session.graph, &session.job.settings);
    let places = supposed(session);
    let asked = Asked::of(&session.request, graph, &places);
    let Some(unmet) = asked.unmet.first() else {
        return Ok(());
    };
    let all_linear = unmet
        .nodes
        .iter()
        .all(|&node| matches!(graph.nodes[node].op, Op::Linear(_)));
    let fp16 = OperatorChoice::Remedy(Remedy::Fp16);
    let reason = match legal(graph, &places, &unmet.nodes).as_slice() {
        _ if all_linear => "it is a Linear, whose way `linear` sets".to_owned(),
        _ if unmet.choice == fp16 && !settings.allow_fp16 => {
            "fp16 is offered with allow_fp16 only, of which no public document says what it costs"
                .to_owned()
        }
        [] => format!("nothing is to be had there under {}", settings.toolchain),
        legal => format!(
            "is not to be had there under {}; what is: {}",
            settings.toolchain,
            legal.join(", ")
        ),
    };
    Err(Error::Setting {
        setting: format!("operator {}={}", unmet.name, unmet.choice),
        reason,
    })
}

/// The places that the model has for remedies, whatever batches will show.
pub(super) fn supposed(session: &Session) -> Places {
    let calibration = Calibration::supposed(&session.graph);
    Places::of(&session.scale_source(&calibration))
}

/// What can run in the stead of any of some nodes, besides what does.
pub(super) fn legal(graph: &Graph, places: &Places, nodes: &BTreeSet<usize>) -> Vec<&'static str> {
    let mut remedies: Vec<Remedy> = places.at(nodes).map(|(_, place)| place.remedy).collect();
    remedies.sort_unstable();
    remedies.dedup();
    let division = tables(graph, nodes).next();
    let division = division.map(|_| OperatorChoice::Division.name());
    remedies
        .into_iter()
        .map(Remedy::name)
        .chain(division)
        .collect()
}

fn tables<'a>(graph: &'a Graph, nodes: &'a BTreeSet<usize>) -> impl Iterator<Item = usize> + 'a {
    let is_table = |node: &usize| matches!(graph.nodes[*node].op, Op::Lut(_));
    nodes.iter().copied().filter(is_table)
}
