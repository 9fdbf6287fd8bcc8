//! The fused mul+sum with its counts, in integers and in floats, one thread.
//! `cargo bench -p dual16-nash --bench mul_sum`.

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
use dual16_nash::mul_sum::{mul_sum_fake_quant_on, mul_sum_on};
use dual16_nash::{GemmShape, Rescale, Scale};

const SHAPE: GemmShape = GemmShape {
    n: 200,
    k: 256,
    o: 60,
};
const PRODUCTS: usize = SHAPE.n * SHAPE.k * SHAPE.o;

fn integers(c: &mut Criterion) {
    let (x, w) = (
        noise::<i16>(SHAPE.n * SHAPE.k),
        noise::<i16>(SHAPE.o * SHAPE.k),
    );
    let sum = Rescale::new(0.01).unwrap();
    let mut out = vec![0; SHAPE.n * SHAPE.o];
    // Products from end to end of int16, none clipped; the same with about half of them clipped;
    // and a shift that no vector kernel has.
    for (name, exponent) in [("no clips", -16), ("clips", -14), ("shift 15", 0)] {
        let product = Rescale::new(f64::powi(2.0, exponent)).unwrap();
        on_each_isa(
            c,
            &format!("mul_sum [200,256]x[60,256] {name}"),
            PRODUCTS,
            |isa| {
                mul_sum_on(isa, black_box(&x), &w, SHAPE, product, sum, &mut out).unwrap();
            },
        );
    }
}

fn floats(c: &mut Criterion) {
    let (x, w) = (
        float_noise(SHAPE.n * SHAPE.k),
        float_noise(SHAPE.o * SHAPE.k),
    );
    let scale = Scale::new(1e-3).unwrap();
    let mut out = vec![0.0; SHAPE.n * SHAPE.o];
    on_each_isa(
        c,
        "mul_sum_fake_quant [200,256]x[60,256]",
        PRODUCTS,
        |isa| {
            mul_sum_fake_quant_on(isa, black_box(&x), &w, SHAPE, scale, &mut out).unwrap();
        },
    );
}

criterion_group!(benches, integers, floats);
criterion_main!(benches);
