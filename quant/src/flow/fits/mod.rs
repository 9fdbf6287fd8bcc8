//! Fitted integers of a group of Linears: what is tried, on which rows, and what is accepted.
//!
//! Every second calibration batch that has a row is fitted to, the others are held out; of a single batch
//! every second row. A fit is accepted where its SQNR over the rows held out is above that of the plain
//! way. Of what nobody asked for only those are told that no other beats at their multiply-accumulates.

mod branches;
mod readers;
mod rows;

use std::{collections::BTreeMap, sync::Arc};

use dual16_nash::ways::Way;

use super::{
    Context, WayFitted, files::go_on, footprint::LargestBatch, payload::store, session::Session,
};
use crate::{
    Result,
    fit::{
        Candidate, Fit, Fitted, InputGrid, LadderOptions, Layer, column_amax, held_out_sqnr, ladder,
    },
    graph::{Linear, NodeId, Op},
    plan::{LinearFit, ScaleSource, Slot},
    ways::isolated::FittedWay,
};
use branches::observe_branches;
use readers::{Figures, agreed, together};
use rows::{Rows, collect};

/// Rows held out that are kept of a layer, at most.
const HELD_OUT: usize = 512;

/// Fits to try of a Linear, by way; by node index.
pub(super) type Tried = BTreeMap<usize, Vec<(Way, Vec<Fit>)>>;

/// What came of it.
#[derive(Default)]
pub(super) struct Fits {
    /// What was accepted, by node index.
    pub(super) accepted: BTreeMap<usize, Vec<(Way, Arc<FittedWay>)>>,
    /// Why a fit that was asked for was not.
    pub(super) declined: BTreeMap<usize, String>,
}

/// Fits everything in `tried`, whose memory the caller holds.
pub(super) fn fit(
    source: &ScaleSource<'_>,
    session: &Session,
    context: &Context<'_>,
    tried: &Tried,
) -> Result<Fits> {
    let mut fits = Fits::default();
    let rows = collect(session, context, tried)?;
    let mut found: Vec<Found> = Vec::new();
    for readers in together(session, tried) {
        let equalizable = readers::equalizable(source, &readers, tried);
        let column_amax = match readers.as_slice() {
            [_] => Vec::new(),
            several => {
                let linears = several.iter().filter_map(|&id| linear_of(session, id));
                column_amax(linears.map(|linear| linear.weight.view()))
            }
        };
        let mut figures: Vec<Figures<'_>> = Vec::new();
        for &id in &readers {
            let Some((linear, rows)) = linear_of(session, id).zip(rows.get(&id)) else {
                continue;
            };
            for (way, wanted) in &tried[&id] {
                go_on(context.control)?;
                let one = OneLayer {
                    source,
                    id,
                    linear,
                    way: *way,
                    rows,
                    equalizable: equalizable.as_ref().map(|()| column_amax.as_slice()),
                };
                match one.figures(wanted)? {
                    Ok(of_layer) => figures.push(of_layer),
                    Err(reason) => {
                        fits.declined.insert(id, reason);
                    }
                }
            }
        }
        agreed(&mut figures);
        for figures in figures {
            let id = figures.id;
            match figures.best() {
                Ok(best) => found.extend(best),
                Err(reason) => {
                    fits.declined.insert(id, reason);
                }
            }
        }
    }
    let inside = observe_branches(session, context, &found)?;
    for (found, inside) in found.into_iter().zip(inside) {
        let Found {
            id,
            way,
            candidate,
            gain_db,
            input_scale,
        } = found;
        let fitted = candidate.fitted;
        let told = WayFitted {
            fit: LinearFit {
                fit: candidate.fit.unwrap_or_default(),
                made: candidate.name,
                blob: store("fitted integers", &fitted, context.blobs)?,
                clip: match fitted.columns {
                    Some(_) => 1.0,
                    None => fitted.input_range,
                },
                inside,
            },
            gain_db,
        };
        let fitted = FittedWay {
            fitted,
            told,
            input_scale,
        };
        let accepted = fits.accepted.entry(id).or_default();
        accepted.push((way, Arc::new(fitted)));
    }
    Ok(fits)
}

/// Calls `each` with as many Linears at once as memory allows; those that read one value together.
pub(super) fn in_parts(
    session: &Session,
    context: &Context<'_>,
    tried: &Tried,
    batch: &LargestBatch,
    mut each: impl FnMut(&Tried) -> Result<()>,
) -> Result<()> {
    let mut part = Tried::new();
    for readers in together(session, tried) {
        let own = readers.iter().map(|id| (*id, tried[id].clone()));
        let own: Tried = own.collect();
        let mut larger = part.clone();
        larger.extend(own.clone());
        if !part.is_empty() && !context.could_hold(session.fit_bytes(&larger, batch)) {
            each(&part)?;
            larger = own;
        }
        part = larger;
    }
    match part.is_empty() {
        true => Ok(()),
        false => each(&part),
    }
}

fn linear_of(session: &Session, id: usize) -> Option<&Linear> {
    match &session.graph.node(NodeId(id)).op {
        Op::Linear(linear) => Some(linear),
        _ => None,
    }
}

/// An accepted candidate.
pub(super) struct Found {
    id: usize,
    way: Way,
    candidate: Candidate,
    gain_db: f64,
    input_scale: f32,
}

