//! Element-wise ops, changes of scale, reductions and tables, one thread, on values that stay in
//! the second-level cache. `cargo bench -p dual16-nash --bench elementwise`.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a benchmark has no caller, and fails loudly"
)]

mod common;

use std::hint::black_box;

use common::{noise, on_each_isa};
use criterion::{Criterion, criterion_group, criterion_main};
use dual16_nash::elementwise::{add_on, mul_on, relu_on, rescale_to_on, sub_on};
use dual16_nash::lut::LutSpec;
use dual16_nash::reduce::{reduce_max_on, reduce_sum_on};
use dual16_nash::{Lut, LutFunction, QInt, Rescale, Scale, Tensor, TensorRef};

const LEN: usize = 1 << 16;
const SHAPE: [usize; 2] = [LEN / 256, 256];

fn binary(c: &mut Criterion) {
    let (a, b) = (noise::<i16>(LEN), noise::<i16>(LEN));
    let view = |data| TensorRef::<i16>::new(data, &SHAPE).unwrap();
    let row = TensorRef::new(&b[..256], &SHAPE[1..]).unwrap();
    let half = Rescale::new(0.5).unwrap();
    let product = Rescale::new(f64::powi(2.0, -16)).unwrap();
    on_each_isa(c, "mul int16", LEN, |isa| {
        let y: Tensor<i16> = mul_on(isa, view(black_box(&a)), view(&b), product).unwrap();
        black_box(y);
    });
    on_each_isa(c, "mul int16 by a row", LEN, |isa| {
        let y: Tensor<i16> = mul_on(isa, view(black_box(&a)), row, product).unwrap();
        black_box(y);
    });
    on_each_isa(c, "add int16", LEN, |isa| {
        let y: Tensor<i16> = add_on(isa, view(black_box(&a)), half, view(&b), half).unwrap();
        black_box(y);
    });
    on_each_isa(c, "sub int16", LEN, |isa| {
        let y: Tensor<i16> = sub_on(isa, view(black_box(&a)), half, view(&b), half).unwrap();
        black_box(y);
    });
}

fn unary(c: &mut Criterion) {
    let x = noise::<i16>(LEN);
    let half = Rescale::new(0.5).unwrap();
    let (mut narrow, mut wide) = (vec![0i8; LEN], vec![0i16; LEN]);
    on_each_isa(c, "relu int16", LEN, |isa| {
        relu_on(isa, black_box(&x), None, &mut wide).unwrap();
    });
    on_each_isa(c, "relu int16, rescaled", LEN, |isa| {
        relu_on(isa, black_box(&x), Some(half), &mut wide).unwrap();
    });
    on_each_isa(c, "rescale_to int16 to int16", LEN, |isa| {
        rescale_to_on(isa, black_box(&x), half, &mut wide).unwrap();
    });
    on_each_isa(c, "rescale_to int16 to int8", LEN, |isa| {
        rescale_to_on(isa, black_box(&x), half, &mut narrow).unwrap();
    });
}

fn reductions(c: &mut Criterion) {
    let x = noise::<i16>(LEN);
    let view = |data| TensorRef::<i16>::new(data, &SHAPE).unwrap();
    let mean = Rescale::new(1.0 / 256.0).unwrap();
    for (name, axis) in [("rows", -1), ("columns", 0)] {
        on_each_isa(c, &format!("reduce_sum int16, {name}"), LEN, |isa| {
            let y: Tensor<i16> =
                reduce_sum_on(isa, view(black_box(&x)), &[axis], true, mean).unwrap();
            black_box(y);
        });
        on_each_isa(c, &format!("reduce_max int16, {name}"), LEN, |isa| {
            black_box(reduce_max_on(isa, view(black_box(&x)), &[axis], true).unwrap());
        });
    }
}

fn table<A: QInt, Y: QInt>(c: &mut Criterion) {
    let spec = LutSpec {
        function: LutFunction::Sigmoid,
        input: A::DTYPE,
        input_scale: Scale::new(8.0 / A::DTYPE.qmax() as f32).unwrap(),
        output: Y::DTYPE,
        output_scale: Scale::new(1.0 / Y::DTYPE.qmax() as f32).unwrap(),
        observed: None,
    };
    let lut = Lut::build(&spec).unwrap();
    let (x, mut y) = (noise::<A>(LEN), vec![Y::default(); LEN]);
    on_each_isa(
        c,
        &format!("lut {} to {}", A::DTYPE, Y::DTYPE),
        LEN,
        |isa| {
            lut.apply_on(isa, black_box(&x), &mut y).unwrap();
        },
    );
}

fn tables(c: &mut Criterion) {
    table::<i8, i8>(c);
    table::<i16, i16>(c);
}

criterion_group!(benches, binary, unary, reductions, tables);
criterion_main!(benches);
