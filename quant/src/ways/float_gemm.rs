//! The one f32 matrix product of VALIDATION and of what calibration computes itself.

use dual16_nash::linear::GemmShape;
use ndarray::{Array2, ArrayView2, linalg::general_mat_mul};

/// `x [n, k] * w [o, k]^T`, row-major. Single-threaded, so its result does not depend on the number
/// of threads; tasks are what runs in parallel.
///
/// Gives zeros where the slices do not have the sizes of `shape`, which no caller lets happen.
pub(crate) fn gemm_f32(x: &[f32], w: &[f32], shape: GemmShape) -> Vec<f32> {
    match ArrayView2::from_shape((shape.o, shape.k), w) {
        Ok(w) => gemm_f32_on(x, w, shape),
        Err(_) => misfit(shape),
    }
}

/// [`gemm_f32`] with a right operand `[o, k]` of any layout, which is not copied. The layout does not
/// change the result: the kernel packs both operands in one order.
pub(crate) fn gemm_f32_on(x: &[f32], w: ArrayView2<'_, f32>, shape: GemmShape) -> Vec<f32> {
    let GemmShape { n, k, o } = shape;
    let Ok(x) = ArrayView2::from_shape((n, k), x) else {
        return misfit(shape);
    };
    if w.dim() != (o, k) {
        return misfit(shape);
    }
    let mut y = Array2::zeros((n, o));
    // Into memory whose layout is known: where n, k or o is 1, `dot` is free to give columns.
    general_mat_mul(1.0, &x, &w.t(), 0.0, &mut y);
    y.into_raw_vec_and_offset().0
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
