//! The shortest time of many short runs of every kernel on every instruction set of this machine,
//! as a Markdown table: `cargo run --release -p dual16-nash --example kernel_table [name part]`.
//!
//! Criterion's means (`cargo bench -p dual16-nash`) need an idle machine. A minimum of runs of a
//! millisecond does not, and what it is held against, the clock, is measured in the same way.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a program for the developer's eyes, which fails loudly"
)]

use std::hint::black_box;
use std::time::Instant;

use dual16_nash::elementwise::{add_on, mul_on, relu_on, rescale_to_on};
use dual16_nash::linear::{gemm, linear_acc_on, linear_on};
use dual16_nash::lut::LutSpec;
use dual16_nash::mul_sum::{mul_sum_fake_quant_on, mul_sum_on};
use dual16_nash::quantize::{
    Rounding, check_finite_on, count_on, dequantize_on, fake_quantize_on, quantize_counted_on,
    quantize_on,
};
use dual16_nash::reduce::{reduce_max_on, reduce_sum_on};
use dual16_nash::{
    GemmShape, IntDtype, Isa, Lut, LutFunction, QInt, Rescale, Scale, Tensor, TensorRef,
};

/// Rows of the table whose name has this in it.
struct Table {
    part: String,
}

impl Table {
    /// One row for each instruction set, against the scalar reference.
    fn row(&self, name: &str, elements: usize, mut run: impl FnMut(Isa)) {
        self.row_of(name, |isa| {
            run(isa);
            elements
        });
    }

    /// The same for a run that says how many elements it took.
    fn row_of(&self, name: &str, mut run: impl FnMut(Isa) -> usize) {
        if !name.contains(&self.part) {
            return;
        }
        let mut scalar = None;
        for isa in Isa::available() {
            let mut elements = 0;
            let seconds = shortest(|| elements = run(isa));
            let rate = elements as f64 / seconds * 1e-9;
            let scalar = *scalar.get_or_insert(rate);
            println!(
                "| {name} | {isa} | {:.3} | {rate:.2} | {:.1} |",
                seconds * 1e3,
                rate / scalar
            );
        }
    }
}

/// Of as many runs as fit in half a second, at least 5.
fn shortest(mut run: impl FnMut()) -> f64 {
    let begin = Instant::now();
    let mut best = f64::INFINITY;
    let mut runs = 0;
    while runs < 5 || begin.elapsed().as_secs_f64() < 0.5 {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_secs_f64());
        runs += 1;
    }
    best
}

/// Cycles a nanosecond, from a chain of dependent multiplications and exclusive ors, which take 3
/// cycles and 1 on x86-64 cores since 2011.
fn clock() -> f64 {
    const LINKS: u32 = 100_000;
    let seconds = shortest(|| {
        let factor = black_box(5u64);
        black_box((0..LINKS).fold(3u64, |v, link| v.wrapping_mul(factor) ^ u64::from(link)));
    });
    f64::from(LINKS) * 4.0 / seconds * 1e-9
}

/// Values all over the format, from a linear congruential generator.
fn noise<T: QInt>(len: usize) -> Vec<T> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        T::saturate_i32(state as i32 >> (32 - T::DTYPE.bits()))
    };
    (0..len).map(|_| next()).collect()
}

fn float_noise(len: usize) -> Vec<f32> {
    let steps = noise::<i16>(len);
    steps.into_iter().map(|q| f32::from(q) * 1e-4).collect()
}

fn main() {
    let table = Table {
        part: std::env::args().nth(1).unwrap_or_default(),
    };
    println!("clock: {:.2} GHz; one thread\n", clock());
    println!("| kernel | instruction set | ms | G elements/s | x scalar |");
    println!("|---|---|---|---|---|");
    let one = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    one.install(|| {
        gemms(&table);
        mul_sums(&table);
        quantization(&table);
        elements(&table);
    });
    println!("\nall {} threads\n", rayon::current_num_threads());
    layers(&table);
}

