//! [`Rescale::apply`] in 32 bits, for operands that are known to be narrow: exact, and twice as many
//! at once as in 64 bits. Wrapping operations keep debug builds free of checks that would undo
//! vectorization; nothing wraps, by the bounds given with each.

use super::Rescale;

/// For an int8 or int16 value: `|v * m| < 2^30`, so from a shift of 31 on every result is 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OfValue {
    m: i32,
    half: i32,
    shift: u32,
}

impl OfValue {
    /// Shifts that need any arithmetic.
    const SHIFTS: std::ops::RangeInclusive<i32> = 1..=30;

    pub(crate) fn new(rescale: Rescale) -> Self {
        let k = rescale.shift();
        if !Self::SHIFTS.contains(&k) {
            return Self {
                m: 0,
                half: 0,
                shift: 0,
            };
        }
        Self {
            m: rescale.multiplier(),
            half: 1 << (k - 1),
            shift: k as u32,
        }
    }

    /// `value` in [-2^15, 2^15 - 1]; the result is within 2^29 on either side.
    #[inline(always)]
    pub(crate) fn apply(self, value: i32) -> i32 {
        value.wrapping_mul(self.m).wrapping_add(self.half) >> self.shift
    }
}

/// For a product of two int8 or int16 values, and shifts 17 to 45.
///
/// With p = hi * 2^16 + lo, `(p * m + 2^(k-1)) >> k` is
/// `(hi * m + ((lo * m) >> 16) + 2^(k-17)) >> (k - 16)`: the low 16 bits of `p * m + 2^(k-1)` are
/// those of `lo * m`, and a right shift drops them first. Bounds: |hi * m| < 2^29,
/// lo * m < 2^31, 2^(k-17) <= 2^28.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OfProduct {
    m: i16,
    half: i32,
    shift: u32,
}

impl OfProduct {
    /// Shifts from here on go without 64-bit arithmetic.
    pub(crate) const FIRST_SHIFT: i32 = 17;

    /// From this shift on `|p * m| < 2^45 <= 2^(k-1)`, so every product rounds to 0.
    pub(crate) const ZERO_SHIFT: i32 = 46;

    /// `None` for shifts below [`OfProduct::FIRST_SHIFT`].
    pub(crate) fn new(rescale: Rescale) -> Option<Self> {
        match rescale.shift() {
            Self::ZERO_SHIFT.. => Some(Self {
                m: 0,
                half: 0,
                shift: 0,
            }),
            k @ Self::FIRST_SHIFT.. => Some(Self {
                // A multiplier is below 2^15.
                m: rescale.multiplier() as i16,
                half: 1 << (k - 17),
                shift: (k - 16) as u32,
            }),
            _ => None,
        }
    }

    /// `p` within 2^30 on either side.
    #[inline(always)]
    pub(crate) fn apply(self, p: i32) -> i32 {
        // Spelled with 16-bit factors, so that 16-bit multiplications are recognised.
        let (hi, lo) = ((p >> 16) as i16, p as u16);
        let low_part = u32::from(lo).wrapping_mul(u32::from(self.m as u16)) >> 16;
        let high_part = i32::from(hi).wrapping_mul(i32::from(self.m));
        high_part
            .wrapping_add(low_part as i32)
            .wrapping_add(self.half)
            >> self.shift
    }
}
