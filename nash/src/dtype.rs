//! The two integer formats of the chip, at run time ([`IntDtype`]) and at compile time ([`QInt`]).
//!
//! Both are symmetric with zero point 0 `[pub]`. This module knows nothing of scales.

use std::fmt;
use std::str::FromStr;

use crate::error::ParseError;

/// Integer format of a quantized tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IntDtype {
    /// [-128, 127].
    Int8,
    /// [-32768, 32767].
    Int16,
}

impl IntDtype {
    /// Both formats, narrow first.
    pub const ALL: [Self; 2] = [Self::Int8, Self::Int16];

    /// Width in bits.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Int8 => 8,
            Self::Int16 => 16,
        }
    }

    /// Bytes of one element.
    pub const fn bytes(self) -> usize {
        self.bits() as usize / 8
    }

    /// Smallest value.
    pub const fn qmin(self) -> i32 {
        match self {
            Self::Int8 => i8::MIN as i32,
            Self::Int16 => i16::MIN as i32,
        }
    }

    /// Largest value.
    pub const fn qmax(self) -> i32 {
        match self {
            Self::Int8 => i8::MAX as i32,
            Self::Int16 => i16::MAX as i32,
        }
    }

    /// "int8" or "int16".
    pub const fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Int16 => "int16",
        }
    }
}

impl fmt::Display for IntDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for IntDtype {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|dtype| dtype.name() == s)
            .ok_or_else(|| ParseError {
                what: "dtype",
                got: s.to_owned(),
                expected: "int8, int16",
            })
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for i8 {}
    impl Sealed for i16 {}
}

/// Element type of a quantized tensor: `i8` or `i16`, nothing else.
pub trait QInt:
    sealed::Sealed
    + Copy
    + Default
    + Eq
    + Ord
    + fmt::Debug
    + Into<i32>
    + Into<i64>
    + Send
    + Sync
    + 'static
{
    /// The same format at run time.
    const DTYPE: IntDtype;

    /// Sign-extends.
    fn to_i32(self) -> i32 {
        self.into()
    }

    /// Sign-extends.
    fn to_i64(self) -> i64 {
        self.into()
    }

    /// The nearest value of the format.
    fn saturate(value: i64) -> Self;

    /// The nearest value of the format.
    fn saturate_i32(value: i32) -> Self;
}

macro_rules! impl_qint {
    ($ty:ty, $dtype:expr) => {
        impl QInt for $ty {
            const DTYPE: IntDtype = $dtype;

            #[inline(always)]
            fn saturate(value: i64) -> Self {
                value.clamp(<$ty>::MIN.into(), <$ty>::MAX.into()) as $ty
            }

            #[inline(always)]
            fn saturate_i32(value: i32) -> Self {
                value.clamp(<$ty>::MIN.into(), <$ty>::MAX.into()) as $ty
            }
        }
    };
}

impl_qint!(i8, IntDtype::Int8);
impl_qint!(i16, IntDtype::Int16);
