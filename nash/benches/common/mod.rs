//! What the benches share: inputs, and one group for each kernel with the scalar reference first.

use criterion::{BenchmarkId, Criterion, Throughput};
use dual16_nash::{Isa, QInt};

/// Values all over the format, from a linear congruential generator.
pub fn noise<T: QInt>(len: usize) -> Vec<T> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        T::saturate_i32(state as i32 >> (32 - T::DTYPE.bits()))
    };
    (0..len).map(|_| next()).collect()
}

/// Floats in [-3.3, 3.3].
#[allow(dead_code, reason = "not every bench has floats")]
pub fn float_noise(len: usize) -> Vec<f32> {
    let steps = noise::<i16>(len);
    steps.into_iter().map(|q| f32::from(q) * 1e-4).collect()
}

/// `run` on every instruction set of this machine, the scalar reference first, on one thread.
pub fn on_each_isa(
    c: &mut Criterion,
    name: &str,
    elements: usize,
    mut run: impl FnMut(Isa) + Send,
) {
    let Ok(one) = rayon::ThreadPoolBuilder::new().num_threads(1).build() else {
        return;
    };
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(elements as u64));
    for isa in Isa::available() {
        group.bench_function(BenchmarkId::from_parameter(isa), |b| {
            b.iter_custom(|iterations| {
                one.install(|| {
                    let start = std::time::Instant::now();
                    for _ in 0..iterations {
                        run(isa);
                    }
                    start.elapsed()
                })
            });
        });
    }
}
