//! Functions of one variable over whole tensors, as analyses compute them: in f32, by rten's vector kernels where
//! it has the function (at most a few units in the last place from [`LutFunction::eval_f32`]). The float values and
//! every disturbed run go through the same kernels, so a difference between them is no matter of these.

use dual16_nash::lut::LutFunction;
use rten_simd::SimdUnaryOp;
use rten_vecmath::{ApproxGelu, Erf, Exp, Gelu, Sigmoid, Silu, Tanh};

/// The function of every element; `step` is that of the input's grid, on which a table has values where the
/// function is singular.
pub(super) fn values(function: LutFunction, step: Option<f64>, x: &[f32]) -> Vec<f32> {
    let mapped = |kernel: &dyn Fn(&mut [f32])| {
        let mut y = x.to_vec();
        kernel(&mut y);
        y
    };
    match function {
        LutFunction::Exp => mapped(&|y| Exp {}.map_mut(y)),
        LutFunction::Erf => mapped(&|y| Erf {}.map_mut(y)),
        LutFunction::Gelu => mapped(&|y| Gelu {}.map_mut(y)),
        LutFunction::GeluTanh => mapped(&|y| ApproxGelu {}.map_mut(y)),
        LutFunction::Sigmoid => mapped(&|y| Sigmoid {}.map_mut(y)),
        LutFunction::Silu => mapped(&|y| Silu {}.map_mut(y)),
        LutFunction::Tanh => mapped(&|y| Tanh {}.map_mut(y)),
        _ => x
            .iter()
            .map(|&x| match step {
                Some(step) => function.eval_on_grid(x.into(), step) as f32,
                None => function.eval_f32(x),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Largest error, relative to the larger of the value and 1.
    const NEAR: f64 = 4.0 * f32::EPSILON as f64;

    #[test]
    fn kernels_are_the_functions() {
        let x: Vec<f32> = (-4000..4000).map(|i| i as f32 * 0.0047).collect();
        for function in [
            LutFunction::Exp,
            LutFunction::Erf,
            LutFunction::Gelu,
            LutFunction::GeluTanh,
            LutFunction::Sigmoid,
            LutFunction::Silu,
            LutFunction::Tanh,
            LutFunction::Softplus,
        ] {
            for (x, y) in x.iter().zip(values(function, None, &x)) {
                let exact = function.eval((*x).into());
                let off = (f64::from(y) - exact).abs() / exact.abs().max(1.0);
                assert!(off <= NEAR, "{function} of {x}: {y} for {exact}");
            }
        }
    }

    #[test]
    fn a_value_does_not_depend_on_its_place() {
        let x: Vec<f32> = (0..67).map(|i| (i as f32 * 0.7).sin() * 9.0).collect();
        for function in [LutFunction::Exp, LutFunction::Gelu, LutFunction::Tanh] {
            let whole = values(function, None, &x);
            for cut in 0..x.len() {
                let part = values(function, None, &x[cut..]);
                assert_eq!(part, whole[cut..], "{function} from {cut}");
            }
        }
    }

    #[test]
    fn a_singular_point_has_the_value_of_the_grid() {
        let y = values(LutFunction::Reciprocal, Some(0.25), &[0.0, 0.5]);
        assert_eq!(y, [4.0, 2.0]);
    }
}
