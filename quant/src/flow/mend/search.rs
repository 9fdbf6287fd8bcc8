//! Which change next, and which helped: arithmetic over the energies of errors, with no batch in sight.
//!
//! Errors of independent roundings add as energies, so what one fake quant alone costs an output is its
//! share of what all cost it together. A row's *cost* is that energy over the energy that the output
//! may have, for the output where that is largest: all costs together should be below 1.

mod changes;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::super::{asked::Asked, offers, session::Session};
use crate::{
    Result,
    cost::PlanCost,
    error::KernelContext,
    fit::way_name,
    graph::{NodeId, Op},
    measured::Planned,
    metrics::ErrorSums,
    plan::Change,
    remedy::Places,
    report::MendStep,
    sensitivity::{Estimate, Row, rows},
};

/// A change is kept where it leaves less than this share of what its place cost.
const HELPED: f64 = 0.9;
/// What a fit that is not known is expected to leave.
const EXPECTED_OF_FITS: f64 = 0.3;
/// What a change is expected to leave, when it is made together with others.
const EXPECTED: f64 = 0.1;
/// The next changes are to bring all costs together below this, for estimates are none to the last dB.
const MARGIN: f64 = 0.8;
/// Share of all costs that a round leaves at least: what is far from float is not estimated well, and
/// once the worst is gone the rest is measured again.
const LEFT_BY_A_ROUND: f64 = 0.25;
/// Share of all costs from which a remedy that stands gives way to the next dearer one.
const STILL_MUCH: f64 = 0.25;
/// A place that costs less than this share of what is left is not worth a change.
const NEGLIGIBLE: f64 = 0.002;
/// Places named as standing in the way, at most.
const NAMED: usize = 5;

/// Where a change is made, before and after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Spot {
    /// Weight and input of a Linear, by node index.
    Linear(usize),
    /// Where a value can be made in other ways, by the first of the remedies for it: what they replace or
    /// what stands there instead.
    Place(usize),
    /// A table, by node index.
    Table(usize),
    /// A value.
    Value(usize),
}

/// A change that was just made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) change: Change,
    spot: Spot,
    /// Energy that the spot cost each output before.
    before: Vec<f64>,
    /// What the spot cost the chip before: estimated microseconds and multiply-accumulates.
    work: (f64, u64),
    /// What is told of it.
    told: MendStep,
    /// The Linear for whose sake it was made, where several are changed together.
    together: Option<usize>,
}

/// What a round comes to.
pub(super) enum Next {
    /// Changes to make; none where nothing is left that could help.
    Changes(Vec<Pending>),
    /// Linears whose turn has come, by node index, and whose fits are not known.
    Unfitted(Vec<usize>),
}

/// A change that was judged.
pub(super) struct Settled {
    pub(super) change: Change,
    pub(super) kept: bool,
    pub(super) told: MendStep,
    together: Option<usize>,
}

/// Takes back all that was made together where one of it did not help.
pub(super) fn settle_together(settled: &mut [Settled]) {
    let refused = settled.iter().filter(|one| !one.kept);
    let refused: Vec<usize> = refused.filter_map(|one| one.together).collect();
    let with_them = settled
        .iter_mut()
        .filter(|one| one.together.is_some_and(|of| refused.contains(&of)));
    for one in with_them {
        one.kept = false;
        one.told.kept = false;
    }
}

/// A round's figures, by place.
pub(super) struct Ledger<'a> {
    session: &'a Session,
    places: &'a Places,
    planned: &'a Planned,
    rows: Vec<(Row, Vec<f64>)>,
    /// In VALIDATION and in CONVERTED.
    outputs: &'a [Vec<ErrorSums>; 2],
    cost: PlanCost,
    /// The spot that a node belongs to, by node index: a remedy's own nodes and what they replace.
    place_of: BTreeMap<usize, usize>,
    /// What settings have of operators, and no search changes.
    asked: Asked<'a>,
}

