//! Fitted integers of a group of Linears: what is tried, on which rows, and what is accepted.
//!
//! Every second calibration batch is fitted to, the others are held out; of a single batch every second
//! row. A fit is accepted where its SQNR over the rows held out is above that of the plain way. Of what
//! nobody asked for only those are told that no other beats at their multiply-accumulates.

use std::{collections::BTreeMap, sync::Arc};

use dual16_nash::ways::Way;
use ndarray::{Array2, ArrayView1, ArrayView2, Axis, Slice};

use super::{
    Context, WayFitted, files::go_on, footprint::LargestBatch, payload::store, session::Session,
};
use crate::{
    Result,
    exec::captured,
    fit::{
        Candidate, Fit, Fitted, InputGrid, LadderOptions, Layer, Moments, Quantized, held_out_sqnr,
        ladder,
    },
    graph::{Linear, NodeId, Op},
    plan::{LinearFit, ScaleSource, Slot},
    remedy::equalize::makers,
    ways::isolated::FittedWay,
};

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
    for (&id, ways) in tried {
        let Some(linear) = linear_of(session, id) else {
            continue;
        };
        let Some(rows) = rows.get(&id) else { continue };
        for (way, wanted) in ways {
            go_on(context.control)?;
            let one = OneLayer {
                source,
                id,
                linear,
                way: *way,
                rows,
            };
            let asked = source
                .request
                .linears
                .get(&id)
                .and_then(|request| request.fit);
            match one.best(wanted, asked)? {
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

fn linear_of(session: &Session, id: usize) -> Option<&Linear> {
    match &session.graph.node(NodeId(id)).op {
        Op::Linear(linear) => Some(linear),
        _ => None,
    }
}

/// Runs `each` on the input rows `[N, K]` of every Linear in every calibration batch, with the number
/// of the batch.
fn for_each_input(
    session: &Session,
    context: &Context<'_>,
    linears: &[usize],
    mut each: impl FnMut(usize, usize, ArrayView2<'_, f32>),
) -> Result<()> {
    let inputs: Vec<_> = linears
        .iter()
        .map(|&id| session.graph.node(NodeId(id)).inputs[0])
        .collect();
    let files = &session.job.calibration;
    let mut number = 0;
    for file in 0..files.len() {
        let mut batches = session.file(files, file, context.blobs)?;
        session.for_each_batch(&mut batches, context, |_, batch| {
            let capture = session.float_run(batch, &session.names_of(&inputs))?;
            for (&id, &input) in linears.iter().zip(&inputs) {
                let x = captured(&session.graph, &capture, input)?;
                let k = x.shape().last().copied().unwrap_or(0);
                let standard = x.as_standard_layout();
                let flat = standard.as_slice().unwrap_or_default();
                let shape = (flat.len() / k.max(1), k);
                if let Ok(rows) = ArrayView2::from_shape(shape, flat) {
                    each(number, id, rows);
                }
            }
            number += 1;
            Ok(())
        })?;
    }
    Ok(())
}

/// What is kept of a Linear's input.
struct Rows {
    fitted_to: Moments,
    held_out: Sample,
    /// Largest |x| of each column, in all rows.
    amax: Vec<f32>,
}

fn collect(
    session: &Session,
    context: &Context<'_>,
    tried: &Tried,
) -> Result<BTreeMap<usize, Rows>> {
    let linears: Vec<usize> = tried.keys().copied().collect();
    let mut batches = 0;
    for file in &session.job.calibration {
        batches += session.batches(file, context.blobs)?.count();
    }
    let mut kept: BTreeMap<usize, Rows> = BTreeMap::new();
    for_each_input(session, context, &linears, |batch, id, x| {
        let rows = kept.entry(id).or_insert_with(|| Rows {
            fitted_to: Moments::new(x.ncols()),
            held_out: Sample::new(x.ncols()),
            amax: vec![0.0; x.ncols()],
        });
        let whole = |row: &ArrayView1<'_, f32>| row.iter().all(|x| x.is_finite());
        for row in x.rows().into_iter().filter(whole) {
            for (amax, x) in rows.amax.iter_mut().zip(row) {
                *amax = amax.max(x.abs());
            }
        }
        match (batches, batch % 2) {
            (..2, _) => {
                rows.fitted_to
                    .add(x.slice_axis(Axis(0), Slice::new(0, None, 2)));
                let others = x.rows().into_iter().skip(1).step_by(2);
                others.filter(whole).for_each(|row| rows.held_out.add(row));
            }
            (_, 0) => rows.fitted_to.add(x),
            (_, _) => {
                let all = x.rows().into_iter();
                all.filter(whole).for_each(|row| rows.held_out.add(row));
            }
        }
    })?;
    Ok(kept)
}

/// Rows of a long sequence, evenly spaced: every one at first, every second once they are too many, and
/// so on.
struct Sample {
    columns: usize,
    rows: Vec<f32>,
    seen: u64,
    stride: u64,
}

impl Sample {
    fn new(columns: usize) -> Self {
        Self {
            columns,
            rows: Vec::new(),
            seen: 0,
            stride: 1,
        }
    }

    fn add(&mut self, row: ArrayView1<'_, f32>) {
        if self.seen.is_multiple_of(self.stride) {
            self.rows.extend(row);
            if self.rows.len() > HELD_OUT * self.columns {
                let rows = self.rows.chunks_exact(self.columns.max(1));
                self.rows = rows.step_by(2).flatten().copied().collect();
                self.stride *= 2;
            }
        }
        self.seen += 1;
    }

    /// `[N, K]`.
    fn view(&self) -> ArrayView2<'_, f32> {
        let shape = (self.rows.len() / self.columns.max(1), self.columns);
        ArrayView2::from_shape(shape, &self.rows)
            .unwrap_or_else(|_| ArrayView2::from(&[[0f32; 0]; 0]))
    }
}

/// An accepted candidate.
struct Found {
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
}

impl OneLayer<'_> {
    /// The best of each fit that is better than the plain way; why there is none of what was asked for.
    fn best(&self, wanted: &[Fit], asked: Option<Fit>) -> Result<Result<Vec<Found>, String>> {
        let (settings, way) = (self.source.settings, self.way);
        let layer = Layer {
            weight: self.linear.weight.view(),
            bias: self.linear.bias.as_ref().map(|bias| bias.view()),
        };
        let foldable = makers(self.source, NodeId(self.id));
        if let (Some(Fit { equalize: true, .. }), Err(reason)) = (asked, &foldable) {
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
            alphas: match foldable {
                Ok(_) => usual.alphas.clone(),
                Err(_) => Vec::new(),
            },
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
        let mut figures: Vec<(f64, Fit, Candidate)> = candidates
            .filter_map(|candidate| {
                let db = figure(&candidate.fitted)?;
                Some((db, candidate.fit?, candidate))
            })
            .collect();
        same_columns(&mut figures);
        let mut best: BTreeMap<Fit, (f64, Candidate)> = BTreeMap::new();
        let mut missed: Option<f64> = None;
        for (db, fit, candidate) in figures {
            let better = best.get(&fit).is_none_or(|(known, _)| db > *known);
            if db > plain && better {
                best.insert(fit, (db, candidate));
            } else if asked == Some(fit) {
                missed = Some(missed.map_or(db, |known: f64| known.max(db)));
            }
        }
        if let Some(fit) = asked.filter(|fit| !best.contains_key(fit)) {
            return Ok(Err(match missed {
                Some(db) => format!(
                    "{way}+{fit} has {db:.1} dB on the rows held out, {way} has {plain:.1} dB"
                ),
                None => format!("{fit} cannot be made for it"),
            }));
        }
        if asked.is_none() {
            best = not_beaten(best);
        }
        let found = best.into_values().filter_map(|(db, candidate)| {
            Some(Found {
                id: self.id,
                way,
                gain_db: db - plain,
                input_scale: grid.scale(&candidate.fitted)?.get(),
                candidate,
            })
        });
        Ok(Ok(found.collect()))
    }
}

/// Of the fits that equalize, those whose factors are those of the best without a branch: the layer
/// before takes in one set.
fn same_columns(figures: &mut Vec<(f64, Fit, Candidate)>) {
    let best = figures.iter().filter(|(_, fit, _)| fit.equalize);
    let best = best.max_by(|(a, one, _), (b, other, _)| {
        let narrow = |fit: &Fit| fit.rank == 0;
        (narrow(one).cmp(&narrow(other))).then(a.total_cmp(b))
    });
    let Some(columns) = best.map(|(.., candidate)| candidate.fitted.columns.clone()) else {
        return;
    };
    figures.retain(|(_, fit, candidate)| !fit.equalize || candidate.fitted.columns == columns);
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

/// Largest magnitudes inside each low-rank branch over all calibration batches, in the order of
/// [`LinearFit::inside`]; `None` for what has no branch.
fn observe_branches(
    session: &Session,
    context: &Context<'_>,
    found: &[Found],
) -> Result<Vec<Option<[f32; 3]>>> {
    let branched = |found: &&Found| found.candidate.fitted.low_rank.is_some();
    let mut linears: Vec<usize> = found
        .iter()
        .filter(branched)
        .map(|found| found.id)
        .collect();
    linears.dedup();
    let mut inside: Vec<Option<[f32; 3]>> = vec![None; found.len()];
    if linears.is_empty() {
        return Ok(inside);
    }
    let branches: Vec<Option<Branch>> = found
        .iter()
        .map(|found| Branch::of(&found.candidate.fitted))
        .collect();
    for_each_input(session, context, &linears, |_, id, x| {
        for ((found, branch), inside) in found.iter().zip(&branches).zip(&mut inside) {
            if let Some(branch) = branch.as_ref().filter(|_| found.id == id) {
                let largest = inside.get_or_insert([0.0; 3]);
                let new = branch.largest(x);
                largest.iter_mut().zip(new).for_each(|(a, b)| *a = a.max(b));
            }
        }
    })?;
    Ok(inside)
}

/// A fitted weight and its branch in floats.
struct Branch {
    columns: Option<Vec<f64>>,
    weight: Array2<f32>,
    bias: Vec<f32>,
    down: Array2<f32>,
    up: Array2<f32>,
}

impl Branch {
    fn of(fitted: &Fitted) -> Option<Self> {
        let low_rank = fitted.low_rank.as_ref()?;
        let float = |quantized: &Quantized| quantized.to_float().mapv(|w| w as f32);
        Some(Self {
            columns: fitted.columns.clone(),
            weight: float(&fitted.weight),
            bias: fitted.bias.clone(),
            down: float(&low_rank.down),
            up: float(&low_rank.up),
        })
    }

    /// Largest finite magnitudes of `x Wᵀ + b`, `x downᵀ` and `x downᵀ upᵀ` over some rows.
    fn largest(&self, x: ArrayView2<'_, f32>) -> [f32; 3] {
        let mut x = x.to_owned();
        for (mut column, factor) in x
            .columns_mut()
            .into_iter()
            .zip(self.columns.iter().flatten())
        {
            column.mapv_inplace(|x| (f64::from(x) / factor) as f32);
        }
        let main = x.dot(&self.weight.t()) + ArrayView1::from(&self.bias);
        let inner = x.dot(&self.down.t());
        let branch = inner.dot(&self.up.t());
        [main, inner, branch].map(|values| {
            let finite = values.iter().map(|v| v.abs()).filter(|v| v.is_finite());
            finite.fold(0.0, f32::max)
        })
    }
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
            kept += k * k * 8 + HELD_OUT as u64 * k * 4;
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
