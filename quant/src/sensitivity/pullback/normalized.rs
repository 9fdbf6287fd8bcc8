//! (x - mean) / sqrt(var + eps), backwards.

use crate::tensor::Tensor;

/// What a row of it passes back: `g_x = (g_y - mean(g_y) - y mean(g_y y)) / sqrt(var + eps)`.
pub(in crate::sensitivity) struct Normalized {
    width: usize,
    /// What each row was multiplied by.
    inverses: Vec<f64>,
    y: Vec<f32>,
}

impl Normalized {
    /// Over the last `axes` axes of x, which gave y.
    pub(super) fn new(x: &Tensor, y: &Tensor, axes: usize, eps: f64) -> Self {
        let width: usize = x.shape().iter().rev().take(axes).product();
        let width = width.max(1);
        let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        let inverse = |row: &[f64]| {
            let mean = row.iter().sum::<f64>() / width as f64;
            let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / width as f64;
            1.0 / (variance + eps).sqrt()
        };
        Normalized {
            width,
            inverses: x.chunks_exact(width).map(inverse).collect(),
            y: y.iter().copied().collect(),
        }
    }

    pub(super) fn pull(&self, g: &[f32], x: &mut [f32]) {
        let rows = g
            .chunks_exact(self.width)
            .zip(self.y.chunks_exact(self.width));
        let rows = rows.zip(x.chunks_exact_mut(self.width));
        for (((g, y), x), inverse) in rows.zip(&self.inverses) {
            let mean =
                |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / self.width as f64;
            let pairs = || g.iter().zip(y).map(|(&g, &y)| (f64::from(g), f64::from(y)));
            let average = mean(&mut pairs().map(|(g, _)| g));
            let along = mean(&mut pairs().map(|(g, y)| g * y));
            for (x, (g, y)) in x.iter_mut().zip(pairs()) {
                *x += ((g - average - y * along) * inverse) as f32;
            }
        }
    }
}
