//! What could be done at a place, the cheapest first.

use dual16_nash::{dtype::IntDtype, legality::Rules, ways::Way};

use super::{
    super::super::variants::{is_equalized, last_fits},
    Ledger, Spot,
};
use crate::{
    fit::Fit,
    graph::{NodeId, ValueId},
    plan::Change,
    report::WayFitted,
};

/// dB on rows held out from which a fit is tried.
const WORTH_A_FIT_DB: f64 = 3.0;

impl Ledger<'_> {
    /// What could be done at a place, the cheapest first; where it still costs much, in the stead of what
    /// was done. What was set by name stays.
    pub(super) fn changes(&self, spot: Spot, made: &[Change], still_much: bool) -> Vec<Change> {
        match spot {
            Spot::Place(place) => match self.places.places.get(place) {
                Some(place) if !self.asked.names(place.node.0) => {
                    self.remedies(place.node, made, still_much)
                }
                _ => Vec::new(),
            },
            Spot::Table(table) if self.asked.names(table) => Vec::new(),
            Spot::Table(table) => vec![Change::Division(table)],
            Spot::Value(value) => self.wider(ValueId(value)).into_iter().collect(),
            Spot::Linear(linear) => self.ways(linear, made),
        }
    }

    /// What can stand in for a node, the cheapest first; one at a time, of which the last made runs.
    fn remedies(&self, node: NodeId, made: &[Change], still_much: bool) -> Vec<Change> {
        let places = self.places.places.iter().enumerate();
        let mut of_node: Vec<Change> = places
            .filter(|(_, place)| place.node == node)
            .map(|(index, _)| Change::Remedy(index))
            .collect();
        match of_node.iter().rposition(|change| made.contains(change)) {
            Some(standing) if still_much => of_node.split_off(standing + 1),
            Some(_) => Vec::new(),
            None => of_node,
        }
    }

    /// What runs at a place now.
    pub(super) fn standing(&self, place: usize, made: &[Change]) -> &'static str {
        let node = self.places.places.get(place).map(|place| place.node);
        let here = made.iter().rev().filter_map(|change| match change {
            Change::Remedy(index) => self.places.places.get(*index),
            _ => None,
        });
        let mut here = here.filter(|place| Some(place.node) == node);
        here.next().map_or("plain", |place| place.remedy.name())
    }

    /// int16 for a value that is int8 and not by name.
    fn wider(&self, value: ValueId) -> Option<Change> {
        let params = self.planned.plan.params(value)?;
        let request = self.session.request.values.get(value.0)?;
        let may = params.dtype == IntDtype::Int8 && !request.explicit;
        may.then_some(Change::Int16(value.0))
    }

    /// Legal ways of a Linear that are more exact in what costs there, the cheapest first. One that was
    /// set by name stays.
    fn ways(&self, linear: usize, made: &[Change]) -> Vec<Change> {
        let settings = &self.session.job.settings;
        let rules = Rules::of(settings.march, settings.toolchain);
        let Some(request) = self.session.request.linears.get(&linear) else {
            return Vec::new();
        };
        if request.explicit {
            return Vec::new();
        }
        let Some(now) = self.planned.plan.linears.get(&linear).map(|plan| plan.way) else {
            return Vec::new();
        };
        let was_changed = made
            .iter()
            .any(|change| matches!(change, Change::Way { linear: of, .. } if *of == linear));
        let better: &[Way] = match (now, was_changed) {
            (Way::A8W8, false) => &[Way::A16W8, Way::A8W16, Way::A16W16, Way::Split, Way::MulSum],
            (Way::MulSum, _) => &[Way::A16W16, Way::Split],
            (Way::Split | Way::A16W16, _) => &[],
            _ => &[Way::A16W16, Way::Split, Way::MulSum],
        };
        let legal = better
            .iter()
            .filter(|&&way| way != now && rules.check(way).legal);
        let way = |&way| Change::Way {
            linear,
            way,
            fit: None,
        };
        let fits = self.fits(linear, now, made).into_iter();
        fits.chain(legal.map(way)).collect()
    }

    /// Accepted fits of the way that a Linear runs, of an int8 weight or input, that gain what is worth a
    /// change over what runs: those at the multiply-accumulates of the plain way first, the best of them
    /// first, then the branches, the narrowest first. Beside an equalized Linear that reads the same, those
    /// of an equalized input.
    fn fits(&self, linear: usize, now: Way, made: &[Change]) -> Vec<Change> {
        let plan = self.planned.plan.linears.get(&linear);
        let runs = plan.and_then(|plan| plan.params.fit.as_ref());
        let runs = runs.and_then(|fit| self.planned.fitted(linear, now, fit.fit));
        let least = runs.map_or(0.0, |fitted| fitted.gain_db) + WORTH_A_FIT_DB;
        let last_fits = last_fits(made);
        let mut readers = self.places.equalized_with(linear).iter();
        let beside =
            readers.any(|reader| reader.0 != linear && is_equalized(last_fits.get(&reader.0)));
        let fits = self.planned.fits(linear);
        let worth = fits.filter(|(way, fitted)| {
            *way == now && fitted.gain_db >= least && (fitted.fit.fit.equalize || !beside)
        });
        let mut fits: Vec<&WayFitted> = worth.map(|(_, fitted)| fitted).collect();
        fits.sort_by(|a, b| {
            let ranks = a.fit.fit.rank.cmp(&b.fit.fit.rank);
            ranks.then_with(|| b.gain_db.total_cmp(&a.gain_db))
        });
        let change = |fitted: &WayFitted| Change::Way {
            linear,
            way: now,
            fit: Some(fitted.fit.fit),
        };
        fits.into_iter().map(change).collect()
    }

    /// What has to change with a change, and where: with a fit of an equalized input, the fits of the other
    /// Linears that read it. None where one of them has no fit for it, or stays as it was set by name.
    pub(super) fn others(&self, change: Change, made: &[Change]) -> Option<Vec<(Change, Spot)>> {
        let Change::Way {
            linear,
            fit: Some(Fit { equalize: true, .. }),
            ..
        } = change
        else {
            return Some(Vec::new());
        };
        let last_fits = last_fits(made);
        let readers = self.places.equalized_with(linear).iter().map(|id| id.0);
        let others = readers.filter(|&reader| {
            reader != linear && !is_equalized(last_fits.get(&reader)) && !self.is_wide(reader)
        });
        others
            .map(|reader| {
                // What was just taken back is not known to be good beside this.
                let changes = self.planned.changes();
                let of_reader = |change: &&Change| matches!(change, Change::Way { linear, .. } if *linear == reader);
                let as_planned = changes.iter().rfind(of_reader) == made.iter().rfind(of_reader);
                let explicit = self.session.request.linears.get(&reader)?.explicit;
                if explicit || !as_planned {
                    return None;
                }
                let now = self.planned.plan.linears.get(&reader)?.way;
                let fits = self.planned.fits(reader);
                let fits = fits.filter(|(way, fitted)| *way == now && fitted.fit.fit.equalize);
                let best = fits.min_by(|(_, a), (_, b)| {
                    let ranks = a.fit.fit.rank.cmp(&b.fit.fit.rank);
                    ranks.then_with(|| b.gain_db.total_cmp(&a.gain_db))
                });
                let (way, fitted) = best?;
                let change = Change::Way {
                    linear: reader,
                    way,
                    fit: Some(fitted.fit.fit),
                };
                Some((change, Spot::Linear(reader)))
            })
            .collect()
    }

    /// Whether a Linear runs int16 weights, which are multiplied by the factors and no worse for it.
    fn is_wide(&self, linear: usize) -> bool {
        let plan = self.planned.plan.linears.get(&linear);
        plan.is_some_and(|plan| matches!(plan.way, Way::A16W16 | Way::Split | Way::MulSum))
    }
}
