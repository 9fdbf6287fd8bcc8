//! One multiplier for each output channel, spread out so that a run of accumulators is requantized
//! in vectors: what a GEMM does with its sums. Knows no GEMM.

use super::{FAST_LIMIT, MAX_SHIFT, Rescale};
use crate::dtype::QInt;
use crate::simd::{Isa, for_each_isa};

/// Bias and multiplier of every channel.
pub(crate) struct Channels<'a> {
    rescales: &'a [Rescale],
    bias: Vec<i64>,
    m: Vec<i64>,
    half: Vec<i64>,
    shift: Vec<u64>,
}

/// Those of a run of channels, all of one length.
#[derive(Clone, Copy)]
struct Run<'a> {
    bias: &'a [i64],
    m: &'a [i64],
    half: &'a [i64],
    shift: &'a [u64],
}

impl<'a> Channels<'a> {
    /// `rescales` has `count` entries or one for all; `bias` has `count`.
    pub(crate) fn new(count: usize, rescales: &'a [Rescale], bias: Option<&[i32]>) -> Self {
        let of = |channel: usize| rescales[if rescales.len() == 1 { 0 } else { channel }];
        // Beyond the largest shift every result is 0, which a multiplier of 0 gives as well.
        let used = |channel| Some(of(channel)).filter(|r| r.shift() <= MAX_SHIFT);
        let half = |r: Rescale| 1 << (r.shift() - 1);
        Self {
            rescales,
            bias: bias_of(count, bias),
            m: (0..count)
                .map(|c| used(c).map_or(0, |r| r.multiplier().into()))
                .collect(),
            half: (0..count).map(|c| used(c).map_or(0, half)).collect(),
            shift: (0..count)
                .map(|c| used(c).map_or(0, |r| r.shift() as u64))
                .collect(),
        }
    }

    /// `y[i] = requant(sums[i] + bias)` for the channels from `first` on; the largest
    /// |accumulator|.
    pub(crate) fn requant<Y: QInt>(
        &self,
        isa: Isa,
        first: usize,
        sums: &[i64],
        y: &mut [Y],
    ) -> u64 {
        let channels = first..first + sums.len();
        let run = Run {
            bias: &self.bias[channels.clone()],
            m: &self.m[channels.clone()],
            half: &self.half[channels.clone()],
            shift: &self.shift[channels.clone()],
        };
        let peak = requant(isa, sums, run, y);
        if peak > FAST_LIMIT {
            self.requant_wide(channels, sums, y);
        }
        peak
    }

    /// Accumulators that leave no room for the multiplier in 64 bits.
    #[cold]
    fn requant_wide<Y: QInt>(&self, channels: std::ops::Range<usize>, sums: &[i64], y: &mut [Y]) {
        for ((channel, &sum), y) in channels.zip(sums).zip(y) {
            let rescale = self.rescales[if self.rescales.len() == 1 { 0 } else { channel }];
            *y = rescale.requant(sum + self.bias[channel]);
        }
    }
}

/// The bias of each channel as accumulators take it, 0 where there is none.
pub(crate) fn bias_of(count: usize, bias: Option<&[i32]>) -> Vec<i64> {
    match bias {
        Some(bias) => bias.iter().map(|&b| b.into()).collect(),
        None => vec![0; count],
    }
}

for_each_isa! {
    /// Right for accumulators up to [`FAST_LIMIT`], which the result tells.
    fn requant<Y: QInt>(sums: &[i64], channels: Run<'_>, y: &mut [Y]) -> u64 {
        portable: requant_run,
        vector: requant_run,
    }
}

#[inline(always)]
fn requant_run<Y: QInt>(sums: &[i64], channels: Run<'_>, y: &mut [Y]) -> u64 {
    let len = sums.len();
    let Run {
        bias,
        m,
        half,
        shift,
    } = channels;
    // One length for all, known before the loop.
    let (bias, m) = (&bias[..len], &m[..len]);
    let (half, shift, y) = (&half[..len], &shift[..len], &mut y[..len]);
    let mut peak = 0u64;
    for i in 0..len {
        let acc = sums[i].wrapping_add(bias[i]);
        peak = peak.max(acc.unsigned_abs());
        let scaled = acc.wrapping_mul(m[i]).wrapping_add(half[i]);
        // A shift is 62 at most: the mask is only for the compiler.
        y[i] = Y::saturate(scaled >> (shift[i] & 63));
    }
    peak
}

for_each_isa! {
    /// `acc[i] = sums[i] + bias[i]`; the largest |acc|.
    pub(crate) fn add_bias(sums: &[i64], bias: &[i64], acc: &mut [i64]) -> u64 {
        portable: add_bias_run,
        vector: add_bias_run,
    }
}

#[inline(always)]
fn add_bias_run(sums: &[i64], bias: &[i64], acc: &mut [i64]) -> u64 {
    let mut peak = 0u64;
    for ((acc, &sum), &bias) in acc.iter_mut().zip(sums).zip(bias) {
        *acc = sum.wrapping_add(bias);
        peak = peak.max(acc.unsigned_abs());
    }
    peak
}
