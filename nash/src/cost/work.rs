//! What an operator makes the chip do, in counts.

use serde::{Deserialize, Serialize};

use crate::dtype::IntDtype;

/// Multiply-accumulates on the matrix unit, by what is multiplied: the toolchain's four buckets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Macs {
    /// `double int8 macs`.
    pub double_int8: u64,
    /// `feature int8 weight int16 macs`.
    pub feature_int8_weight_int16: u64,
    /// `feature int16 weight int8 macs`.
    pub feature_int16_weight_int8: u64,
    /// `double int16 macs`.
    pub double_int16: u64,
}

impl Macs {
    /// The buckets' names in the toolchain's reports, in the order of [`Macs::counts`].
    pub const NAMES: [&'static str; 4] = [
        "double int8 macs",
        "feature int8 weight int16 macs",
        "feature int16 weight int8 macs",
        "double int16 macs",
    ];

    /// `count` multiply-accumulates of a feature and a weight of these formats.
    pub fn of(feature: IntDtype, weight: IntDtype, count: u64) -> Self {
        let mut macs = Self::default();
        let bucket = match (feature, weight) {
            (IntDtype::Int8, IntDtype::Int8) => &mut macs.double_int8,
            (IntDtype::Int8, IntDtype::Int16) => &mut macs.feature_int8_weight_int16,
            (IntDtype::Int16, IntDtype::Int8) => &mut macs.feature_int16_weight_int8,
            (IntDtype::Int16, IntDtype::Int16) => &mut macs.double_int16,
        };
        *bucket = count;
        macs
    }

    /// The four counts.
    pub fn counts(self) -> [u64; 4] {
        [
            self.double_int8,
            self.feature_int8_weight_int16,
            self.feature_int16_weight_int8,
            self.double_int16,
        ]
    }

    /// All of them.
    pub fn total(self) -> u64 {
        self.counts().into_iter().fold(0, u64::saturating_add)
    }

    fn plus(self, other: Self) -> Self {
        let [a, b, c, d] = other.counts();
        Self {
            double_int8: self.double_int8.saturating_add(a),
            feature_int8_weight_int16: self.feature_int8_weight_int16.saturating_add(b),
            feature_int16_weight_int8: self.feature_int16_weight_int8.saturating_add(c),
            double_int16: self.double_int16.saturating_add(d),
        }
    }
}

/// Elements that pass through a unit, by their format; an int16 one takes the room of two int8 ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elements {
    /// int8 elements.
    pub int8: u64,
    /// int16 elements.
    pub int16: u64,
}

impl Elements {
    /// `count` elements of one format.
    pub fn of(dtype: IntDtype, count: u64) -> Self {
        match dtype {
            IntDtype::Int8 => Self {
                int8: count,
                int16: 0,
            },
            IntDtype::Int16 => Self {
                int8: 0,
                int16: count,
            },
        }
    }

    /// Elements of either format.
    pub fn total(self) -> u64 {
        self.int8.saturating_add(self.int16)
    }

    fn plus(self, other: Self) -> Self {
        Self {
            int8: self.int8.saturating_add(other.int8),
            int16: self.int16.saturating_add(other.int16),
        }
    }
}

/// What an operator, or a whole plan, makes the chip do once. Every count saturates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Operators that are started; what is fused or free counts none.
    pub launches: u64,
    /// On the matrix unit.
    pub macs: Macs,
    /// On the vector unit: elementwise operations and reductions, by the larger side of each.
    pub vector: Elements,
    /// Through look-up tables.
    pub lut: Elements,
    /// Elements of fp16 arithmetic.
    pub fp16_elements: u64,
    /// Bytes read and written to give values another place (transpose, slice, concat).
    pub moved_bytes: u64,
    /// Bytes read and written where a tensor goes from int8 to int16 or back.
    pub requantized_bytes: u64,
    /// Bytes from memory outside the chip: weights, inputs, what does not stay on the chip.
    pub loaded_bytes: u64,
    /// Bytes to memory outside the chip.
    pub stored_bytes: u64,
    /// Operators that run in float outside the matrix and vector units.
    pub float_islands: u64,
    /// Bytes of integers that become floats for them, or for fp16 arithmetic.
    pub dequantized_bytes: u64,
    /// Bytes of integers that are made of their floats.
    pub quantized_bytes: u64,
}

impl Work {
    /// A tensor of `count` elements goes from one format to another: an operator of its own.
    pub fn requantize(from: IntDtype, to: IntDtype, count: u64) -> Self {
        let each = (from.bytes() + to.bytes()) as u64;
        Self {
            launches: 1,
            requantized_bytes: count.saturating_mul(each),
            ..Self::default()
        }
    }

    /// Both, one after the other.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let add = u64::saturating_add;
        Self {
            launches: add(self.launches, other.launches),
            macs: self.macs.plus(other.macs),
            vector: self.vector.plus(other.vector),
            lut: self.lut.plus(other.lut),
            fp16_elements: add(self.fp16_elements, other.fp16_elements),
            moved_bytes: add(self.moved_bytes, other.moved_bytes),
            requantized_bytes: add(self.requantized_bytes, other.requantized_bytes),
            loaded_bytes: add(self.loaded_bytes, other.loaded_bytes),
            stored_bytes: add(self.stored_bytes, other.stored_bytes),
            float_islands: add(self.float_islands, other.float_islands),
            dequantized_bytes: add(self.dequantized_bytes, other.dequantized_bytes),
            quantized_bytes: add(self.quantized_bytes, other.quantized_bytes),
        }
    }
}

impl std::iter::Sum for Work {
    fn sum<I: Iterator<Item = Self>>(works: I) -> Self {
        works.fold(Self::default(), Self::plus)
    }
}
