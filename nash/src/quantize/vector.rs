//! The loops of [`scalar`], as each instruction set compiles them.

use super::rounding::{Grid, Rounding};
use super::{QuantizeCounts, scalar};
use crate::dtype::QInt;
use crate::simd::for_each_isa;

for_each_isa! {
    pub(super) fn largest_bits(x: &[f32]) -> u32 {
        portable: scalar::largest_bits,
        vector: scalar::largest_bits,
    }
}

for_each_isa! {
    pub(super) fn quantize<Q: QInt>(
        x: &[f32], grid: Grid, rounding: Rounding, out: &mut [Q],
    ) { portable: scalar::quantize, vector: scalar::quantize }
}

for_each_isa! {
    pub(super) fn quantize_counted<Q: QInt>(
        x: &[f32], grid: Grid, rounding: Rounding, out: &mut [Q],
    ) -> QuantizeCounts {
        portable: scalar::quantize_counted,
        vector: scalar::quantize_counted,
    }
}

for_each_isa! {
    pub(super) fn fake_quantize(
        x: &[f32], grid: Grid, rounding: Rounding, out: &mut [f32],
    ) { portable: scalar::fake_quantize, vector: scalar::fake_quantize }
}

for_each_isa! {
    pub(super) fn fake_quantize_in_place(x: &mut [f32], grid: Grid, rounding: Rounding) {
        portable: scalar::fake_quantize_in_place,
        vector: scalar::fake_quantize_in_place,
    }
}

for_each_isa! {
    pub(super) fn count(x: &[f32], grid: Grid, rounding: Rounding) -> QuantizeCounts {
        portable: scalar::count,
        vector: scalar::count,
    }
}

for_each_isa! {
    pub(super) fn dequantize<Q: QInt>(q: &[Q], scale: f32, out: &mut [f32]) {
        portable: scalar::dequantize,
        vector: scalar::dequantize,
    }
}
