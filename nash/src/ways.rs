//! The ways to run a Linear. A name is the dtype of the activation, then of the weight `[pub]`.
//! Only names and dtypes; what a way costs and where it is legal is said elsewhere.

use std::fmt;
use std::str::FromStr;

use crate::dtype::IntDtype;
use crate::error::ParseError;

/// How a Linear runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Way {
    /// int8 in, int8 weight per channel: the plain baseline.
    A8W8,
    /// The article's case 1: int16 in, int8 weight per channel, int16 out.
    A16W8,
    /// The article's case 2: int8 in, int16 weight per channel, int16 out.
    A8W16,
    /// The article's case 3: Mul, ReduceSum and Add, everything int16 per tensor.
    MulSum,
    /// Weight in two int8 planes: two Linears and an int16 Add.
    Split,
    /// Native dual int16.
    A16W16,
}

impl Way {
    /// The ways that are measured against each other where int8 hurts: all but the baseline.
    pub const FIVE: [Self; 5] = [
        Self::A16W8,
        Self::A8W16,
        Self::MulSum,
        Self::Split,
        Self::A16W16,
    ];

    /// Every way.
    pub const ALL: [Self; 6] = [
        Self::A8W8,
        Self::A16W8,
        Self::A8W16,
        Self::MulSum,
        Self::Split,
        Self::A16W16,
    ];

    /// What a person types and a table prints.
    pub const fn name(self) -> &'static str {
        match self {
            Self::A8W8 => "a8w8",
            Self::A16W8 => "a16w8",
            Self::A8W16 => "a8w16",
            Self::MulSum => "mul_sum",
            Self::Split => "split",
            Self::A16W16 => "a16w16",
        }
    }

    /// Dtype of the Linear's input.
    pub const fn activation_dtype(self) -> IntDtype {
        match self {
            Self::A8W8 | Self::A8W16 => IntDtype::Int8,
            Self::A16W8 | Self::MulSum | Self::Split | Self::A16W16 => IntDtype::Int16,
        }
    }

    /// Dtype of the weight as the chip stores it; for `split`, of each plane.
    pub const fn weight_dtype(self) -> IntDtype {
        match self {
            Self::A8W8 | Self::A16W8 | Self::Split => IntDtype::Int8,
            Self::A8W16 | Self::MulSum | Self::A16W16 => IntDtype::Int16,
        }
    }

    /// Whether the weight has a scale for each output channel. In `mul_sum` it is an operand of
    /// Mul, hence an activation, hence one scale for the tensor `[pub]`.
    pub const fn weight_per_channel(self) -> bool {
        !matches!(self, Self::MulSum)
    }

    /// int16 operands of the GEMM that this way needs, where it needs one.
    pub const fn int16_gemm_operands(self) -> Option<u32> {
        match self {
            Self::MulSum => None,
            Self::A8W8 => Some(0),
            Self::A16W8 | Self::A8W16 | Self::Split => Some(1),
            Self::A16W16 => Some(2),
        }
    }

    /// Whether the last op is a GEMM that can keep a high-precision output: not `a16w16` `[pub]`,
    /// and not the two ways that end in an int16 Add.
    pub const fn can_keep_high_precision(self) -> bool {
        matches!(self, Self::A8W8 | Self::A16W8 | Self::A8W16)
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Way {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|way| way.name() == s)
            .ok_or_else(|| ParseError {
                what: "way",
                got: s.to_owned(),
                expected: "a8w8, a16w8, a8w16, mul_sum, split, a16w16",
            })
    }
}
