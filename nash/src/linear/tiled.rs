//! The integer GEMM in register tiles: packing, loops, and the bound that lets a tile sum in 32
//! bits. Knows no instruction set; the tile itself is given.
//!
//! All formats are one kernel. Its operands are int16 and come in pairs along k, one pair in 32
//! bits, so that a multiply-add of pairs (`vpmaddwd`, `vpdpwssd`, `smlal`) takes two products from
//! each.

use rayon::prelude::*;

use super::GemmShape;
use crate::dtype::QInt;

/// Pairs along k that are summed in i32 before they are widened.
///
/// A product is 2^22 at most: int16 times int8, or times a plane of [`Plane`]. A pair is 2^23, so
/// up to 255 of them stay within i32.
pub(super) const SAFE_PAIRS: usize = 192;
const _: () = assert!((SAFE_PAIRS as i64) << 23 < i32::MAX as i64);

/// Rows of x that are widened together; they stay in the second-level cache while all of w passes.
const ROW_CHUNK: usize = 256;

/// Sums of the largest tile.
const MAX_TILE: usize = 256;

/// Pairs of a row that are packed before the next row's, see [`pack`].
const PACK_COLUMNS: usize = 32;

/// What an instruction set does for the GEMM.
pub(super) trait Tile: Copy + Send + Sync {
    /// Rows of a tile.
    const ROWS: usize;

    /// Channels of a tile.
    const CHANNELS: usize;

    /// Adds to `sums[r * CHANNELS + c]`, for r below `rows`, the products of row r of x with column
    /// c of w, pair by pair. `x` is `[rows, pairs]`, `w` `[pairs, CHANNELS]`, and `rows` is in
    /// [1, ROWS]; the other rows of sums may change, or not.
    fn add(self, x: &[i32], rows: usize, w: &[i32], sums: &mut [i64]);

    /// Rows of w of length k, at most CHANNELS, as `[pairs, CHANNELS]`: entry `[j, c]` holds
    /// elements 2j and 2j + 1 of row c, the first in the low half. What is missing is 0, as `out`
    /// already is.
    fn pack<W: QInt>(self, rows: &[W], k: usize, plane: Plane, out: &mut [i32]);
}

/// What of an operand goes into a pack.
///
/// Where both are int16, a pair of products could reach 2^31. So w is taken apart as 256 * hi + lo
/// with lo in [-128, 127] and hi in [-128, 128], and each plane is a GEMM that fits the bound.
#[derive(Clone, Copy)]
pub(super) enum Plane {
    Whole,
    Hi,
    Lo,
}

impl Plane {
    fn of_formats<A: QInt, W: QInt>() -> &'static [Self] {
        if A::DTYPE.bits() + W::DTYPE.bits() == 32 {
            &[Self::Hi, Self::Lo]
        } else {
            &[Self::Whole]
        }
    }
}

#[inline(always)]
pub(super) fn whole<T: QInt>(v: T) -> i16 {
    v.to_i32() as i16
}

/// `(v - lo) / 256`, with the rounding of that lo, and without leaving 16 bits.
#[inline(always)]
pub(super) fn hi<T: QInt>(v: T) -> i16 {
    let v = whole(v);
    (v >> 8) + (v >> 7 & 1)
}

#[inline(always)]
pub(super) fn lo<T: QInt>(v: T) -> i16 {
    (whole(v) as i8).into()
}

/// A weight `[o, k]`, packed for a tile: `[panel of CHANNELS rows][plane][pairs][CHANNELS]`.
pub(super) struct Packed {
    data: Vec<i32>,
    planes: &'static [Plane],
}

impl Packed {
    /// For operands of type A; panels are shared out to threads where `parallel` says so.
    pub(super) fn new<T: Tile, A: QInt, W: QInt>(
        tile: T,
        w: &[W],
        GemmShape { k, o, .. }: GemmShape,
        parallel: bool,
    ) -> Self {
        let planes = Plane::of_formats::<A, W>();
        let plane_len = k.div_ceil(2) * T::CHANNELS;
        let panel_len = planes.len() * plane_len;
        let mut data = vec![0; o.div_ceil(T::CHANNELS) * panel_len];
        let pack = |(panel, rows): (&mut [i32], &[W])| {
            for (&plane, out) in planes.iter().zip(panel.chunks_exact_mut(plane_len)) {
                tile.pack(rows, k, plane, out);
            }
        };
        if plane_len == 0 {
            return Self { data, planes };
        }
        let rows = T::CHANNELS * k;
        if parallel {
            data.par_chunks_exact_mut(panel_len)
                .zip(w.par_chunks(rows))
                .for_each(pack);
        } else {
            data.chunks_exact_mut(panel_len)
                .zip(w.chunks(rows))
                .for_each(pack);
        }
        Self { data, planes }
    }
}

