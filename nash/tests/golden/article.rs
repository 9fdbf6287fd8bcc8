//! The article's linear2 by mul+sum: to the bit in integers, to 2 LSB in VALIDATION.

use dual16_nash::elementwise::{add, map_binary};
use dual16_nash::mul_sum::{mul_sum, mul_sum_fake_quant};
use dual16_nash::quantize::{Rounding, dequantize, fake_quantize_in_place, quantize};
use dual16_nash::scale::{ScaleRule, scale_from_range};
use dual16_nash::{GemmShape, IntDtype, Rescale, Scale, TensorRef};

use crate::data::Golden;

struct Case {
    golden: Golden,
    shape: GemmShape,
    x: Vec<i16>,
    w: Vec<i16>,
    /// Float weight and bias of linear2.
    float_w: Vec<f32>,
    float_bias: Vec<f32>,
}

impl Case {
    fn open() -> Self {
        let golden = Golden::open("article");
        let model = Golden::read("smallmodel/float.safetensors");
        let [n, k] = golden.shape("mul_sum.int.x");
        let [o, _] = golden.shape::<2>("mul_sum.int.w");
        let (x, w) = (
            golden.tensor("mul_sum.int.x"),
            golden.tensor("mul_sum.int.w"),
        );
        let float_w = model.tensor("linear2.weight");
        let float_bias = model.tensor("linear2.bias");
        Self {
            golden,
            shape: GemmShape { n, k, o },
            x,
            w,
            float_w,
            float_bias,
        }
    }

    fn scale(&self, name: &str) -> Scale {
        self.golden.scale(&format!("mul_sum.scale.{name}"))
    }
}

#[test]
fn weight_is_an_activation() {
    let case = Case::open();
    let (min, max) = case
        .float_w
        .iter()
        .fold((0f32, 0f32), |(a, b), &v| (a.min(v), b.max(v)));
    let scale = scale_from_range(min, max, IntDtype::Int16, ScaleRule::Range, false).unwrap();
    assert_eq!(scale, case.scale("linear2.weight"));
    let mut w = vec![0i16; case.w.len()];
    quantize(&case.float_w, scale, Rounding::HalfEven, &mut w).unwrap();
    assert!(w == case.w);
}

#[test]
fn integers() {
    let case = Case::open();
    let GemmShape { n, o, .. } = case.shape;
    let (sm, ss) = (case.scale("linear2.mul"), case.scale("linear2.sum"));
    let sw = case.scale("linear2.weight");
    let product = Rescale::of_product(case.scale("layernorm"), sw, sm);
    let sum = Rescale::between(sm, ss);
    let mut out = vec![0; n * o];
    let counts = mul_sum(&case.x, &case.w, case.shape, product, sum, &mut out).unwrap();
    assert!(out == case.golden.tensor::<i16>("mul_sum.int.sum"));
    assert_eq!((counts.zero, counts.clipped), (12_124, 1));

    let (sb, sy) = (case.scale("linear2.bias"), case.scale("linear2"));
    let (rs, rb) = (Rescale::between(ss, sy), Rescale::between(sb, sy));
    let mut bias = vec![0i16; o];
    quantize(&case.float_bias, sb, Rounding::HalfEven, &mut bias).unwrap();
    let dims = [n, o];
    let sums = TensorRef::new(&out, &dims).unwrap();
    let y = add::<_, _, i16>(sums, rs, TensorRef::new(&bias, &dims[1..]).unwrap(), rb).unwrap();
    assert!(y.data == case.golden.tensor::<i16>("mul_sum.int.y"));
}

#[test]
fn validation() {
    let case = Case::open();
    let GemmShape { n, k, o } = case.shape;
    let (mut x, mut w) = (vec![0.0; n * k], vec![0.0; o * k]);
    dequantize(&case.x, case.scale("layernorm"), &mut x).unwrap();
    dequantize(&case.w, case.scale("linear2.weight"), &mut w).unwrap();
    let mut sums = vec![0.0; n * o];
    let product = case.scale("linear2.mul");
    mul_sum_fake_quant(&x, &w, case.shape, product, &mut sums).unwrap();
    let fake = |values: &mut [f32], name: &str| {
        let scale = case.scale(name);
        fake_quantize_in_place(values, scale, IntDtype::Int16, Rounding::HalfEven);
    };
    fake(&mut sums, "linear2.sum");
    let mut bias = case.float_bias.clone();
    fake(&mut bias, "linear2.bias");

    let dims = [n, o];
    let sums = TensorRef::new(&sums, &dims).unwrap();
    let bias = TensorRef::new(&bias, &dims[1..]).unwrap();
    let mut y = map_binary(sums, bias, |sum, b| sum + b).unwrap().data;
    fake(&mut y, "linear2");

    let step = case.scale("linear2").get();
    let expected = case.golden.tensor::<f32>("mul_sum.linear2");
    for (i, (y, e)) in y.iter().zip(&expected).enumerate() {
        assert!(
            (y - e).abs() <= 2.0 * step,
            "{i}: {y} is more than two steps from {e}"
        );
    }
}
