//! The integer GEMM in register tiles: packing, loops, and the bound that lets a tile sum in 32
//! bits. Knows no instruction set; the tile itself is given.
//!
//! All formats are one kernel. Its operands are int16 and come in pairs along k, one pair in 32
//! bits, so that a multiply-add of pairs (`vpmaddwd`, `vpdpwssd`) yields two products at once.

use super::GemmShape;
use crate::dtype::QInt;

/// Pairs along k that are summed in i32 before they are widened.
///
/// A product is 2^22 at most: int16 times int8, or times a plane of [`Plane`]. A pair is 2^23, so
/// up to 255 of them stay within i32.
pub(super) const SAFE_PAIRS: usize = 192;
const _: () = assert!((SAFE_PAIRS as i64) << 23 < i32::MAX as i64);

/// Rows of x that are packed together. Many enough to make the packing of w cheap beside the
/// multiplication, few enough to stay in the second-level cache.
const ROW_CHUNK: usize = 256;

/// Pairs of a row that are packed before the next row's.
const PACK_COLUMNS: usize = 32;

/// What of an operand goes into a pack.
///
/// Where both are int16, a pair of products could reach 2^31. So w is taken apart as 256 * hi + lo
/// with lo in [-128, 127] and hi in [-128, 128], and each plane is a GEMM that fits the bound.
#[derive(Clone, Copy)]
enum Plane {
    Whole,
    Hi,
    Lo,
}

impl Plane {
    #[inline(always)]
    fn of<T: QInt>(self, value: T) -> i16 {
        let value = value.to_i32();
        match self {
            Self::Whole => value as i16,
            Self::Hi => ((value - i32::from(value as i8)) >> 8) as i16,
            Self::Lo => (value as i8).into(),
        }
    }
}

/// Calls `emit(n, first o, sums)` for runs of channels, so that every output is met once.
///
/// `tile(rows, x, w, sums)` adds to `sums[r][c]`, for r below `rows`, the products of column r of x
/// with column c of w, pair by pair; it may leave the other rows as they are, or not.
pub(super) fn gemm<const ROWS: usize, const CHANNELS: usize, A: QInt, W: QInt>(
    x: &[A],
    w: &[W],
    GemmShape { n, k, o }: GemmShape,
    tile: impl Fn(usize, &[[i32; ROWS]], &[[i32; CHANNELS]], &mut [[i64; CHANNELS]; ROWS]),
    mut emit: impl FnMut(usize, usize, &[i64]),
) {
    let planes: &[Plane] = if A::DTYPE.bits() + W::DTYPE.bits() == 32 {
        &[Plane::Hi, Plane::Lo]
    } else {
        &[Plane::Whole]
    };
    let pairs = k.div_ceil(2);
    let mut x_pack = vec![[0; ROWS]; ROW_CHUNK.min(n).div_ceil(ROWS) * pairs];
    let mut w_pack = vec![[0; CHANNELS]; planes.len() * pairs];
    for chunk in (0..n).step_by(ROW_CHUNK) {
        let chunk_end = n.min(chunk + ROW_CHUNK);
        for (i, row) in (chunk..chunk_end).step_by(ROWS).enumerate() {
            let rows = &x[row * k..chunk_end.min(row + ROWS) * k];
            pack(rows, k, Plane::Whole, &mut x_pack[i * pairs..][..pairs]);
        }
        for channel in (0..o).step_by(CHANNELS) {
            let channels = CHANNELS.min(o - channel);
            let w_rows = &w[channel * k..(channel + channels) * k];
            for (i, &plane) in planes.iter().enumerate() {
                pack(w_rows, k, plane, &mut w_pack[i * pairs..][..pairs]);
            }
            for (i, row) in (chunk..chunk_end).step_by(ROWS).enumerate() {
                let rows = ROWS.min(chunk_end - row);
                let x_tile = &x_pack[i * pairs..][..pairs];
                let mut sums = [[0; CHANNELS]; ROWS];
                tile(rows, x_tile, &w_pack[..pairs], &mut sums);
                if planes.len() == 2 {
                    sums.as_flattened_mut()
                        .iter_mut()
                        .for_each(|sum| *sum <<= 8);
                    tile(rows, x_tile, &w_pack[pairs..], &mut sums);
                }
                for (r, sums) in sums[..rows].iter().enumerate() {
                    emit(row + r, channel, &sums[..channels]);
                }
            }
        }
    }
}

/// Rows of length k as columns of pairs: `out[j][r]` holds elements 2j and 2j + 1 of row r, the
/// first in the low half. What is missing, of an odd k and of the last rows, is 0.
fn pack<const L: usize, T: QInt>(rows: &[T], k: usize, plane: Plane, out: &mut [[i32; L]]) {
    if k == 0 {
        return;
    }
    if rows.len() < L * k {
        out.fill([0; L]);
    }
    // Column by column would visit every row for each, row by row every column: neither stays in
    // the first-level cache, a few columns at a time do.
    for (i, columns) in out.chunks_mut(PACK_COLUMNS).enumerate() {
        let start = 2 * PACK_COLUMNS * i;
        for (r, row) in rows.chunks_exact(k).enumerate() {
            let (pairs, odd) = row[start..k.min(start + 2 * columns.len())].as_chunks::<2>();
            for (column, &[a, b]) in columns.iter_mut().zip(pairs) {
                column[r] = join(plane.of(a), plane.of(b));
            }
            if let (Some(column), [last]) = (columns.last_mut(), odd) {
                column[r] = join(plane.of(*last), 0);
            }
        }
    }
}

#[inline(always)]
fn join(low: i16, high: i16) -> i32 {
    i32::from(high) << 16 | i32::from(low as u16)
}
