//! f32 to integers and back, one thread, on values that stay in the second-level cache.
//! `cargo bench -p dual16-nash --bench quantize`.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a benchmark has no caller, and fails loudly"
)]

mod common;

use std::hint::black_box;

use common::{float_noise, noise, on_each_isa};
use criterion::{Criterion, criterion_group, criterion_main};
use dual16_nash::quantize::{
    Rounding, check_finite_on, count_on, dequantize_on, fake_quantize_in_place_on,
    fake_quantize_on, quantize_counted_on, quantize_on,
};
use dual16_nash::{QInt, Scale};

const LEN: usize = 1 << 16;

fn format<Q: QInt>(c: &mut Criterion) {
    let x = float_noise(LEN);
    let scale = Scale::new(1e-3).unwrap();
    let dtype = Q::DTYPE;
    let mut q = vec![Q::default(); LEN];
    let mut real = vec![0.0; LEN];
    for rounding in [Rounding::HalfEven, Rounding::Floor] {
        let name = |what| format!("{what} {dtype} {rounding}");
        on_each_isa(c, &name("quantize"), LEN, |isa| {
            quantize_on(isa, black_box(&x), scale, rounding, &mut q).unwrap();
        });
        on_each_isa(c, &name("quantize_counted"), LEN, |isa| {
            black_box(quantize_counted_on(isa, black_box(&x), scale, rounding, &mut q).unwrap());
        });
        on_each_isa(c, &name("count"), LEN, |isa| {
            black_box(count_on(isa, black_box(&x), scale, dtype, rounding));
        });
        on_each_isa(c, &name("fake_quantize"), LEN, |isa| {
            fake_quantize_on(isa, black_box(&x), scale, dtype, rounding, &mut real).unwrap();
        });
        on_each_isa(c, &name("fake_quantize_in_place"), LEN, |isa| {
            let x = black_box(&mut real);
            fake_quantize_in_place_on(isa, x, scale, dtype, rounding);
        });
    }
    let q = noise::<Q>(LEN);
    on_each_isa(c, &format!("dequantize {dtype}"), LEN, |isa| {
        dequantize_on(isa, black_box(&q), scale, &mut real).unwrap();
    });
}

fn quantization(c: &mut Criterion) {
    let x = float_noise(LEN);
    on_each_isa(c, "check_finite", LEN, |isa| {
        check_finite_on(isa, black_box(&x)).unwrap()
    });
    format::<i8>(c);
    format::<i16>(c);
}

criterion_group!(benches, quantization);
criterion_main!(benches);