impl<'a> Ledger<'a> {
    pub(super) fn new(
        session: &'a Session,
        places: &'a Places,
        planned: &'a Planned,
        estimate: &Estimate,
        outputs: &'a [Vec<ErrorSums>; 2],
    ) -> Result<Self> {
        let chip = session.job.settings.chip().of("the estimate")?;
        let energies = |row| {
            (0..session.graph.outputs.len())
                .map(move |output| estimate.energy(row, output).unwrap_or(0.0))
        };
        let rows = rows(&session.graph, &planned.plan).into_iter().enumerate();
        let rows = rows
            .map(|(index, row)| (row, energies(index).collect()))
            .collect();
        Ok(Ledger {
            session,
            places,
            planned,
            rows,
            outputs,
            cost: PlanCost::of(&session.graph, &planned.plan, &chip),
            place_of: places.first_by_node(),
            asked: Asked::of(&session.request, &session.graph, places),
        })
    }

    /// Whether each output has its SQNR of these, in dB, in both runs on the calibration batches.
    pub(super) fn reached(&self, aims: &[f64]) -> bool {
        self.outputs_db()
            .iter()
            .zip(aims)
            .all(|(db, aim)| db >= aim)
    }

    /// SQNR of each output in the worse of the two runs, in dB.
    pub(super) fn outputs_db(&self) -> Vec<f64> {
        let [validation, converted] = self.outputs;
        let of = |sums: &ErrorSums| sums.finish(None).sqnr_rank();
        let both = validation.iter().zip(converted);
        both.map(|(a, b)| of(a).min(of(b))).collect()
    }

    /// SQNR of the worst output in the worse of the two runs, in dB.
    pub(super) fn worst_db(&self) -> f64 {
        self.outputs_db().into_iter().fold(f64::INFINITY, f64::min)
    }

    /// Judges a change by what its place costs now.
    pub(super) fn settle(&self, pending: Pending, round: u32) -> Settled {
        let Pending {
            change,
            spot,
            before,
            work,
            mut told,
            together,
        } = pending;
        let after = self.energies_at(spot);
        let left = |(before, after): (&f64, &f64)| match *before > 0.0 {
            true => after / before,
            false => 0.0,
        };
        let left = before.iter().zip(&after).map(left).fold(0.0, f64::max);
        told.round = round;
        told.left = left;
        told.kept = left < HELPED;
        let (time, macs) = self.work_at(spot);
        told.added_us = time - work.0;
        told.added_macs = macs as i64 - work.1 as i64;
        told.output_sqnr_db = Some(self.worst_db()).filter(|db| db.is_finite());
        Settled {
            change,
            kept: told.kept,
            told,
            together,
        }
    }

    /// The next changes: for what costs most first, its cheapest that was not tried, until what all of
    /// them are expected to leave is enough. `fitted` are the Linears whose fits are known.
    pub(super) fn next(
        &self,
        aims: &[f64],
        made: &[Change],
        refused: &[Change],
        fitted: &BTreeSet<usize>,
    ) -> Next {
        let spots = self.spots(aims);
        let spots_cost: f64 = spots.iter().map(|(_, cost, _)| cost).sum();
        let mut left = spots_cost + self.rescales(aims);
        let all = left;
        let mut next: Vec<Pending> = Vec::new();
        let mut unfitted: Vec<usize> = Vec::new();
        for (spot, cost, _) in &spots {
            if left <= MARGIN.max(LEFT_BY_A_ROUND * all) || *cost < NEGLIGIBLE * left {
                break;
            }
            let is_pending = |spot: Spot| next.iter().any(|pending| pending.spot == spot);
            if is_pending(*spot) {
                continue;
            }
            if let Spot::Linear(linear) = *spot
                && !fitted.contains(&linear)
                && offers::is_tried(self.session, self.planned, linear)
            {
                unfitted.push(linear);
                left -= cost * (1.0 - EXPECTED_OF_FITS);
                continue;
            }
            let untried = |change: &Change| !made.contains(change) && !refused.contains(change);
            let changes = self.changes(*spot, made, *cost >= STILL_MUCH * all);
            let mut with_others = changes.into_iter().filter(untried).filter_map(|change| {
                let others = self.others(change, made)?;
                let free = |(other, spot): &(Change, Spot)| untried(other) && !is_pending(*spot);
                others.iter().all(free).then_some((change, others))
            });
            let Some((change, others)) = with_others.next() else {
                continue;
            };
            let together = match (change, others.is_empty()) {
                (Change::Way { linear, .. }, false) => Some(linear),
                _ => None,
            };
            for (change, spot) in std::iter::once((change, *spot)).chain(others) {
                let of_spot = spots.iter().find(|(of, ..)| *of == spot);
                let (cost, rows) = of_spot.map_or((0.0, &[][..]), |(_, cost, rows)| (*cost, rows));
                left -= cost * (1.0 - self.expected(change));
                next.push(Pending {
                    change,
                    spot,
                    before: self.energies_at(spot),
                    work: self.work_at(spot),
                    told: self.told(
                        (spot, rows),
                        change,
                        cost / all.max(f64::MIN_POSITIVE),
                        made,
                    ),
                    together,
                });
            }
        }
        match unfitted.is_empty() {
            true => Next::Changes(next),
            false => Next::Unfitted(unfitted),
        }
    }

