//! The fused mul+sum in AVX-512 with VNNI, for product shifts 17 to 45. Knows nothing of the other
//! shifts; [`super::scalar`] has them.
//!
//! A product is requantized without ever being formed. With `w * m = hi * 2^16 + lo`, lo signed and
//! known in advance, `(x * w * m + 2^(k-1)) >> k` is `(x * hi + (x * lo >> 16) + 2^(k-17)) >> (k-16)`:
//! the rounding constant has no bits below 2^16, so dropping those of `x * lo` first is exact. The
//! middle term is one `vpmulhw`, and the bracket one `vpdpwssd` of the pairs (x, x * lo >> 16) and
//! (hi, 1) onto the constant. Bounds: |hi| <= 2^14 and |x * lo >> 16| <= 2^14, so the bracket stays
//! below 2^29 + 2^14 + 2^28.
//!
//! Products can clip only below shift 30 (2^45 >> 30 is 2^15), and there 2^15 on top of the bracket
//! still fits: a product in range then has no bit above the 16th, so an OR watches for clipping, and
//! only a step that met it counts.
#![allow(unsafe_code, reason = "vector instructions behind proven features")]

use std::arch::x86_64::{
    __m128i, __m512i, _mm_add_epi32, _mm_cvtsi32_si128, _mm_storeu_si128, _mm256_add_epi32,
    _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_hadd_epi32, _mm512_castsi512_si256,
    _mm512_dpwssd_epi32, _mm512_extracti64x4_epi64, _mm512_loadu_si512, _mm512_mask_mulhi_epi16,
    _mm512_maskz_loadu_epi16, _mm512_mulhi_epi16, _mm512_mullo_epi16, _mm512_packs_epi32,
    _mm512_packus_epi32, _mm512_set1_epi16, _mm512_set1_epi32, _mm512_setzero_si512,
    _mm512_sra_epi32, _mm512_srai_epi16, _mm512_sub_epi16, _mm512_ternarylogic_epi32,
    _mm512_test_epi16_mask, _mm512_test_epi32_mask, _mm512_unpackhi_epi16, _mm512_unpacklo_epi16,
    _mm512_xor_si512,
};

use super::MulSumCounts;
use super::scalar::{fits, row_amax};
use crate::linear::GemmShape;
use crate::requant::Rescale;
use crate::simd::Avx512;

/// Products in one step.
const LANES: usize = 32;

/// A tile: every weight is loaded once for two rows, every x spread out once for four channels.
const ROWS: usize = 2;
const CHANNELS: usize = 4;

/// Steps whose sums stay in i32, across the lanes as well: 2^10 * 2^5 * 2^15 = 2^30.
const BLOCK: usize = 1 << 10;

/// See [`super::mul_sum`].
///
/// # Panics
/// Where a buffer is smaller than `shape` asks for.
pub(super) fn mul_sum(
    _: Avx512,
    x: &[i16],
    w: &[i16],
    shape: GemmShape,
    product: Rescale,
    sum: Rescale,
    out: &mut [i16],
) -> MulSumCounts {
    debug_assert!(super::VECTOR_SHIFTS.contains(&product.shift()));
    // SAFETY: the token proves the features.
    unsafe { fused(x, w, shape, product, sum, out) }
}

/// 32 weights, in the order in which `vpunpck` spreads 32 values of x.
#[derive(Clone, Copy)]
struct Weights {
    /// (anything, lo): only the upper half of a pair is used.
    lo: [__m512i; 2],
    /// (hi, 1).
    hi: [__m512i; 2],
}

/// One step of all channels of a tile.
type Panel = [Weights; CHANNELS];

