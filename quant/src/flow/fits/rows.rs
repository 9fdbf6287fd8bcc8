//! The rows that Linears read in calibration: those that are fitted to, and those that are held out.

use std::collections::BTreeMap;

use ndarray::{ArrayView1, ArrayView2, Axis, Slice};

use super::{
    super::{Context, checkpoints::BatchId, session::Session},
    HELD_OUT, Tried,
};
use crate::{Result, exec::captured, fit::Moments, graph::NodeId};

/// Rows that a Linear is fitted to: as many as it has columns, and at least so many. Summing the products of
/// all is most of the work of a fit, and more of them change little.
const FITTED_TO: usize = 1024;

/// Runs `each` on the input rows `[N, K]` of every Linear in every calibration batch.
pub(super) fn for_each_input(
    session: &Session,
    context: &Context<'_>,
    linears: &[usize],
    mut each: impl FnMut(usize, ArrayView2<'_, f32>),
) -> Result<()> {
    let inputs: Vec<_> = linears
        .iter()
        .map(|&id| session.graph.node(NodeId(id)).inputs[0])
        .collect();
    let files = &session.job.calibration;
    for file in files {
        let mut batches = session.batches(file, context.blobs)?;
        let mut id = BatchId::first(file);
        session.for_each_batch(&mut batches, context, |_, batch| {
            let capture = session.float_run_on(&id, batch, &session.names_of(&inputs))?;
            id.number += 1;
            for (&id, &input) in linears.iter().zip(&inputs) {
                let x = captured(&session.graph, &capture, input)?;
                let k = x.shape().last().copied().unwrap_or(0);
                let standard = x.as_standard_layout();
                let flat = standard.as_slice().unwrap_or_default();
                let shape = (flat.len() / k.max(1), k);
                if let Ok(rows) = ArrayView2::from_shape(shape, flat) {
                    each(id, rows);
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// What is kept of a Linear's input.
pub(super) struct Rows {
    pub(super) fitted_to: Moments,
    pub(super) held_out: Sample,
    /// Of the rows held out of the only batch so far, to be fitted to once there is a second.
    of_first: Option<Moments>,
    /// Batches with a row.
    batches: usize,
    /// Largest |x| of each column, in all rows.
    pub(super) amax: Vec<f32>,
    /// Rows of a batch that are fitted to, at most; evenly spaced.
    rows_of_batch: usize,
}

impl Rows {
    /// For a job of so many calibration files.
    fn new(columns: usize, files: usize) -> Self {
        let rows = columns.max(FITTED_TO);
        Self {
            rows_of_batch: rows.div_ceil(files.div_ceil(2).max(1)),
            fitted_to: Moments::new(columns),
            held_out: Sample::new(columns),
            of_first: None,
            batches: 0,
            amax: vec![0.0; columns],
        }
    }

    /// Takes in a batch, `[N, K]`. Rows with a NaN or an infinity are left out.
    fn add(&mut self, x: ArrayView2<'_, f32>) {
        if x.nrows() == 0 {
            return;
        }
        let whole = |row: &ArrayView1<'_, f32>| row.iter().all(|x| x.is_finite());
        for row in x.rows().into_iter().filter(whole) {
            for (amax, x) in self.amax.iter_mut().zip(row) {
                *amax = amax.max(x.abs());
            }
        }
        self.batches += 1;
        if let Some(others) = self.of_first.take() {
            self.fitted_to.merge(&others);
            self.held_out = Sample::new(x.ncols());
        }
        match self.batches {
            1 => {
                let from = |start| x.slice_axis(Axis(0), Slice::new(start, None, 2));
                self.fitted_to.add(self.spaced(from(0)));
                if x.nrows() > 1 {
                    let others = from(1);
                    self.of_first = Some(Moments::of(self.spaced(others)));
                    self.held_out.add_all(others);
                }
            }
            number if number % 2 == 0 => self.held_out.add_all(x),
            _ => self.fitted_to.add(self.spaced(x)),
        }
    }

    /// As many of some rows as are fitted to.
    fn spaced<'x>(&self, mut x: ArrayView2<'x, f32>) -> ArrayView2<'x, f32> {
        let step = x.nrows().div_ceil(self.rows_of_batch).max(1);
        x.slice_axis_inplace(Axis(0), Slice::new(0, None, step as isize));
        x
    }
}

pub(super) fn collect(
    session: &Session,
    context: &Context<'_>,
    tried: &Tried,
) -> Result<BTreeMap<usize, Rows>> {
    let linears: Vec<usize> = tried.keys().copied().collect();
    let files = session.job.calibration.len();
    let mut kept: BTreeMap<usize, Rows> = BTreeMap::new();
    for_each_input(session, context, &linears, |id, x| {
        kept.entry(id)
            .or_insert_with(|| Rows::new(x.ncols(), files))
            .add(x);
    })?;
    Ok(kept)
}

/// Rows of a long sequence, evenly spaced: every one at first, every second once they are too many, and
/// so on.
pub(super) struct Sample {
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

    /// Takes in rows `[N, K]`; those with a NaN or an infinity are left out.
    fn add_all(&mut self, x: ArrayView2<'_, f32>) {
        for row in x.rows() {
            if row.iter().all(|x| x.is_finite()) {
                self.add(row);
            }
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
    pub(super) fn view(&self) -> ArrayView2<'_, f32> {
        let shape = (self.rows.len() / self.columns.max(1), self.columns);
        ArrayView2::from_shape(shape, &self.rows)
            .unwrap_or_else(|_| ArrayView2::from(&[[0f32; 0]; 0]))
    }
}