    /// The share of its place's cost that a change is expected to leave: of a fit, what it left on rows
    /// held out.
    fn expected(&self, change: Change) -> f64 {
        let Change::Way {
            linear,
            way,
            fit: Some(fit),
        } = change
        else {
            return EXPECTED;
        };
        let fitted = self.planned.fitted(linear, way, fit);
        fitted.map_or(EXPECTED, |fitted| {
            10f64.powf(-fitted.gain_db / 10.0).max(EXPECTED)
        })
    }

    /// What costs most now, in words.
    pub(super) fn in_the_way(&self, aims: &[f64]) -> Vec<String> {
        let spots = self.spots(aims);
        let all: f64 = spots.iter().map(|(_, cost, _)| cost).sum();
        let spots = spots.iter().filter(|(_, cost, _)| *cost > 0.0).take(NAMED);
        let name = |(_, cost, rows): &(Spot, f64, Vec<Row>)| {
            let row = rows.first()?;
            let name = row.name(&self.session.graph);
            Some(format!("{name} ({:.0} %)", 100.0 * cost / all))
        };
        spots.filter_map(name).collect()
    }

    /// Where rows belong, with what they cost together, the worst first; of each its rows, the worst
    /// first. The cost is 1 where it is all of the energy that an output may have.
    fn spots(&self, aims: &[f64]) -> Vec<(Spot, f64, Vec<Row>)> {
        let mut spots: BTreeMap<Spot, Vec<(f64, Row)>> = BTreeMap::new();
        for (row, energies) in &self.rows {
            let cost = self.cost(energies, aims);
            spots.entry(self.spot(*row)).or_default().push((cost, *row));
        }
        let mut spots: Vec<(Spot, f64, Vec<Row>)> = spots
            .into_iter()
            .map(|(spot, mut rows)| {
                rows.sort_by(|a, b| b.0.total_cmp(&a.0));
                let cost = rows.iter().map(|(cost, _)| cost).sum();
                (spot, cost, rows.into_iter().map(|(_, row)| row).collect())
            })
            .collect();
        spots.sort_by(|a, b| b.1.total_cmp(&a.1));
        spots
    }

    /// An energy at each output as a share of what that may have, the largest.
    fn cost(&self, energies: &[f64], aims: &[f64]) -> f64 {
        let [validation, _] = self.outputs;
        let allowed = validation
            .iter()
            .zip(aims)
            .map(|(sums, aim)| sums.reference_energy() * 10f64.powf(-aim / 10.0));
        let shares = energies
            .iter()
            .zip(allowed)
            .filter(|(_, allowed)| *allowed > 0.0)
            .map(|(energy, allowed)| energy / allowed);
        shares.fold(0.0, f64::max)
    }

