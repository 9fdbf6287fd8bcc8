//! Every kernel on every instruction set of this machine, the scalar reference first, one thread.
//! `cargo bench -p dual16-nash`.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark has no caller, and fails loudly"
)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dual16_nash::linear::{gemm, linear, linear_acc};
use dual16_nash::mul_sum::{mul_sum_fake_quant_on, mul_sum_on};
use dual16_nash::{GemmShape, Isa, QInt, Rescale, Scale};

const GEMMS: [GemmShape; 2] = [
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

/// Values all over the format, from a linear congruential generator.
fn noise<T: QInt>(len: usize) -> Vec<T> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        T::saturate_i32(state as i32 >> (32 - T::DTYPE.bits()))
    };
    (0..len).map(|_| next()).collect()
}

fn gemm_of<A: QInt, W: QInt>(c: &mut Criterion, name: &str) {
    for shape in GEMMS {
        let GemmShape { n, k, o } = shape;
        let mut group = c.benchmark_group(format!("{name} [{n},{k}]x[{o},{k}]"));
        group.throughput(Throughput::Elements((n * k * o) as u64));
        let (x, w) = (noise::<A>(n * k), noise::<W>(o * k));
        for isa in Isa::available() {
            group.bench_function(BenchmarkId::from_parameter(isa), |b| {
                let mut acc = vec![0; n * o];
                b.iter(|| {
                    gemm(
                        isa,
                        black_box(&x),
                        black_box(&w),
                        shape,
                        |row, first, sums| {
                            acc[row * o + first..][..sums.len()].copy_from_slice(sums);
                        },
                    );
                });
            });
        }
    }
}

fn gemms(c: &mut Criterion) {
    gemm_of::<i16, i8>(c, "a16w8");
    gemm_of::<i8, i8>(c, "a8w8");
    gemm_of::<i8, i16>(c, "a8w16");
    gemm_of::<i16, i16>(c, "a16w16");
}

/// The two layers as a caller runs them, on the best instruction set: the GEMM and requantization of
/// a16w8, and the two planes of split with int64 accumulators.
fn layers(c: &mut Criterion) {
    for shape in GEMMS {
        let GemmShape { n, k, o } = shape;
        let mut group = c.benchmark_group(format!("layer [{n},{k}]x[{o},{k}]"));
        group.throughput(Throughput::Elements((n * k * o) as u64));
        let (x, hi, lo) = (noise::<i16>(n * k), noise::<i8>(o * k), noise::<i8>(o * k));
        let rescales = vec![Rescale::new(1e-4).unwrap(); o];
        group.bench_function("a16w8", |b| {
            let mut y = vec![0i16; n * o];
            b.iter(|| linear(black_box(&x), &hi, shape, None, &rescales, &mut y).unwrap());
        });
        group.bench_function("split", |b| {
            let mut acc = [vec![0; n * o], vec![0; n * o]];
            b.iter(|| {
                for (plane, acc) in [&hi, &lo].into_iter().zip(&mut acc) {
                    linear_acc(black_box(&x), plane, shape, None, acc).unwrap();
                }
            });
        });
    }
}

fn mul_sums(c: &mut Criterion) {
    let shape = GemmShape {
        n: 200,
        k: 256,
        o: 60,
    };
    let (x, w) = (noise::<i16>(200 * 256), noise::<i16>(60 * 256));
    // Products from end to end of int16, none clipped; the same with about half of them clipped.
    for (name, ratio) in [
        ("fits", f64::powi(2.0, -16)),
        ("clips", f64::powi(2.0, -14)),
    ] {
        let (product, sum) = (Rescale::new(ratio).unwrap(), Rescale::new(0.01).unwrap());
        let mut group = c.benchmark_group(format!("mul_sum [200,256]x[60,256] {name}"));
        group.throughput(Throughput::Elements(200 * 256 * 60));
        for isa in Isa::available() {
            group.bench_function(BenchmarkId::from_parameter(isa), |b| {
                let mut out = vec![0; 200 * 60];
                b.iter(|| {
                    let (x, w) = (black_box(&x), black_box(&w));
                    mul_sum_on(isa, x, w, shape, product, sum, &mut out).unwrap()
                });
            });
        }
    }
}

fn float_mul_sums(c: &mut Criterion) {
    let shape = GemmShape {
        n: 200,
        k: 256,
        o: 60,
    };
    let float = |len| -> Vec<f32> {
        let steps = noise::<i16>(len);
        steps.into_iter().map(|q| f32::from(q) * 1e-4).collect()
    };
    let (x, w) = (float(200 * 256), float(60 * 256));
    let scale = Scale::new(1e-3).unwrap();
    let mut group = c.benchmark_group("mul_sum_fake_quant [200,256]x[60,256]");
    group.throughput(Throughput::Elements(200 * 256 * 60));
    for isa in Isa::available() {
        group.bench_function(BenchmarkId::from_parameter(isa), |b| {
            let mut out = vec![0.0; 200 * 60];
            b.iter(|| {
                let (x, w) = (black_box(&x), black_box(&w));
                mul_sum_fake_quant_on(isa, x, w, shape, scale, &mut out).unwrap()
            });
        });
    }
}

criterion_group!(benches, gemms, layers, mul_sums, float_mul_sums);
criterion_main!(benches);