#[derive(Clone, Copy)]
struct Constants {
    m: __m512i,
    half: __m512i,
    /// The same plus 2^15 where a product ends up; for shifts below 30, where one can clip.
    offset_half: __m512i,
    shift: __m128i,
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni,popcnt")]
fn fused(
    x: &[i16],
    w: &[i16],
    GemmShape { n, k, o }: GemmShape,
    product: Rescale,
    sum: Rescale,
    out: &mut [i16],
) -> MulSumCounts {
    let half = 1 << (product.shift() - 17);
    let constants = Constants {
        // A multiplier is below 2^15.
        m: _mm512_set1_epi16(product.multiplier() as i16),
        half: _mm512_set1_epi32(half),
        offset_half: _mm512_set1_epi32(half.wrapping_add(1 << (product.shift() - 1).min(30))),
        shift: _mm_cvtsi32_si128(product.shift() - 16),
    };
    let (x_amax, w_amax) = (row_amax(x, n, k), row_amax(w, o, k));
    let mut panel = Vec::with_capacity(k.div_ceil(LANES));
    let mut tally = Tally::default();
    for channel in (0..o).step_by(CHANNELS) {
        let channels = channel..o.min(channel + CHANNELS);
        pack(&w[channel * k..channels.end * k], k, constants, &mut panel);
        let w_max = w_amax[channels.clone()].iter().max().unwrap_or(&0);
        for row in (0..n).step_by(ROWS) {
            let rows = row..n.min(row + ROWS);
            let x_max = x_amax[rows.clone()].iter().max().unwrap_or(&0);
            // Many tiles cannot clip, and then nothing needs to be watched.
            let clips = !fits(x_max * w_max, product);
            let x_row = |r: usize| &x[r * k..(r + 1) * k];
            let sums = if rows.len() == ROWS {
                rows_sums(
                    [x_row(row), x_row(row + 1)],
                    &panel,
                    constants,
                    clips,
                    &mut tally,
                )
            } else {
                let [sums] = rows_sums([x_row(row)], &panel, constants, clips, &mut tally);
                [sums, [0; CHANNELS]]
            };
            for (row, sums) in rows.zip(sums) {
                let out = &mut out[row * o..][channels.clone()];
                for (out, acc) in out.iter_mut().zip(sums) {
                    *out = sum.requant(acc);
                }
            }
        }
    }
    MulSumCounts {
        zero: (n * o) as u64 * k as u64 - tally.nonzero,
        clipped: tally.clipped,
    }
}

/// Counts over all tiles. Padding gives zeros, so what is not zero is counted.
#[derive(Default)]
struct Tally {
    nonzero: u64,
    clipped: u64,
}

/// Weight rows of length k as steps of a panel, padded with zeros.
#[target_feature(enable = "avx512f,avx512bw")]
fn pack(rows: &[i16], k: usize, constants: Constants, panel: &mut Vec<Panel>) {
    panel.clear();
    panel.resize(k.div_ceil(LANES), [Weights::zero(); CHANNELS]);
    if k == 0 {
        return;
    }
    for (channel, row) in rows.chunks_exact(k).enumerate() {
        for (step, values) in panel.iter_mut().zip(row.chunks(LANES)) {
            step[channel] = Weights::new(load(values), constants.m);
        }
    }
}

impl Weights {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn zero() -> Self {
        Self {
            lo: [_mm512_setzero_si512(); 2],
            hi: [_mm512_setzero_si512(); 2],
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn new(w: __m512i, m: __m512i) -> Self {
        let lo = _mm512_mullo_epi16(w, m);
        // One more where the lower half, read as signed, is negative.
        let hi = _mm512_sub_epi16(_mm512_mulhi_epi16(w, m), _mm512_srai_epi16::<15>(lo));
        let one = _mm512_set1_epi16(1);
        Self {
            lo: [_mm512_unpacklo_epi16(lo, lo), _mm512_unpackhi_epi16(lo, lo)],
            hi: [
                _mm512_unpacklo_epi16(hi, one),
                _mm512_unpackhi_epi16(hi, one),
            ],
        }
    }
}

/// Sums of the requantized products of R rows with all channels of a panel.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,popcnt")]
fn rows_sums<const R: usize>(
    x: [&[i16]; R],
    panel: &[Panel],
    constants: Constants,
    clips: bool,
    tally: &mut Tally,
) -> [[i64; CHANNELS]; R] {
    let mut total = [[0; CHANNELS]; R];
    for (block, panel) in panel.chunks(BLOCK).enumerate() {
        let x = x.map(|row| {
            let start = block * BLOCK * LANES;
            &row[start..row.len().min(start + BLOCK * LANES)]
        });
        let sums = if clips {
            tile::<R, true>(x, panel, constants, tally)
        } else {
            tile::<R, false>(x, panel, constants, tally)
        };
        for (total, sum) in total.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
            *total += i64::from(*sum);
        }
    }
    total
}

/// One block of a tile. `x` are rows of the same length, which `panel` covers.
///
/// Not inlined, so that its registers are its own.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,popcnt")]
fn tile<const R: usize, const CLIPS: bool>(
    x: [&[i16]; R],
    panel: &[Panel],
    constants: Constants,
    tally: &mut Tally,
) -> [[i32; CHANNELS]; R] {
    let mut sums = TileSums::<R>::zero();
    let (full, last) = panel.split_at(x[0].len() / LANES);
    for (i, weights) in full.iter().enumerate() {
        let x = x.map(|row| load(&row[i * LANES..(i + 1) * LANES]));
        sums.step::<CLIPS>(x, weights, constants);
    }
    for weights in last {
        let x = x.map(|row| load(&row[full.len() * LANES..]));
        sums.step::<CLIPS>(x, weights, constants);
    }
    tally.nonzero += sums.nonzero;
    tally.clipped += sums.clipped;
    sums.sums.map(|row| across_lanes(row))
}

/// What one block of a tile adds up.
struct TileSums<const R: usize> {
    sums: [[__m512i; CHANNELS]; R],
    nonzero: u64,
    clipped: u64,
}

impl<const R: usize> TileSums<R> {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn zero() -> Self {
        Self {
            sums: [[_mm512_setzero_si512(); CHANNELS]; R],
            nonzero: 0,
            clipped: 0,
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,popcnt")]
    fn step<const CLIPS: bool>(&mut self, x: [__m512i; R], weights: &Panel, constants: Constants) {
        const ANY_OF_THREE: i32 = 0xfe;
        let one = _mm512_set1_epi16(1);
        let spread = x.map(|x| [_mm512_unpacklo_epi16(x, x), _mm512_unpackhi_epi16(x, x)]);
        // Every bit that is set in any product + 2^15: none above the 16th where all fit.
        let mut seen = _mm512_setzero_si512();
        for (channel, w) in weights.iter().enumerate() {
            for (sums, x) in self.sums.iter_mut().zip(spread) {
                // The packing saturates, and undoes the order of the unpacking.
                let q = if CLIPS {
                    let wide = products(x, w, constants.offset_half, constants.shift);
                    seen = _mm512_ternarylogic_epi32::<ANY_OF_THREE>(seen, wide[0], wide[1]);
                    let offset = _mm512_set1_epi16(i16::MIN);
                    _mm512_xor_si512(_mm512_packus_epi32(wide[0], wide[1]), offset)
                } else {
                    let wide = products(x, w, constants.half, constants.shift);
                    _mm512_packs_epi32(wide[0], wide[1])
                };
                sums[channel] = _mm512_dpwssd_epi32(sums[channel], q, one);
                self.nonzero += u64::from(_mm512_test_epi16_mask(q, q).count_ones());
            }
        }
        if CLIPS && any_outside(seen) {
            self.clipped += count_clips(&spread, weights, constants);
        }
    }
}

/// The products of 32 values with 32 weights, requantized on top of a rounding constant.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn products(x: [__m512i; 2], w: &Weights, rounding: __m512i, shift: __m128i) -> [__m512i; 2] {
    const UPPER_OF_PAIR: u32 = 0xaaaa_aaaa;
    [0, 1].map(|i| {
        let pair = _mm512_mask_mulhi_epi16(x[i], UPPER_OF_PAIR, x[i], w.lo[i]);
        _mm512_sra_epi32(_mm512_dpwssd_epi32(rounding, pair, w.hi[i]), shift)
    })
}

/// Products of one step that clip. Apart, since few steps meet any: only then are they made again.
#[cold]
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,popcnt")]
fn count_clips<const R: usize>(
    x: &[[__m512i; 2]; R],
    weights: &Panel,
    Constants {
        offset_half, shift, ..
    }: Constants,
) -> u64 {
    let mut clipped = 0;
    for w in weights {
        for &x in x {
            for wide in products(x, w, offset_half, shift) {
                clipped += u64::from(_mm512_test_epi32_mask(wide, above_16_bits()).count_ones());
            }
        }
    }
    clipped
}

/// Whether any value has a bit above the 16th.
#[inline]
#[target_feature(enable = "avx512f")]
fn any_outside(v: __m512i) -> bool {
    _mm512_test_epi32_mask(v, above_16_bits()) != 0
}

#[inline]
#[target_feature(enable = "avx512f")]
fn above_16_bits() -> __m512i {
    _mm512_set1_epi32(i32::from(u16::MAX) << 16)
}

/// The sum over the lanes of each vector. Together they take a third of the instructions that they
/// would one by one, which shows where K is a few hundred.
#[inline]
#[target_feature(enable = "avx512f")]
fn across_lanes(v: [__m512i; CHANNELS]) -> [i32; CHANNELS] {
    let [a, b, c, d] =
        v.map(|v| _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64::<1>(v)));
    let halves = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    let sums = _mm_add_epi32(
        _mm256_castsi256_si128(halves),
        _mm256_extracti128_si256::<1>(halves),
    );
    let mut out = [0; CHANNELS];
    // SAFETY: 16 writable bytes; the store asks for no alignment.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), sums) };
    out
}

/// Up to 32 values, the missing ones 0.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load(values: &[i16]) -> __m512i {
    if let Some(all) = values.first_chunk::<LANES>() {
        // SAFETY: 64 readable bytes; the load asks for no alignment.
        return unsafe { _mm512_loadu_si512(all.as_ptr().cast()) };
    }
    let some = (1u32 << values.len()) - 1;
    // SAFETY: masked elements are not read; those below `values.len()` are readable.
    unsafe { _mm512_maskz_loadu_epi16(some, values.as_ptr()) }
}
