//! The products of a mul+sum as an observer sees them: their range without forming them, or a
//! stream of bounded chunks. Float only; this is what calibration needs.

use crate::error::ShapeError;
use crate::linear::GemmShape;

/// Products in one chunk of [`for_each_products`], at most.
pub const PRODUCT_CHUNK: usize = 8192;

/// Exact (min, max) over all n, o, k of the f32 product `x[n, k] * w[o, k]`, in O((N + O) K);
/// (0, 0) when there are none.
///
/// For each k the extremes of a product are among the four products of the columns' extremes,
/// because rounding to f32 is monotone. Values that are not finite must have been excluded.
///
/// # Errors
/// [`ShapeError::Length`] for a buffer that does not fit `shape`.
pub fn product_range(x: &[f32], w: &[f32], shape: GemmShape) -> Result<(f32, f32), ShapeError> {
    check(x, w, shape)?;
    let GemmShape { n, k, o } = shape;
    if n == 0 || o == 0 || k == 0 {
        return Ok((0.0, 0.0));
    }
    let (x_extremes, w_extremes) = (column_extremes(x, k), column_extremes(w, k));
    let products =
        x_extremes
            .iter()
            .zip(&w_extremes)
            .flat_map(|(&(x_min, x_max), &(w_min, w_max))| {
                [x_min * w_min, x_min * w_max, x_max * w_min, x_max * w_max]
            });
    Ok(
        products.fold((f32::INFINITY, f32::NEG_INFINITY), |(min, max), p| {
            (min.min(p), max.max(p))
        }),
    )
}

/// Calls `see` with the f32 products in `[n, o, k]` order, at most [`PRODUCT_CHUNK`] at a time.
///
/// # Errors
/// [`ShapeError::Length`] for a buffer that does not fit `shape`.
pub fn for_each_products(
    x: &[f32],
    w: &[f32],
    shape: GemmShape,
    mut see: impl FnMut(&[f32]),
) -> Result<(), ShapeError> {
    check(x, w, shape)?;
    let GemmShape { n, k, o } = shape;
    if k == 0 {
        return Ok(());
    }
    let mut chunk = Vec::with_capacity(PRODUCT_CHUNK);
    for x_row in x.chunks_exact(k).take(n) {
        for w_row in w.chunks_exact(k).take(o) {
            for (x_part, w_part) in x_row.chunks(PRODUCT_CHUNK).zip(w_row.chunks(PRODUCT_CHUNK)) {
                if chunk.len() + x_part.len() > PRODUCT_CHUNK {
                    see(&chunk);
                    chunk.clear();
                }
                chunk.extend(x_part.iter().zip(w_part).map(|(a, b)| a * b));
            }
        }
    }
    if !chunk.is_empty() {
        see(&chunk);
    }
    Ok(())
}

fn check(x: &[f32], w: &[f32], shape: GemmShape) -> Result<(), ShapeError> {
    // There is no output, so the output's size is whatever fits.
    shape.check(
        x.len(),
        w.len(),
        crate::tensor::element_count(&[shape.n, shape.o])?,
    )
}

fn column_extremes(rows: &[f32], k: usize) -> Vec<(f32, f32)> {
    let mut extremes = vec![(f32::INFINITY, f32::NEG_INFINITY); k];
    for row in rows.chunks_exact(k) {
        for ((min, max), &v) in extremes.iter_mut().zip(row) {
            *min = min.min(v);
            *max = max.max(v);
        }
    }
    extremes
}