    /// The cost of what CONVERTED adds beyond VALIDATION and no table does: roundings on the way from scale
    /// to scale, which nothing mends.
    fn rescales(&self, aims: &[f64]) -> f64 {
        let [validation, converted] = self.outputs;
        let mut beyond: Vec<f64> = converted.iter().map(ErrorSums::error_energy).collect();
        for (beyond, sums) in beyond.iter_mut().zip(validation) {
            *beyond -= sums.error_energy();
        }
        let tables = self.rows.iter();
        for (_, energies) in tables.filter(|(row, _)| matches!(row, Row::Converted(_))) {
            let energies = beyond.iter_mut().zip(energies);
            energies.for_each(|(beyond, energy)| *beyond -= energy);
        }
        self.cost(&beyond, aims)
    }

    fn energies_at(&self, spot: Spot) -> Vec<f64> {
        let mut sums = vec![0.0; self.session.graph.outputs.len()];
        for (row, energies) in &self.rows {
            if self.spot(*row) == spot {
                sums.iter_mut()
                    .zip(energies)
                    .for_each(|(sum, energy)| *sum += energy);
            }
        }
        sums
    }

    /// What a spot costs the chip: estimated microseconds and multiply-accumulates.
    fn work_at(&self, spot: Spot) -> (f64, u64) {
        let nodes: Vec<usize> = match spot {
            Spot::Linear(linear) => vec![linear],
            Spot::Place(place) => {
                let own = self.place_of.iter().filter(|(_, of)| **of == place);
                own.map(|(&node, _)| node).collect()
            }
            Spot::Table(table) => vec![table],
            Spot::Value(_) => Vec::new(),
        };
        let costs = nodes.iter().filter_map(|&node| self.cost.nodes.get(node));
        costs.fold((0.0, 0), |(time, macs), cost| {
            (
                time + cost.estimate.latency_us,
                macs + cost.work.macs.total(),
            )
        })
    }

    fn spot(&self, row: Row) -> Spot {
        let graph = &self.session.graph;
        let linear = |id: NodeId| matches!(graph.node(id).op, Op::Linear(_));
        match (row, row.node(graph)) {
            (Row::Weight(id), _) => Spot::Linear(id.0),
            (Row::Operand(id, _), _) if linear(id) => Spot::Linear(id.0),
            (Row::Converted(id), _) if matches!(graph.node(id).op, Op::Lut(_)) => Spot::Table(id.0),
            (row, Some(id)) => match (self.place_of.get(&id.0), row) {
                (Some(&place), _) => Spot::Place(place),
                (None, Row::Activation(value) | Row::Constant(value)) => Spot::Value(value.0),
                (None, Row::Weight(id) | Row::Operand(id, _) | Row::Converted(id)) => {
                    Spot::Linear(id.0)
                }
            },
            (Row::Activation(value) | Row::Constant(value), None) => Spot::Value(value.0),
            (Row::Operand(id, _) | Row::Converted(id), None) => Spot::Linear(id.0),
        }
    }

    /// What is told of a change.
    fn told(
        &self,
        (spot, rows): (Spot, &[Row]),
        change: Change,
        share: f64,
        made: &[Change],
    ) -> MendStep {
        let graph = &self.session.graph;
        let first = rows.first();
        let name = first.map_or("", |row| row.name(graph));
        let kind = first.map_or("", |row| row.kind(graph).name());
        let to = match change {
            Change::Way { way, fit, .. } => way_name(way, fit),
            Change::Remedy(index) => match self.places.places.get(index) {
                Some(place) => place.remedy.to_string(),
                None => String::new(),
            },
            Change::Int16(_) => "int16".to_owned(),
            Change::Division(_) => "division".to_owned(),
        };
        let from = match spot {
            Spot::Linear(linear) => match self.planned.plan.linears.get(&linear) {
                Some(plan) => plan.way_name(),
                None => String::new(),
            },
            Spot::Place(place) => self.standing(place, made).to_owned(),
            Spot::Table(_) => "plain".to_owned(),
            Spot::Value(_) => "int8".to_owned(),
        };
        MendStep {
            round: 0,
            op: name.to_owned(),
            sensitive_type: kind.to_owned(),
            from,
            to,
            share,
            left: 1.0,
            kept: false,
            added_us: 0.0,
            added_macs: 0,
            before_sqnr_db: Some(self.worst_db()).filter(|db| db.is_finite()),
            output_sqnr_db: None,
        }
    }
}