/// Calls `emit(n, first o, sums)` for runs of channels, so that every output is met once. `w` is
/// packed for the same tile, formats and shape, of which n may be another.
pub(super) fn gemm<T: Tile, A: QInt>(
    tile: T,
    x: &[A],
    w: &Packed,
    GemmShape { n, k, o }: GemmShape,
    mut emit: impl FnMut(usize, usize, &[i64]),
) {
    const { assert!(T::ROWS * T::CHANNELS <= MAX_TILE) };
    let pairs = k.div_ceil(2);
    let plane_len = pairs * T::CHANNELS;
    let mut x_pairs = vec![0; ROW_CHUNK.min(n) * pairs];
    for chunk in (0..n).step_by(ROW_CHUNK) {
        let chunk_end = n.min(chunk + ROW_CHUNK);
        widen(&x[chunk * k..chunk_end * k], k, &mut x_pairs);
        for (panel, channel) in (0..o).step_by(T::CHANNELS).enumerate() {
            let channels = T::CHANNELS.min(o - channel);
            let w = &w.data[panel * w.planes.len() * plane_len..][..w.planes.len() * plane_len];
            for row in (chunk..chunk_end).step_by(T::ROWS) {
                let rows = T::ROWS.min(chunk_end - row);
                let x = &x_pairs[(row - chunk) * pairs..][..rows * pairs];
                let mut sums = [0; MAX_TILE];
                let sums = &mut sums[..T::ROWS * T::CHANNELS];
                let (first, second) = w.split_at(plane_len);
                tile.add(x, rows, first, sums);
                if !second.is_empty() {
                    sums.iter_mut().for_each(|sum| *sum <<= 8);
                    tile.add(x, rows, second, sums);
                }
                for (r, sums) in sums.chunks_exact(T::CHANNELS).take(rows).enumerate() {
                    emit(row + r, channel, &sums[..channels]);
                }
            }
        }
    }
}

/// Rows of length k as rows of pairs; what is missing of an odd k is 0.
fn widen<A: QInt>(rows: &[A], k: usize, out: &mut [i32]) {
    if k == 0 {
        return;
    }
    for (row, out) in rows
        .chunks_exact(k)
        .zip(out.chunks_exact_mut(k.div_ceil(2)))
    {
        let (pairs, odd) = row.as_chunks::<2>();
        for (out, &[a, b]) in out.iter_mut().zip(pairs) {
            *out = join(whole(a), whole(b));
        }
        if let (Some(out), [last]) = (out.last_mut(), odd) {
            *out = join(whole(*last), 0);
        }
    }
}

/// [`Tile::pack`] without vectors, for an instruction set that has no faster one.
#[cfg_attr(
    target_arch = "x86_64",
    expect(dead_code, reason = "both have a faster one")
)]
pub(super) fn pack<const CHANNELS: usize, W: QInt>(
    rows: &[W],
    k: usize,
    of: impl Fn(W) -> i16,
    out: &mut [i32],
) {
    let (out, _) = out.as_chunks_mut::<CHANNELS>();
    // Column by column would visit every row for each, row by row every column: neither stays in
    // the first-level cache, a few columns at a time do.
    for (i, columns) in out.chunks_mut(PACK_COLUMNS).enumerate() {
        let start = 2 * PACK_COLUMNS * i;
        for (r, row) in rows.chunks_exact(k).enumerate() {
            let (pairs, odd) = row[start..k.min(start + 2 * columns.len())].as_chunks::<2>();
            for (column, &[a, b]) in columns.iter_mut().zip(pairs) {
                column[r] = join(of(a), of(b));
            }
            if let (Some(column), [last]) = (columns.last_mut(), odd) {
                column[r] = join(of(*last), 0);
            }
        }
    }
}

#[inline(always)]
fn join(low: i16, high: i16) -> i32 {
    i32::from(high) << 16 | i32::from(low as u16)
}
