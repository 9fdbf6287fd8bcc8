//! The real functions behind the tables, and what each does where it is singular. No integers here.

use std::fmt;

/// A function of one variable that runs as a look-up table.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum LutFunction {
    /// 1 / (1 + e^-x).
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// x * Phi(x), by erf: the exact form.
    Gelu,
    /// The tanh approximation of gelu.
    GeluTanh,
    /// x * sigmoid(x).
    Silu,
    /// e^x.
    Exp,
    /// 1 / sqrt(x + eps).
    Rsqrt {
        /// Added to x, as LayerNorm adds it to the variance.
        eps: f64,
    },
    /// 1 / x.
    Reciprocal,
    /// Square root.
    Sqrt,
    /// Natural logarithm.
    Log,
    /// Gauss error function.
    Erf,
    /// log(1 + e^x).
    Softplus,
}

impl LutFunction {
    /// Lower-case name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu_tanh",
            Self::Silu => "silu",
            Self::Exp => "exp",
            Self::Rsqrt { .. } => "rsqrt",
            Self::Reciprocal => "reciprocal",
            Self::Sqrt => "sqrt",
            Self::Log => "log",
            Self::Erf => "erf",
            Self::Softplus => "softplus",
        }
    }

    /// The function in f64. Outside of its domain the value is NaN or infinite, as IEEE has it.
    pub fn eval(self, x: f64) -> f64 {
        match self {
            Self::Sigmoid => sigmoid(x),
            Self::Tanh => libm::tanh(x),
            Self::Gelu => 0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2)),
            Self::GeluTanh => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
                0.5 * x * (1.0 + libm::tanh(inner))
            }
            Self::Silu => x * sigmoid(x),
            Self::Exp => libm::exp(x),
            Self::Rsqrt { eps } => 1.0 / (x + eps).sqrt(),
            Self::Reciprocal => 1.0 / x,
            Self::Sqrt => x.sqrt(),
            Self::Log => libm::log(x),
            Self::Erf => libm::erf(x),
            // Written so that neither side overflows.
            Self::Softplus => x.max(0.0) + libm::log1p(libm::exp(-x.abs())),
        }
    }

    /// The function for an f32 graph (VALIDATION): [`LutFunction::eval`], rounded once.
    pub fn eval_f32(self, x: f32) -> f32 {
        self.eval(x.into()) as f32
    }

    /// The function as a table on a grid of this step has it: where it is singular or undefined,
    /// its value at the nearest point of the grid where it is not `[our]`. So log and reciprocal
    /// at 0 (log below 0 too) become their values at one step, sqrt below 0 becomes 0, and rsqrt
    /// where x + eps <= 0 becomes its value at x = 0, or at one step where eps is 0.
    pub fn eval_on_grid(self, x: f64, step: f64) -> f64 {
        self.eval(match self {
            _ if !self.is_singular(x) => x,
            Self::Sqrt => 0.0,
            Self::Rsqrt { eps } if eps > 0.0 => 0.0,
            Self::Rsqrt { eps } => step - eps,
            _ => step,
        })
    }

    /// Whether the function has no finite value here, however large the numbers are.
    pub fn is_singular(self, x: f64) -> bool {
        match self {
            Self::Log => x <= 0.0,
            Self::Reciprocal => x == 0.0,
            Self::Sqrt => x < 0.0,
            Self::Rsqrt { eps } => x + eps <= 0.0,
            _ => false,
        }
    }
}

impl fmt::Display for LutFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}
