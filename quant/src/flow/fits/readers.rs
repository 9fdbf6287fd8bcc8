//! Linears that read one value: what makes it takes in one set of factors, so their columns are equalized
//! together or not at all.

use std::collections::BTreeMap;

use dual16_nash::ways::Way;

use super::{super::session::Session, Found, Tried, not_beaten};
use crate::{
    fit::{Candidate, Fit, InputGrid},
    graph::{NodeId, ValueId},
    plan::ScaleSource,
    remedy::equalize::makers,
};

/// The Linears that are tried, those that read one value together; in the order of their first.
pub(super) fn together(session: &Session, tried: &Tried) -> Vec<Vec<usize>> {
    let mut sets: Vec<(ValueId, Vec<usize>)> = Vec::new();
    for &id in tried.keys() {
        let input = session.graph.node(NodeId(id)).inputs[0];
        match sets.iter_mut().find(|(of, _)| *of == input) {
            Some((_, set)) => set.push(id),
            None => sets.push((input, vec![id])),
        }
    }
    sets.into_iter().map(|(_, set)| set).collect()
}

/// Whether what makes the input of these would take factors in, for all that read it.
///
/// # Errors
/// Why not, in words.
pub(super) fn equalizable(
    source: &ScaleSource<'_>,
    readers: &[usize],
    tried: &Tried,
) -> Result<(), String> {
    let Some(&first) = readers.first() else {
        return Ok(());
    };
    makers(source, NodeId(first))?;
    let input = source.graph.nodes[first].inputs[0];
    let wants = |id: &NodeId| {
        let ways = tried.get(&id.0).into_iter().flatten();
        ways.flat_map(|(_, fits)| fits).any(|fit| fit.equalize)
    };
    let all = source.graph.consumers(input).iter();
    match all.copied().find(|id| !wants(id)) {
        None => Ok(()),
        Some(other) => Err(format!(
            "'{}' reads '{}' as well, and its columns are not to be equalized",
            source.graph.node(other).name,
            source.graph.value(input).name
        )),
    }
}

/// The fits of a Linear in a way, with their SQNR in dB on the rows held out.
pub(super) struct Figures<'a> {
    pub(super) id: usize,
    pub(super) name: &'a str,
    pub(super) way: Way,
    /// What a setting asks for.
    pub(super) asked: Option<Fit>,
    /// Of the plain way.
    pub(super) plain: f64,
    pub(super) of: Vec<(f64, Fit, Candidate)>,
    pub(super) grid: InputGrid,
}

/// Leaves, of the fits that equalize, those with one set of factors for all of these layers: that of which
/// the errors without a branch, each relative to its outputs, have the smallest sum. Where one layer
/// has no such fit that is better than its plain way, none keeps any.
pub(super) fn agreed(all: &mut [Figures<'_>]) {
    let mut sums: Vec<(Option<Vec<f64>>, f64)> = Vec::new();
    let equalizing: Vec<&Figures<'_>> = all.iter().filter(|one| one.equalizes()).collect();
    let known = equalizing.iter().flat_map(|one| &one.of);
    for (_, _, candidate) in known.filter(|(_, fit, _)| fit.equalize) {
        let columns = &candidate.fitted.columns;
        if sums.iter().all(|(known, _)| known != columns) {
            let errors = equalizing.iter().map(|one| one.smallest_error(columns));
            sums.push((columns.clone(), errors.sum()));
        }
    }
    let best = sums
        .into_iter()
        .reduce(|a, b| if b.1 < a.1 { b } else { a });
    let Some((columns, _)) = best else { return };
    // A layer may be tried in several ways, of which one can be equalized.
    let worse = equalizing.iter().find(|one| !one.gains(&columns));
    let worse = worse.map(|one| one.name.to_owned());
    for one in all {
        let stays = |fit: &Fit, candidate: &Candidate| {
            !fit.equalize || (worse.is_none() && candidate.fitted.columns == columns)
        };
        let asked = one.asked.is_some_and(|fit| fit.equalize);
        if asked && worse.as_deref().is_some_and(|worse| worse == one.name) {
            // It is told with its own figures.
            one.of
                .retain(|(_, fit, candidate)| !fit.equalize || candidate.fitted.columns == columns);
            continue;
        }
        one.of.retain(|(_, fit, candidate)| stays(fit, candidate));
    }
}

impl Figures<'_> {
    fn equalizes(&self) -> bool {
        self.of.iter().any(|(_, fit, _)| fit.equalize)
    }

    /// Of the fits with these factors, the narrowest branches.
    fn narrowest<'c>(
        &'c self,
        columns: &'c Option<Vec<f64>>,
    ) -> impl Iterator<Item = &'c (f64, Fit, Candidate)> {
        let own = self.of.iter().filter(move |(_, fit, candidate)| {
            fit.equalize && candidate.fitted.columns == *columns
        });
        let narrowest = own.clone().map(|(_, fit, _)| fit.rank).min();
        own.filter(move |(_, fit, _)| Some(fit.rank) == narrowest)
    }

    /// Energy of the error over that of the output.
    fn smallest_error(&self, columns: &Option<Vec<f64>>) -> f64 {
        let errors = self
            .narrowest(columns)
            .map(|(db, ..)| 10f64.powf(-db / 10.0));
        errors.fold(f64::INFINITY, f64::min)
    }

    /// Whether a fit with these factors is better than the plain way.
    fn gains(&self, columns: &Option<Vec<f64>>) -> bool {
        let mut own = self.of.iter();
        own.any(|(db, fit, candidate)| {
            fit.equalize && candidate.fitted.columns == *columns && *db > self.plain
        })
    }

    /// The best of each fit that is better than the plain way.
    ///
    /// # Errors
    /// Why there is none of what was asked for.
    pub(super) fn best(self) -> Result<Vec<Found>, String> {
        let Figures {
            id,
            way,
            asked,
            plain,
            of,
            grid,
            ..
        } = self;
        let mut best: BTreeMap<Fit, (f64, Candidate)> = BTreeMap::new();
        let mut missed: Option<f64> = None;
        for (db, fit, candidate) in of {
            let better = best.get(&fit).is_none_or(|(known, _)| db > *known);
            if db > plain && better {
                best.insert(fit, (db, candidate));
            } else if asked == Some(fit) {
                missed = Some(missed.map_or(db, |known: f64| known.max(db)));
            }
        }
        if let Some(fit) = asked.filter(|fit| !best.contains_key(fit)) {
            return Err(match missed {
                Some(db) => format!(
                    "{way}+{fit} has {db:.1} dB on the rows held out, {way} has {plain:.1} dB"
                ),
                None if fit.equalize => {
                    format!("{fit} does not help every layer that reads its input")
                }
                None => format!("{fit} cannot be made for it"),
            });
        }
        if asked.is_none() {
            best = not_beaten(best);
        }
        let found = best.into_values().filter_map(|(db, candidate)| {
            Some(Found {
                id,
                way,
                gain_db: db - plain,
                input_scale: grid.scale(&candidate.fitted)?.get(),
                candidate,
            })
        });
        Ok(found.collect())
    }
}
