//! The fused mul+sum in NEON, one row pair at a time, for product shifts 17 to 45: the algebra of
//! [`super::halves`] in `smull`, `smlal` and `ssra`, 8 products in one step. Knows no shapes.
#![allow(unsafe_code, reason = "vector instructions behind proven features")]

use std::arch::aarch64::{
    int16x8_t, int32x4_t, vaddlvq_s32, vceqq_s32, vceqzq_s16, vcombine_s16, vdupq_n_s32,
    vget_high_s16, vget_low_s16, vld1q_s16, vmlal_s16, vmovl_s16, vmull_s16, vmvnq_u32,
    vpadalq_s16, vqmovn_s32, vreinterpretq_s16_u16, vreinterpretq_s32_u32, vshlq_s32, vsraq_n_s32,
    vsubq_s32,
};

use super::MulSumCounts;
use super::halves::{Rounding, Row};
use crate::simd::Neon;

/// Products in one step.
const LANES: usize = 8;

/// Products whose sums and counts stay in i32 in every lane: 2^14 steps of 2^16 are 2^30.
const BLOCK: usize = LANES << 14;

/// Sum of the requantized products, and what happened to them. Nothing is compared with the ends of
/// int16 where `clips` says that nothing can leave it.
pub(super) fn sum_row(
    _: Neon,
    row: Row<'_>,
    rounding: Rounding,
    clips: bool,
) -> (i64, MulSumCounts) {
    let mut acc = 0;
    let mut counts = MulSumCounts::default();
    for row in row.blocks(BLOCK) {
        let (sum, more) = if clips {
            // SAFETY: the token proves the feature.
            unsafe { block::<true>(row, rounding) }
        } else {
            // SAFETY: as above.
            unsafe { block::<false>(row, rounding) }
        };
        acc += sum;
        counts = counts.merge(more);
    }
    (acc, counts)
}

#[target_feature(enable = "neon")]
fn block<const CLIPS: bool>(row: Row<'_>, rounding: Rounding) -> (i64, MulSumCounts) {
    let mut lanes = Lanes::new(rounding);
    let (x, x_rest) = row.x.as_chunks::<LANES>();
    let (hi, hi_rest) = row.hi.as_chunks::<LANES>();
    let (lo, lo_rest) = row.lo.as_chunks::<LANES>();
    for ((x, hi), lo) in x.iter().zip(hi).zip(lo) {
        lanes.step::<CLIPS>(load(x), load(hi), load(lo));
    }
    let missing = if x_rest.is_empty() {
        0
    } else {
        let [x, hi, lo] = [x_rest, hi_rest, lo_rest].map(|rest| load(&padded(rest)));
        lanes.step::<CLIPS>(x, hi, lo);
        LANES - x_rest.len()
    };
    let counts = MulSumCounts {
        // What is missing of the last step is 0, and was counted.
        zero: vaddlvq_s32(lanes.zero) as u64 - missing as u64,
        clipped: vaddlvq_s32(lanes.clipped) as u64,
    };
    (vaddlvq_s32(lanes.sum), counts)
}

/// Constants, and what is added up in every lane.
struct Lanes {
    half: int32x4_t,
    /// Shifts to the left by less than nothing, which is to the right.
    shift: int32x4_t,
    sum: int32x4_t,
    zero: int32x4_t,
    clipped: int32x4_t,
}

impl Lanes {
    #[inline]
    #[target_feature(enable = "neon")]
    fn new(Rounding { half, shift }: Rounding) -> Self {
        Self {
            half: vdupq_n_s32(half),
            shift: vdupq_n_s32(-shift),
            sum: vdupq_n_s32(0),
            zero: vdupq_n_s32(0),
            clipped: vdupq_n_s32(0),
        }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn step<const CLIPS: bool>(&mut self, x: int16x8_t, hi: int16x8_t, lo: int16x8_t) {
        let quarters = [
            (vget_low_s16(x), vget_low_s16(hi), vget_low_s16(lo)),
            (vget_high_s16(x), vget_high_s16(hi), vget_high_s16(lo)),
        ];
        let narrow = quarters.map(|(x, hi, lo)| {
            let bracket = vsraq_n_s32::<16>(vmlal_s16(self.half, x, hi), vmull_s16(x, lo));
            let wide = vshlq_s32(bracket, self.shift);
            let narrow = vqmovn_s32(wide);
            if CLIPS {
                // -1 for each value that saturation changed.
                let changed = vmvnq_u32(vceqq_s32(vmovl_s16(narrow), wide));
                self.clipped = vsubq_s32(self.clipped, vreinterpretq_s32_u32(changed));
            }
            narrow
        });
        let q = vcombine_s16(narrow[0], narrow[1]);
        self.sum = vpadalq_s16(self.sum, q);
        // -1 for each zero.
        let zeros = vpadalq_s16(vdupq_n_s32(0), vreinterpretq_s16_u16(vceqzq_s16(q)));
        self.zero = vsubq_s32(self.zero, zeros);
    }
}

/// Values of the last step, the missing ones 0.
fn padded(rest: &[i16]) -> [i16; LANES] {
    let mut all = [0; LANES];
    all[..rest.len()].copy_from_slice(rest);
    all
}

#[inline]
#[target_feature(enable = "neon")]
fn load(from: &[i16; LANES]) -> int16x8_t {
    // SAFETY: 16 readable bytes, aligned as int16.
    unsafe { vld1q_s16(from.as_ptr()) }
}
