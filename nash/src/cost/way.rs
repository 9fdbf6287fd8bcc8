//! The work of a Linear in each of its ways.

use super::{Elements, Macs, Work};
use crate::{dtype::IntDtype, linear::GemmShape, ways::Way};

/// Where a Linear stands: what its way does not say about its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinearSite {
    /// `x [n, k] * w [o, k]^T`.
    pub shape: GemmShape,
    /// Format of the input where it is made; where the way reads the other one it is requantized.
    /// `None`: whatever the way reads, and a float that is quantized where it is made.
    pub input: Option<IntDtype>,
    /// It has a bias.
    pub bias: bool,
    /// The input comes from memory outside the chip.
    pub loads_input: bool,
    /// The output goes there.
    pub stores_output: bool,
    /// Bytes of an output element.
    pub output_bytes: u64,
    /// The largest tensor that stays on the chip, bytes.
    pub on_chip_bytes: u64,
}

/// Bytes of a bias as the chip holds it: int32, beside a GEMM.
const GEMM_BIAS_BYTES: u64 = 4;

impl LinearSite {
    /// What a way makes the chip do here.
    ///
    /// - A GEMM loads its weight (and bias) and gives one output; its requantization is a part of it.
    /// - `split` is two of them, whose int16 outputs an Add joins.
    /// - `mul_sum` loads an int16 weight, makes n·o·k int16 products, sums them, adds the bias: three
    ///   operators on the vector unit. Products that do not fit on the chip are stored and loaded.
    pub fn work(&self, way: Way) -> Work {
        let GemmShape { n, k, o } = self.shape;
        let (n, k, o) = (n as u64, k as u64, o as u64);
        let times = u64::saturating_mul;
        let inputs = times(n, k);
        let outputs = times(n, o);
        let macs = times(inputs, o);
        let feature = way.activation_dtype();
        let width = |dtype: IntDtype| dtype.bytes() as u64;
        let from = self.input.unwrap_or(feature);
        let mut work = match from == feature {
            true => Work::default(),
            false => Work::requantize(from, feature, inputs),
        };
        let own = match way {
            Way::A8W8 | Way::A16W8 | Way::A8W16 | Way::A16W16 => {
                self.gemm(feature, way.weight_dtype(), macs)
            }
            Way::Split => {
                let plane = self.gemm(feature, IntDtype::Int8, macs);
                let add = Work {
                    launches: 1,
                    vector: Elements::of(IntDtype::Int16, outputs),
                    ..Work::default()
                };
                // The second plane takes no bias; four bytes a channel are not worth a case.
                let planes = times(outputs, width(IntDtype::Int16));
                plane
                    .plus(plane)
                    .plus(add)
                    .plus(self.spilled(planes))
                    .plus(self.spilled(planes))
            }
            Way::MulSum => {
                let passes = times(macs, 2).saturating_add(if self.bias { outputs } else { 0 });
                let work = Work {
                    launches: if self.bias { 3 } else { 2 },
                    vector: Elements::of(IntDtype::Int16, passes),
                    loaded_bytes: times(
                        times(o, k).saturating_add(if self.bias { o } else { 0 }),
                        width(IntDtype::Int16),
                    ),
                    ..Work::default()
                };
                work.plus(self.spilled(times(macs, width(IntDtype::Int16))))
            }
        };
        work = work.plus(own);
        if self.loads_input {
            let bytes = times(inputs, width(from));
            work.loaded_bytes = work.loaded_bytes.saturating_add(bytes);
        }
        if self.stores_output {
            let bytes = times(outputs, self.output_bytes);
            work.stored_bytes = work.stored_bytes.saturating_add(bytes);
        }
        work
    }

    /// What a low-rank branch beside a way of one product makes the chip do besides: two products with
    /// int8 weights, `[n, k] · [k, rank]` and `[n, rank] · [rank, o]`, int16 between and after them,
    /// and the Add of its output to the way's own.
    pub fn low_rank(&self, way: Way, rank: usize) -> Work {
        let GemmShape { n, k, o } = self.shape;
        let product = |k: usize, o: usize, feature| {
            let macs = [n, k, o].map(|length| length as u64);
            let macs = macs.into_iter().fold(1, u64::saturating_mul);
            let site = Self {
                shape: GemmShape { n, k, o },
                bias: false,
                ..*self
            };
            site.gemm(feature, IntDtype::Int8, macs)
        };
        let int16 = |width: usize| (n as u64).saturating_mul(width as u64).saturating_mul(2);
        let add = Work {
            launches: 1,
            vector: Elements::of(IntDtype::Int16, int16(o) / 2),
            ..Work::default()
        };
        let spilled = [int16(rank), int16(o), int16(o)].map(|bytes| self.spilled(bytes));
        product(k, rank, way.activation_dtype())
            .plus(product(rank, o, IntDtype::Int16))
            .plus(add)
            .plus(spilled.into_iter().sum())
    }

    fn gemm(&self, feature: IntDtype, weight: IntDtype, macs: u64) -> Work {
        let GemmShape { k, o, .. } = self.shape;
        let (k, o) = (k as u64, o as u64);
        let weights = o.saturating_mul(k).saturating_mul(weight.bytes() as u64);
        let bias = if self.bias {
            o.saturating_mul(GEMM_BIAS_BYTES)
        } else {
            0
        };
        Work {
            launches: 1,
            macs: Macs::of(feature, weight, macs),
            loaded_bytes: weights.saturating_add(bias),
            ..Work::default()
        }
    }

    /// A tensor between two operators, where it does not fit on the chip.
    fn spilled(&self, bytes: u64) -> Work {
        match bytes > self.on_chip_bytes {
            true => Work {
                loaded_bytes: bytes,
                stored_bytes: bytes,
                ..Work::default()
            },
            false => Work::default(),
        }
    }
}
