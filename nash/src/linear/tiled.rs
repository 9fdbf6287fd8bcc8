//! The integer GEMM in register tiles: packing and loops. Knows no instruction set; the tile itself is
//! given, and how operands stand in its words is [`super::planes`]' business.

use rayon::prelude::*;

use super::GemmShape;
use super::planes::{Plane, Unit, word};
use crate::dtype::QInt;

/// Pairs along k that are summed in i32 before they are widened.
///
/// A product is 2^22 at most: int16 times int8, or times a plane of int16. A pair is 2^23, so up to
/// 255 of them stay within i32.
pub(super) const SAFE_PAIRS: usize = 192;
const _: () = assert!((SAFE_PAIRS as i64) << 23 < i32::MAX as i64);

/// Words of four bytes along k that are summed in i32 before they are widened: 32,768 values of k,
/// whose products are 255 * 255 at most.
pub(super) const SAFE_QUADS: usize = 1 << 13;
const _: () = assert!(4 * SAFE_QUADS as i64 * 255 * 255 <= i32::MAX as i64);

/// Rows of x that are laid out together; they stay in the second-level cache while all of w passes.
const ROW_CHUNK: usize = 256;

/// Words of a row that are packed before the next row's, see [`pack`].
const PACK_COLUMNS: usize = 32;

/// What an instruction set does for the GEMM.
pub(super) trait Tile: Copy + Send + Sync {
    /// Rows of a tile.
    const ROWS: usize;

    /// Channels of a tile.
    const CHANNELS: usize;

    /// Words along k of a step; rows are filled up with 0 to a multiple of it.
    const STEP: usize = 1;

    /// What rows of x are kept in.
    type Unit: Unit;

    /// What a thread holds while it adds up tiles.
    type Ready;

    /// See [`Self::Ready`].
    fn ready(self) -> Self::Ready;

    /// Adds to `sums[r * CHANNELS + c]`, for r below `rows`, the products of row r of x with column
    /// c of w, word by word; `planes` says what they are of. `x` is `[ROWS, words]`, `w` `[words,
    /// CHANNELS]`, and `rows` is in [1, ROWS]; the other rows of sums may change, or not.
    fn add(
        ready: &Self::Ready,
        x: &[Self::Unit],
        rows: usize,
        w: &[i32],
        planes: [Plane; 2],
        sums: &mut [i64],
    );

    /// `256 * sums`.
    fn raise(self, sums: &mut [i64]) {
        sums.iter_mut().for_each(|sum| *sum <<= 8);
    }

    /// Rows of w of length k, at most CHANNELS, as `[words, CHANNELS]`: entry `[j, c]` holds word j
    /// of row c, its first value in the lowest bits. What is missing is 0, as `out` already is.
    fn pack<W: QInt>(self, rows: &[W], k: usize, plane: Plane, out: &mut [i32]);
}

fn words<T: Tile>(k: usize) -> usize {
    k.div_ceil(T::Unit::VALUES).next_multiple_of(T::STEP)
}

/// A weight `[o, k]`, packed for a tile: `[panel of CHANNELS rows][plane][words][CHANNELS]`.
pub(super) struct Packed {
    data: Vec<i32>,
    planes: [&'static [Plane]; 2],
}

impl Packed {
    /// For operands of type A; panels are shared out to threads where `parallel` says so.
    pub(super) fn new<T: Tile, A: QInt, W: QInt>(
        tile: T,
        w: &[W],
        GemmShape { k, o, .. }: GemmShape,
        parallel: bool,
    ) -> Self {
        let planes = T::Unit::planes(A::DTYPE, W::DTYPE);
        let plane_len = words::<T>(k) * T::CHANNELS;
        let panel_len = planes[1].len() * plane_len;
        let mut data = vec![0; o.div_ceil(T::CHANNELS) * panel_len];
        let pack = |(panel, rows): (&mut [i32], &[W])| {
            for (&plane, out) in planes[1].iter().zip(panel.chunks_exact_mut(plane_len)) {
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
    const { assert!(ROW_CHUNK.is_multiple_of(T::ROWS)) };
    let words = words::<T>(k);
    let plane_len = words * T::CHANNELS;
    let [x_planes, w_planes] = w.planes;
    let row_len = words * T::Unit::UNITS;
    let x_plane_len = ROW_CHUNK.min(n).next_multiple_of(T::ROWS) * row_len;
    let mut x_units = vec![T::Unit::default(); x_planes.len() * x_plane_len];
    let mut sums = vec![0; T::ROWS * T::CHANNELS];
    let ready = tile.ready();
    for chunk in (0..n).step_by(ROW_CHUNK) {
        let chunk_end = n.min(chunk + ROW_CHUNK);
        for (i, &plane) in x_planes.iter().enumerate() {
            for (r, row) in (chunk..chunk_end).enumerate() {
                let out = &mut x_units[i * x_plane_len + r * row_len..][..row_len];
                T::Unit::fill(&x[row * k..(row + 1) * k], plane, out);
            }
        }
        for (panel, channel) in (0..o).step_by(T::CHANNELS).enumerate() {
            let channels = T::CHANNELS.min(o - channel);
            let w = &w.data[panel * w_planes.len() * plane_len..][..w_planes.len() * plane_len];
            for row in (chunk..chunk_end).step_by(T::ROWS) {
                let rows = T::ROWS.min(chunk_end - row);
                sums.fill(0);
                // Products of planes by falling power of 256.
                for place in 0..x_planes.len() + w_planes.len() - 1 {
                    if place > 0 {
                        tile.raise(&mut sums);
                    }
                    for (i, &x_plane) in x_planes.iter().enumerate().take(place + 1) {
                        let j = place - i;
                        let Some(&w_plane) = w_planes.get(j) else {
                            continue;
                        };
                        let x = &x_units[i * x_plane_len + (row - chunk) * row_len..];
                        let x = &x[..T::ROWS * row_len];
                        let w = &w[j * plane_len..][..plane_len];
                        T::add(&ready, x, rows, w, [x_plane, w_plane], &mut sums);
                    }
                }
                for (r, sums) in sums.chunks_exact(T::CHANNELS).take(rows).enumerate() {
                    emit(row + r, channel, &sums[..channels]);
                }
            }
        }
    }
}

/// [`Tile::pack`] without vectors, for an instruction set that has no faster one.
#[cfg_attr(
    target_arch = "x86_64",
    expect(dead_code, reason = "both have a faster one")
)]
pub(super) fn pack<const CHANNELS: usize, const VALUES: usize, W: QInt>(
    rows: &[W],
    k: usize,
    of: impl Fn(W) -> i32 + Copy,
    out: &mut [i32],
) {
    let (out, _) = out.as_chunks_mut::<CHANNELS>();
    // Column by column would visit every row for each, row by row every column: neither stays in
    // the first-level cache, a few columns at a time do.
    for (i, columns) in out.chunks_mut(PACK_COLUMNS).enumerate() {
        let start = k.min(VALUES * PACK_COLUMNS * i);
        for (r, row) in rows.chunks_exact(k).enumerate() {
            let row = &row[start..k.min(start + VALUES * columns.len())];
            let (words, rest) = row.as_chunks::<VALUES>();
            for (column, values) in columns.iter_mut().zip(words) {
                column[r] = word::<VALUES, W>(values, of);
            }
            if !rest.is_empty() {
                columns[words.len()][r] = word::<VALUES, W>(rest, of);
            }
        }
    }
}
