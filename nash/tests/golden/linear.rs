//! Linear in the four plain dtype pairs, and in two planes.

use dual16_nash::elementwise::add;
use dual16_nash::linear::{channel_rescales, linear, linear_acc, quantize_bias};
use dual16_nash::quantize::{Rounding, quantize, quantize_per_channel};
use dual16_nash::scale::per_channel_scales;
use dual16_nash::split::SplitWeight;
use dual16_nash::{GemmShape, QInt, Rescale, ScaleRule, TensorRef};

use crate::data::{Element, Golden};

fn check<A: QInt + Element, W: QInt + Element>(way: &str) {
    let golden = Golden::open("linear");
    let name = |tensor: &str| format!("{way}.{tensor}");
    let [n, k] = golden.shape(&name("x"));
    let [o, _] = golden.shape::<2>(&name("w"));
    let shape = GemmShape { n, k, o };
    let (sx, sw) = (golden.scale(&name("sx")), golden.scales(&name("sw")));
    let sy = golden.scale("sy");

    let mut x = vec![A::default(); n * k];
    quantize(&golden.tensor::<f32>("x"), sx, Rounding::HalfEven, &mut x).unwrap();
    assert_eq!(x, golden.tensor::<A>(&name("x")));

    let float_w = golden.tensor::<f32>("w");
    let scales = per_channel_scales(&float_w, [o, k], W::DTYPE, ScaleRule::Range, false).unwrap();
    assert_eq!(scales, sw);
    let mut w = vec![W::default(); o * k];
    quantize_per_channel(&float_w, [o, k], &sw, Rounding::HalfEven, &mut w).unwrap();
    assert_eq!(w, golden.tensor::<W>(&name("w")));

    let bias = quantize_bias(&golden.tensor::<f32>("bias"), sx, &sw).unwrap();
    assert_eq!(bias, golden.tensor::<i32>(&name("bias_q")));

    let rescales = channel_rescales(sx, &sw, sy);
    let mut y = vec![0i16; n * o];
    let peak = linear(&x, &w, shape, Some(&bias), &rescales, &mut y).unwrap();
    assert_eq!(y, golden.tensor::<i16>(&name("y")));
    assert_eq!(
        peak.max_abs(),
        golden.one::<i64>(&name("acc_max")).unsigned_abs()
    );

    let mut acc = vec![0i64; n * o];
    assert_eq!(
        linear_acc(&x, &w, shape, Some(&bias), &mut acc).unwrap(),
        peak
    );
    let requantized: Vec<i16> = acc
        .iter()
        .enumerate()
        .map(|(i, &acc)| rescales[i % o].requant(acc))
        .collect();
    assert_eq!(requantized, y);
}

#[test]
fn a8w8() {
    check::<i8, i8>("a8w8");
}

#[test]
fn a16w8() {
    check::<i16, i8>("a16w8");
}

#[test]
fn a8w16() {
    check::<i8, i16>("a8w16");
}

#[test]
fn a16w16() {
    check::<i16, i16>("a16w16");
}

#[test]
fn split() {
    let golden = Golden::open("linear");
    let [o, k] = golden.shape("w");
    let [n, _] = golden.shape::<2>("x");
    let shape = GemmShape { n, k, o };

    let planes = SplitWeight::new(&golden.tensor::<f32>("w"), [o, k]).unwrap();
    assert_eq!(planes.scales, golden.scales("split.s"));
    assert_eq!(planes.hi, golden.tensor::<i8>("split.hi"));
    assert_eq!(planes.lo, golden.tensor::<i8>("split.lo"));

    let (x, sx) = (golden.tensor::<i16>("a16w8.x"), golden.scale("a16w8.sx"));
    let (sh, sl, sy) = (
        golden.scale("split.sh"),
        golden.scale("split.sl"),
        golden.scale("sy"),
    );
    let hi_scales = planes.hi_scales().unwrap();
    let bias = quantize_bias(&golden.tensor::<f32>("bias"), sx, &hi_scales).unwrap();

    let (mut yh, mut yl) = (vec![0i16; n * o], vec![0i16; n * o]);
    let hi_rescales = channel_rescales(sx, &hi_scales, sh);
    linear(&x, &planes.hi, shape, Some(&bias), &hi_rescales, &mut yh).unwrap();
    assert_eq!(yh, golden.tensor::<i16>("split.yh"));
    let lo_rescales = channel_rescales(sx, &planes.scales, sl);
    linear(&x, &planes.lo, shape, None, &lo_rescales, &mut yl).unwrap();
    assert_eq!(yl, golden.tensor::<i16>("split.yl"));

    let dims = [n, o];
    let (rh, rl) = (Rescale::between(sh, sy), Rescale::between(sl, sy));
    let view = |data| TensorRef::new(data, &dims).unwrap();
    let y = add::<_, _, i16>(view(&yh), rh, view(&yl), rl).unwrap();
    assert_eq!(y.data, golden.tensor::<i16>("split.y"));
}
