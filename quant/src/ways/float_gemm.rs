//! The one f32 matrix product of VALIDATION, of what calibration computes itself, and of analyses.
//!
//! The kernels are rten's, as in float runs: AVX-512, AVX2 with FMA, NEON, or plain. An element of the product is
//! a sum over blocks of 256 along k, each summed in ascending order by fused multiply-adds where the machine has
//! them; no tile and no thread is in that, so it is the same on every machine that fuses.

use dual16_nash::linear::GemmShape;
use ndarray::{ArrayView2, CowArray, Ix2};
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions};
use rten_tensor::NdTensorView;

/// Rows and columns of a tile: rten takes one in a single piece, and so on the calling thread alone. Tasks are
/// what runs in parallel, and a thread that waited for the pool would take up another task meanwhile.
const ROWS: usize = 64;
const COLUMNS: usize = 128;

/// `x [n, k] * w [o, k]^T`, row-major, on the calling thread.
///
/// Gives zeros where the slices do not have the sizes of `shape`, which no caller lets happen.
pub(crate) fn gemm_f32(x: &[f32], w: &[f32], shape: GemmShape) -> Vec<f32> {
    match ArrayView2::from_shape((shape.o, shape.k), w) {
        Ok(w) => gemm_f32_on(x, w, shape),
        Err(_) => misfit(shape),
    }
}

/// [`gemm_f32`] with a right operand `[o, k]` of any layout. The layout does not change the result.
pub(crate) fn gemm_f32_on(x: &[f32], w: ArrayView2<'_, f32>, shape: GemmShape) -> Vec<f32> {
    let Ok(x) = ArrayView2::from_shape((shape.n, shape.k), x) else {
        return misfit(shape);
    };
    let mut y = vec![0.0; shape.n * shape.o];
    add_product(x, w.reversed_axes(), &mut y);
    y
}

/// `y [n, o] += a [n, k] * b [k, o]`, `y` row-major, `a` and `b` of any layout; on the calling
/// thread. Adds nothing where the sizes do not fit, which no caller lets happen.
pub(crate) fn add_product(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>, y: &mut [f32]) {
    let ((n, k), (inner, o)) = (a.dim(), b.dim());
    let shape = GemmShape { n, k, o };
    let fits = inner == k && y.len() == n * o;
    debug_assert!(fits, "{inner} and {} do not fit {shape:?}", y.len());
    if !fits || y.is_empty() || k == 0 {
        return;
    }
    // A layout that is neither rows nor columns is copied.
    let (a, b) = (in_a_line(a), in_a_line(b));
    let (Some(a), Some(b)) = (view(&a), view(&b)) else {
        return;
    };
    let executor = GemmExecutor::<f32>::default();
    let mut tile = vec![0.0; n.min(ROWS) * o.min(COLUMNS)];
    for column in (0..o).step_by(COLUMNS) {
        let columns = column..o.min(column + COLUMNS);
        let width = columns.len();
        let packed = executor.prepack_b(b.slice((.., columns.clone())));
        for row in (0..n).step_by(ROWS) {
            let rows = row..n.min(row + ROWS);
            let tile = &mut tile[..rows.len() * width];
            let left = GemmInputA::Unpacked(a.slice(rows.clone()));
            let right = GemmInputB::Packed(&packed);
            let made = executor.gemm(tile, left, right, GemmOptions::default());
            debug_assert!(made.is_ok(), "{made:?} of {shape:?}");
            for (row, tile) in rows.zip(tile.chunks_exact(width)) {
                let y = &mut y[row * o..][columns.clone()];
                y.iter_mut().zip(tile).for_each(|(y, more)| *y += more);
            }
        }
    }
}

/// A matrix whose rows or whose columns are contiguous.
fn in_a_line(matrix: ArrayView2<'_, f32>) -> CowArray<'_, f32, Ix2> {
    match matrix.is_standard_layout() || matrix.t().is_standard_layout() {
        true => matrix.into(),
        false => matrix.as_standard_layout().into_owned().into(),
    }
}

fn view<'a>(matrix: &'a CowArray<'_, f32, Ix2>) -> Option<NdTensorView<'a, f32, 2>> {
    let (rows, columns) = matrix.dim();
    match matrix.as_slice() {
        Some(slice) => Some(NdTensorView::from_data([rows, columns], slice)),
        None => {
            let columns_first = matrix.view().reversed_axes();
            let slice = columns_first.to_slice()?;
            Some(NdTensorView::from_data([columns, rows], slice).transposed())
        }
    }
}

fn misfit(shape: GemmShape) -> Vec<f32> {
    debug_assert!(false, "gemm operands do not fit {shape:?}");
    vec![0.0; shape.n * shape.o]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small integers, so that every order of summation gives the same.
    fn values(len: usize, seed: usize) -> Vec<f32> {
        let value = |i: usize| ((i * 7 + seed * 3) % 11) as f32 - 5.0;
        (0..len).map(value).collect()
    }

    #[test]
    fn every_small_shape_is_three_plain_loops() {
        for n in 0..6 {
            for k in 0..6 {
                for o in 0..6 {
                    let (x, w) = (values(n * k, 1), values(o * k, 2));
                    let product = |row: usize, channel: usize| -> f32 {
                        (0..k).map(|i| x[row * k + i] * w[channel * k + i]).sum()
                    };
                    let expected: Vec<f32> = (0..n)
                        .flat_map(|row| (0..o).map(move |channel| (row, channel)))
                        .map(|(row, channel)| product(row, channel))
                        .collect();
                    let shape = GemmShape { n, k, o };
                    assert_eq!(gemm_f32(&x, &w, shape), expected, "{shape:?}");
                }
            }
        }
    }

    #[test]
    fn the_layout_of_the_right_operand_does_not_change_a_bit() {
        for (n, k, o) in [
            (1, 1, 1),
            (1, 7, 5),
            (3, 300, 1),
            (5, 64, 33),
            (130, 700, 65),
        ] {
            let shape = GemmShape { n, k, o };
            let rough = |len: usize, seed: usize| -> Vec<f32> {
                let values = values(len, seed).into_iter().enumerate();
                values.map(|(i, x)| x + (i as f32 * 0.37).sin()).collect()
            };
            let (x, w) = (rough(n * k, 1), rough(o * k, 2));
            let w = ArrayView2::from_shape((o, k), &w).unwrap();
            let columns = w.t().as_standard_layout().into_owned();
            let rows = gemm_f32_on(&x, w, shape);
            let columns = gemm_f32_on(&x, columns.t(), shape);
            let bits = |y: Vec<f32>| y.into_iter().map(f32::to_bits).collect::<Vec<u32>>();
            assert_eq!(bits(rows), bits(columns), "{shape:?}");
        }
    }
}
