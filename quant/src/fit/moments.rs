//! What is kept of the rows that a Linear reads.

use ndarray::{Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

/// Rows converted at a time, so that a large batch is not held twice.
const CHUNK: usize = 256;

/// Moments of a layer's input rows x, `[K]` each, in f64. Those of two parts add up to those of both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    rows: u64,
    /// Σ x.
    sum: Vec<f64>,
    /// Σ x xᵀ, row-major `[K, K]`.
    second: Vec<f64>,
    /// Largest |x| of each column.
    amax: Vec<f32>,
}

impl Moments {
    /// Of no row, with K columns.
    pub fn new(columns: usize) -> Self {
        Self {
            rows: 0,
            sum: vec![0.0; columns],
            second: vec![0.0; columns * columns],
            amax: vec![0.0; columns],
        }
    }

    /// Of some rows, `[N, K]`. A row with a NaN or an infinity is left out.
    pub fn of(rows: ArrayView2<'_, f32>) -> Self {
        let mut moments = Self::new(rows.ncols());
        moments.add(rows);
        moments
    }

    /// Takes in rows `[N, K]`, in order; those of another length say nothing here and are left out, as
    /// is a row with a NaN or an infinity.
    pub fn add(&mut self, rows: ArrayView2<'_, f32>) {
        let k = self.sum.len();
        if rows.ncols() != k || k == 0 {
            return;
        }
        for chunk in rows.axis_chunks_iter(Axis(0), CHUNK) {
            let finite = chunk
                .rows()
                .into_iter()
                .filter(|row| row.iter().all(|x| x.is_finite()));
            let flat: Vec<f64> = finite
                .flat_map(|row| row.iter().map(|&x| f64::from(x)).collect::<Vec<_>>())
                .collect();
            let count = flat.len() / k;
            let Ok(x) = Array2::from_shape_vec((count, k), flat) else {
                return;
            };
            self.rows += count as u64;
            let products = x.t().dot(&x);
            self.second
                .iter_mut()
                .zip(products.iter())
                .for_each(|(sum, xx)| *sum += xx);
            for row in x.rows() {
                for ((sum, amax), &x) in self.sum.iter_mut().zip(&mut self.amax).zip(row) {
                    *sum += x;
                    *amax = amax.max(x.abs() as f32);
                }
            }
        }
    }

    /// Those of both parts; the parts must be merged in the same order always, for sums of floats
    /// depend on it. A part of another number of columns is left out.
    pub fn merge(&mut self, other: &Self) {
        if other.sum.len() != self.sum.len() {
            return;
        }
        self.rows += other.rows;
        self.sum
            .iter_mut()
            .zip(&other.sum)
            .for_each(|(a, b)| *a += b);
        self.second
            .iter_mut()
            .zip(&other.second)
            .for_each(|(a, b)| *a += b);
        self.amax
            .iter_mut()
            .zip(&other.amax)
            .for_each(|(a, b)| *a = a.max(*b));
    }

    /// How many rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// K.
    pub fn columns(&self) -> usize {
        self.sum.len()
    }

    /// Largest |x| of each column.
    pub fn amax(&self) -> &[f32] {
        &self.amax
    }

    /// Mean of each column, 0 of no row.
    pub fn mean(&self) -> Vec<f64> {
        let rows = self.rows.max(1) as f64;
        self.sum.iter().map(|sum| sum / rows).collect()
    }

    /// Σ x xᵀ.
    pub fn second(&self) -> Array2<f64> {
        self.matrix(|_, _| 0.0)
    }

    /// Σ (x - mean)(x - mean)ᵀ. Variances below what f64 leaves of the difference are 0.
    pub fn scatter(&self) -> Array2<f64> {
        let rows = self.rows.max(1) as f64;
        let mut scatter = self.matrix(|i, j| self.sum[i] * self.sum[j] / rows);
        let k = self.columns();
        for i in 0..k {
            // x and its square are known to some 1e-16 of themselves.
            let noise = 1e-12 * self.second[i * k + i];
            if scatter[[i, i]] <= noise {
                scatter.row_mut(i).fill(0.0);
                scatter.column_mut(i).fill(0.0);
            }
        }
        scatter
    }

    /// Of inputs divided by `factors`, one for each column.
    #[must_use]
    pub fn divided(&self, factors: &[f64]) -> Self {
        let k = self.columns();
        let by = |i: usize| factors.get(i).copied().unwrap_or(1.0);
        Self {
            rows: self.rows,
            sum: (0..k).map(|i| self.sum[i] / by(i)).collect(),
            second: (0..k * k)
                .map(|at| self.second[at] / (by(at / k) * by(at % k)))
                .collect(),
            amax: (0..k)
                .map(|i| (f64::from(self.amax[i]) / by(i)) as f32)
                .collect(),
        }
    }

    fn matrix(&self, less: impl Fn(usize, usize) -> f64) -> Array2<f64> {
        let k = self.columns();
        Array2::from_shape_fn((k, k), |(i, j)| self.second[i * k + j] - less(i, j))
    }
}
