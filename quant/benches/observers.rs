//! Observers over the values of one large activation. The MSE search stands beside its reference, so
//! that one run shows the ratio.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dual16_nash::dtype::IntDtype;
use dual16_quant::observe::{Range, Sketch, Wants, choose_mse, choose_mse_exhaustive};

const VALUES: usize = 3_000_000;

/// Nearly Gaussian values (the sum of twelve uniform ones), as activations mostly are.
fn activation() -> Vec<f32> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut uniform = move || {
        // xorshift64, Marsaglia (2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32
    };
    (0..VALUES)
        .map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0)
        .collect()
}

fn observers(criterion: &mut Criterion) {
    let values = activation();
    let mut group = criterion.benchmark_group("observe");
    group.throughput(Throughput::Elements(VALUES as u64));
    let sketches = [
        ("range_and_moments", Wants::default()),
        (
            "range_moments_and_histogram",
            Wants {
                histogram: true,
                ..Wants::default()
            },
        ),
    ];
    for (name, wants) in sketches {
        group.bench_function(name, |b| {
            b.iter(|| Sketch::of(black_box(&values), &[VALUES], wants));
        });
    }
    let Some(range) = Sketch::of(&values, &[VALUES], Wants::default()).range() else {
        return;
    };
    for dtype in IntDtype::ALL {
        bench_mse(&mut group, &values, range, dtype);
    }
    group.finish();
}

fn bench_mse(
    group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>,
    values: &[f32],
    range: Range,
    dtype: IntDtype,
) {
    group.bench_function(format!("mse_{dtype}"), |b| {
        b.iter(|| choose_mse(black_box(values), range, dtype));
    });
    group.bench_function(format!("mse_{dtype}_reference"), |b| {
        b.iter(|| choose_mse_exhaustive(black_box(values), range, dtype));
    });
}

fn settings() -> Criterion {
    // The references take most of a second for one call, so ten calls have to do.
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
}

criterion_group! {
    name = benches;
    config = settings();
    targets = observers
}
criterion_main!(benches);