const LAYERS: [GemmShape; 2] = [
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

/// A layer takes the scalar reference tens of milliseconds, which no run on a busy machine has for
/// itself; it gets a few of the rows, and the rate is what is compared.
fn rows_for(isa: Isa, shape: GemmShape) -> GemmShape {
    if isa == Isa::PORTABLE {
        GemmShape { n: 4, ..shape }
    } else {
        shape
    }
}

fn gemm_of<A: QInt, W: QInt>(table: &Table, name: &str) {
    for shape in LAYERS {
        let GemmShape { n, k, o } = shape;
        let (x, w) = (noise::<A>(n * k), noise::<W>(o * k));
        let mut acc = vec![0; n * o];
        table.row_of(&format!("gemm {name} [{n},{k}]x[{o},{k}]"), |isa| {
            let shape = rows_for(isa, shape);
            gemm(
                isa,
                black_box(&x),
                black_box(&w),
                shape,
                |row, first, sums| {
                    acc[row * o + first..][..sums.len()].copy_from_slice(sums);
                },
            );
            shape.n * k * o
        });
    }
}

fn gemms(table: &Table) {
    gemm_of::<i16, i8>(table, "a16w8");
    gemm_of::<i8, i8>(table, "a8w8");
    gemm_of::<i8, i16>(table, "a8w16");
    gemm_of::<i16, i16>(table, "a16w16");
    layers(table);
}

/// As a caller runs them: with requantization, and the two planes of split with their accumulators.
fn layers(table: &Table) {
    for shape in LAYERS {
        let GemmShape { n, k, o } = shape;
        let (x, hi, lo) = (noise::<i16>(n * k), noise::<i8>(o * k), noise::<i8>(o * k));
        let rescales = vec![Rescale::new(1e-4).unwrap(); o];
        let name = |way| format!("layer {way} [{n},{k}]x[{o},{k}]");
        let mut y = vec![0i16; n * o];
        table.row_of(&name("a16w8"), |isa| {
            let shape = rows_for(isa, shape);
            let (x, y) = (&black_box(&x)[..shape.n * k], &mut y[..shape.n * o]);
            linear_on(isa, x, &hi, shape, None, &rescales, y).unwrap();
            shape.n * k * o
        });
        let mut acc = vec![0; n * o];
        table.row_of(&name("split"), |isa| {
            let shape = rows_for(isa, shape);
            let (x, acc) = (&black_box(&x)[..shape.n * k], &mut acc[..shape.n * o]);
            for plane in [&hi, &lo] {
                linear_acc_on(isa, x, plane, shape, None, acc).unwrap();
            }
            shape.n * k * o
        });
    }
}

fn mul_sums(table: &Table) {
    let (n, k, o) = (200, 256, 60);
    let shape = GemmShape { n, k, o };
    let (x, w) = (noise::<i16>(n * k), noise::<i16>(o * k));
    let sum = Rescale::new(0.01).unwrap();
    // Products from end to end of int16, none clipped; the same with about half of them clipped.
    for (name, shift) in [("no clips", -16), ("clips", -14)] {
        let product = Rescale::new(f64::powi(2.0, shift)).unwrap();
        let mut out = vec![0; n * o];
        table.row(
            &format!("mul_sum [200,256]x[60,256] {name}"),
            n * k * o,
            |isa| {
                mul_sum_on(isa, black_box(&x), &w, shape, product, sum, &mut out).unwrap();
            },
        );
    }
    let (x, w) = (float_noise(n * k), float_noise(o * k));
    let scale = Scale::new(1e-3).unwrap();
    let mut out = vec![0.0; n * o];
    table.row("mul_sum_fake_quant [200,256]x[60,256]", n * k * o, |isa| {
        mul_sum_fake_quant_on(isa, black_box(&x), &w, shape, scale, &mut out).unwrap();
    });
}

/// Values that stay in the second-level cache.
const LEN: usize = 1 << 16;

fn quantization(table: &Table) {
    let x = float_noise(LEN);
    let scale = Scale::new(1e-3).unwrap();
    let rounding = Rounding::HalfEven;
    let mut narrow = vec![0i8; LEN];
    let mut wide = vec![0i16; LEN];
    let mut float = vec![0f32; LEN];
    table.row("check_finite", LEN, |isa| {
        check_finite_on(isa, black_box(&x)).unwrap()
    });
    table.row("quantize int8", LEN, |isa| {
        quantize_on(isa, black_box(&x), scale, rounding, &mut narrow).unwrap();
    });
    table.row("quantize int16", LEN, |isa| {
        quantize_on(isa, black_box(&x), scale, rounding, &mut wide).unwrap();
    });
    table.row("quantize int16 floor", LEN, |isa| {
        quantize_on(isa, black_box(&x), scale, Rounding::Floor, &mut wide).unwrap();
    });
    table.row("quantize_counted int16", LEN, |isa| {
        quantize_counted_on(isa, black_box(&x), scale, rounding, &mut wide).unwrap();
    });
    table.row("count int16", LEN, |isa| {
        black_box(count_on(
            isa,
            black_box(&x),
            scale,
            IntDtype::Int16,
            rounding,
        ));
    });
    table.row("fake_quantize int16", LEN, |isa| {
        fake_quantize_on(
            isa,
            black_box(&x),
            scale,
            IntDtype::Int16,
            rounding,
            &mut float,
        )
        .unwrap();
    });
    table.row("dequantize int16", LEN, |isa| {
        dequantize_on(isa, black_box(&wide), scale, &mut float).unwrap();
    });
}

fn elements(table: &Table) {
    let (a, b) = (noise::<i16>(LEN), noise::<i16>(LEN));
    let shape = [LEN / 256, 256];
    let view = |data| TensorRef::<i16>::new(data, &shape).unwrap();
    let half = Rescale::new(0.5).unwrap();
    let product = Rescale::new(f64::powi(2.0, -16)).unwrap();
    let mut y = vec![0i16; LEN];
    table.row("mul int16", LEN, |isa| {
        let _: Tensor<i16> =
            black_box(mul_on(isa, view(black_box(&a)), view(&b), product).unwrap());
    });
    table.row("add int16", LEN, |isa| {
        let _: Tensor<i16> =
            black_box(add_on(isa, view(black_box(&a)), half, view(&b), half).unwrap());
    });
    table.row("relu int16, rescaled", LEN, |isa| {
        relu_on(isa, black_box(&a), Some(half), &mut y).unwrap();
    });
    table.row("rescale_to int16", LEN, |isa| {
        rescale_to_on(isa, black_box(&a), half, &mut y).unwrap();
    });
    table.row("reduce_sum int16, rows of 256", LEN, |isa| {
        let _: Tensor<i16> =
            black_box(reduce_sum_on(isa, view(black_box(&a)), &[-1], true, half).unwrap());
    });
    table.row("reduce_sum int16, 256 columns", LEN, |isa| {
        let _: Tensor<i16> =
            black_box(reduce_sum_on(isa, view(black_box(&a)), &[0], true, half).unwrap());
    });
    table.row("reduce_max int16, rows of 256", LEN, |isa| {
        black_box(reduce_max_on(isa, view(black_box(&a)), &[-1], true).unwrap());
    });
    luts(table, &a);
}

fn luts(table: &Table, x: &[i16]) {
    let spec = |input, output| LutSpec {
        function: LutFunction::Sigmoid,
        input,
        input_scale: Scale::new(1e-3).unwrap(),
        output,
        output_scale: Scale::new(1e-4).unwrap(),
        observed: None,
    };
    let segments = Lut::build(&spec(IntDtype::Int16, IntDtype::Int16)).unwrap();
    let mut y = vec![0i16; x.len()];
    table.row("lut int16, segments", LEN, |isa| {
        segments.apply_on(isa, black_box(x), &mut y).unwrap();
    });
    let direct = Lut::build(&spec(IntDtype::Int8, IntDtype::Int8)).unwrap();
    let (x, mut y) = (noise::<i8>(LEN), vec![0i8; LEN]);
    table.row("lut int8, 256 entries", LEN, |isa| {
        direct.apply_on(isa, black_box(&x), &mut y).unwrap();
    });
}
