//! Slopes of the functions that run by table.

use std::borrow::Cow;

use dual16_nash::lut::LutFunction;

use super::finite;
use crate::tensor::Tensor;

/// f'(x) by element, from x and y = f(x) where that spares a function; 0 where it is not finite.
pub(super) fn slopes<'v>(function: LutFunction, x: &Tensor, y: &Tensor) -> Cow<'v, [f32]> {
    let pairs = x.iter().zip(y);
    let slopes = pairs.map(|(&x, &y)| finite(slope(function, x.into(), y.into()) as f32));
    slopes.collect()
}

fn slope(function: LutFunction, x: f64, y: f64) -> f64 {
    match function {
        LutFunction::Sigmoid => y * (1.0 - y),
        LutFunction::Tanh => 1.0 - y * y,
        LutFunction::Gelu => {
            let density = libm::exp(-0.5 * x * x) / (2.0 * std::f64::consts::PI).sqrt();
            let below = match x.abs() < 1e-3 {
                true => 0.5 + x * density,
                false => y / x,
            };
            below + x * density
        }
        LutFunction::Silu => {
            let sigmoid = LutFunction::Sigmoid.eval(x);
            sigmoid * (1.0 + x * (1.0 - sigmoid))
        }
        LutFunction::Exp => y,
        LutFunction::Rsqrt { .. } => -0.5 * y * y * y,
        LutFunction::Reciprocal => -y * y,
        LutFunction::Sqrt => 0.5 / y,
        LutFunction::Log => 1.0 / x,
        LutFunction::Erf => std::f64::consts::FRAC_2_SQRT_PI * libm::exp(-x * x),
        LutFunction::Softplus => LutFunction::Sigmoid.eval(x),
        _ => {
            // Central difference in f64; the step balances its two errors.
            let step = 1e-5 * x.abs().max(1.0);
            (function.eval(x + step) - function.eval(x - step)) / (2.0 * step)
        }
    }
}