/// A Linear in a way, and its rows.
struct OneLayer<'a> {
    source: &'a ScaleSource<'a>,
    id: usize,
    linear: &'a Linear,
    way: Way,
    rows: &'a Rows,
    /// Largest |w| of each column over all that read its input, nothing where it alone does; or why its
    /// columns cannot be equalized.
    equalizable: Result<&'a [f32], &'a String>,
}

impl<'a> OneLayer<'a> {
    /// Every fit that is wanted, with its SQNR on the rows held out; why there is none.
    fn figures(&self, wanted: &[Fit]) -> crate::Result<Result<Figures<'a>, String>> {
        let (settings, way) = (self.source.settings, self.way);
        let asked = self.source.request.linears.get(&self.id);
        let asked = asked.and_then(|request| request.fit);
        let layer = Layer {
            weight: self.linear.weight.view(),
            bias: self.linear.bias.as_ref().map(|bias| bias.view()),
        };
        if let (Some(Fit { equalize: true, .. }), Err(reason)) = (asked, self.equalizable) {
            return Ok(Err(format!(
                "nothing before it takes the factors of equalized columns in: {reason}"
            )));
        }
        let usual = LadderOptions::new(way.activation_dtype(), way.weight_dtype());
        let fixed = self.source.request.slot(self.id, Slot::Input).fixed_scale;
        let options = LadderOptions {
            scale_rule: settings.scale_rule,
            power_of_two: settings.power_of_two,
            fits: wanted.to_vec(),
            alphas: match self.equalizable {
                Ok(_) => usual.alphas.clone(),
                Err(_) => Vec::new(),
            },
            column_amax: self.equalizable.unwrap_or_default().to_vec(),
            // A scale that is given, or to be a power of two, is not multiplied.
            clips: match fixed.is_some() || settings.power_of_two {
                true => Vec::new(),
                false => usual.clips.clone(),
            },
            ..usual
        };
        let plain = self.source.linear_input(self.id, way.activation_dtype())?;
        let grid = InputGrid {
            amax: self.rows.amax.clone(),
            dtype: way.activation_dtype(),
            scale_rule: settings.scale_rule,
            power_of_two: settings.power_of_two,
            scale: Some(plain.scale),
        };
        let held_out = self.rows.held_out.view();
        let figure = |fitted: &Fitted| held_out_sqnr(&layer, fitted, &grid, held_out);
        let mut candidates = ladder(&layer, &self.rows.fitted_to, &options).into_iter();
        let plain = candidates.next().and_then(|plain| figure(&plain.fitted));
        let Some(plain) = plain.filter(|_| held_out.nrows() > 0) else {
            return Ok(Err(
                "no row is left to hold a fit against; give at least two calibration batches"
                    .to_owned(),
            ));
        };
        let of: Vec<(f64, Fit, Candidate)> = candidates
            .filter_map(|candidate| {
                let db = figure(&candidate.fitted)?;
                Some((db, candidate.fit?, candidate))
            })
            .collect();
        Ok(Ok(Figures {
            id: self.id,
            name: &self.source.graph.nodes[self.id].name,
            way,
            asked,
            plain,
            of,
            grid,
        }))
    }
}

/// Those that no other of as few multiply-accumulates is better than; those that need the layer before
/// apart from those that do not.
fn not_beaten(all: BTreeMap<Fit, (f64, Candidate)>) -> BTreeMap<Fit, (f64, Candidate)> {
    let beaten = |fit: &Fit, db: f64, macs: f64| {
        all.iter().any(|(other, (other_db, candidate))| {
            let (cheaper, better) = (candidate.mac_factor <= macs, *other_db > db);
            other.equalize == fit.equalize && cheaper && better
        })
    };
    let stays: Vec<Fit> = all
        .iter()
        .filter(|(fit, (db, candidate))| !beaten(fit, *db, candidate.mac_factor))
        .map(|(fit, _)| *fit)
        .collect();
    all.into_iter()
        .filter(|(fit, _)| stays.contains(fit))
        .collect()
}

impl Session {
    /// What fitting these Linears holds at its peak, with the measuring of what is accepted.
    pub(super) fn fit_bytes(&self, tried: &Tried, largest: &LargestBatch) -> u64 {
        let (mut kept, mut widest) = (0u64, 0u64);
        for (&id, ways) in tried {
            let Some(linear) = linear_of(self, id) else {
                continue;
            };
            let (o, k) = linear.weight.dim();
            let (o, k) = (o as u64, k as u64);
            let tried: usize = ways.iter().map(|(_, fits)| fits.len()).sum();
            // Moments in f64 and the rows held out; of each fit its integers in int16, those that its
            // kernels hold, and both once more in floats while its branch is observed.
            kept += 2 * k * k * 8 + HELD_OUT as u64 * k * 4;
            kept += tried as u64 * (o * k) * (2 + 2 + 4);
            // Scatter, its decomposition and the copies on the way, in f64; the weight, what is left of
            // it and its integers; the rows held out in f64, their outputs.
            let ladder = k * k * 8 * 6 + o * k * 8 * 6 + HELD_OUT as u64 * (2 * k + 3 * o) * 8;
            widest = widest.max(ladder);
        }
        let captured: BTreeMap<usize, Vec<Way>> = tried
            .iter()
            .map(|(&id, ways)| (id, ways.iter().map(|(way, _)| *way).collect()))
            .collect();
        let batch = self.evaluate_bytes(&captured, largest);
        batch.saturating_add(kept).saturating_add(widest)
    }
}
