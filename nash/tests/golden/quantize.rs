//! Scales of ranges, and quantization with each of four scales.

use dual16_nash::quantize::{Rounding, dequantize, fake_quantize, quantize};
use dual16_nash::scale::{ScaleRule, scale_from_range};
use dual16_nash::{IntDtype, QInt};

use crate::data::{Element, Golden};

fn check<Q: QInt + Element>(file: &str, dtype: IntDtype) {
    let golden = Golden::open(file);
    let (min, max) = (golden.tensor::<f32>("min"), golden.tensor::<f32>("max"));
    let scales = golden.tensor::<f32>("scale");
    assert!(!scales.is_empty());
    for ((&min, &max), &expected) in min.iter().zip(&max).zip(&scales) {
        let scale = scale_from_range(min, max, dtype, ScaleRule::Range, false).unwrap();
        assert_eq!(scale.get().to_bits(), expected.to_bits(), "[{min}, {max}]");
    }

    let x = golden.tensor::<f32>("x");
    for i in 0..4 {
        let scale = golden.scale(&format!("s{i}"));
        let expected = golden.tensor::<Q>(&format!("q{i}"));
        let mut q = vec![Q::default(); x.len()];
        quantize(&x, scale, Rounding::HalfEven, &mut q).unwrap();
        assert_eq!(q, expected, "s{i}");

        let (mut dequantized, mut fake) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        dequantize(&expected, scale, &mut dequantized).unwrap();
        fake_quantize(&x, scale, dtype, Rounding::HalfEven, &mut fake).unwrap();
        assert_eq!(fake, dequantized, "s{i}");
    }
}

#[test]
fn int8() {
    check::<i8>("quantize_int8", IntDtype::Int8);
}

#[test]
fn int16() {
    check::<i16>("quantize_int16", IntDtype::Int16);
}
