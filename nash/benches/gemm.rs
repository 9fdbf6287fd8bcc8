//! The integer GEMM and the layers made of it, one thread, and the layers again on all of them.
//! `cargo bench -p dual16-nash --bench gemm`.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a benchmark has no caller, and fails loudly"
)]

mod common;

use std::hint::black_box;

use common::{noise, on_each_isa};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dual16_nash::linear::{gemm, linear, linear_acc, linear_acc_on, linear_on};
use dual16_nash::{GemmShape, QInt, Rescale};

const SHAPES: [GemmShape; 2] = [
    GemmShape {
        n: 128,
        k: 384,
        o: 1536,
    },
    GemmShape {
        n: 128,
        k: 1536,
        o: 384,
    },
];

fn gemm_of<A: QInt, W: QInt>(c: &mut Criterion, name: &str) {
    for shape in SHAPES {
        let GemmShape { n, k, o } = shape;
        let (x, w) = (noise::<A>(n * k), noise::<W>(o * k));
        let mut acc = vec![0; n * o];
        on_each_isa(
            c,
            &format!("{name} [{n},{k}]x[{o},{k}]"),
            n * k * o,
            |isa| {
                gemm(
                    isa,
                    black_box(&x),
                    black_box(&w),
                    shape,
                    |row, first, sums| {
                        acc[row * o + first..][..sums.len()].copy_from_slice(sums);
                    },
                );
            },
        );
    }
}

fn gemms(c: &mut Criterion) {
    gemm_of::<i16, i8>(c, "gemm a16w8");
    gemm_of::<i8, i8>(c, "gemm a8w8");
    gemm_of::<i8, i16>(c, "gemm a8w16");
    gemm_of::<i16, i16>(c, "gemm a16w16");
}

/// As a caller runs them: a16w8 with its requantization, and the two planes of split with int64
/// accumulators.
fn layers(c: &mut Criterion) {
    for shape in SHAPES {
        let GemmShape { n, k, o } = shape;
        let (x, hi, lo) = (noise::<i16>(n * k), noise::<i8>(o * k), noise::<i8>(o * k));
        let rescales = vec![Rescale::new(1e-4).unwrap(); o];
        let (mut y, mut acc) = (vec![0i16; n * o], vec![0; n * o]);
        let name = |way| format!("layer {way} [{n},{k}]x[{o},{k}]");
        on_each_isa(c, &name("a16w8"), n * k * o, |isa| {
            linear_on(isa, black_box(&x), &hi, shape, None, &rescales, &mut y).unwrap();
        });
        on_each_isa(c, &name("split"), n * k * o, |isa| {
            for plane in [&hi, &lo] {
                linear_acc_on(isa, black_box(&x), plane, shape, None, &mut acc).unwrap();
            }
        });
        let mut group = c.benchmark_group(format!("all threads [{n},{k}]x[{o},{k}]"));
        group.throughput(Throughput::Elements((n * k * o) as u64));
        group.bench_function("a16w8", |b| {
            b.iter(|| linear(black_box(&x), &hi, shape, None, &rescales, &mut y).unwrap());
        });
        group.bench_function("split", |b| {
            b.iter(|| {
                for plane in [&hi, &lo] {
                    linear_acc(black_box(&x), plane, shape, None, &mut acc).unwrap();
                }
            });
        });
    }
}

criterion_group!(benches, gemms, layers);
criterion_main!(benches);
