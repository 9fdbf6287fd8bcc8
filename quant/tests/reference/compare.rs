//! Whether a value is the one expected: floats nearly, integers and booleans exactly.

use dual16_quant::tensor::Datum;
use half::{bf16, f16};
use safetensors::{Dtype, tensor::TensorView};

/// What is expected, in types that hold every value of it.
enum Wanted {
    Floats(Vec<f64>),
    Integers(Vec<i128>),
}

/// What is wrong with a value; None where it is as expected.
pub fn difference(got: &Datum, wanted: &TensorView<'_>, rtol: f64, atol: f64) -> Option<String> {
    if got.shape() != wanted.shape() {
        return Some(format!(
            "shape {:?} instead of {:?}",
            got.shape(),
            wanted.shape()
        ));
    }
    let integers = match got {
        Datum::F32(array) => {
            let Wanted::Floats(wanted) = elements(wanted) else {
                return Some(format!("float instead of {:?}", wanted.dtype()));
            };
            let got: Vec<f64> = array.iter().copied().map(f64::from).collect();
            return float_difference(&got, &wanted, rtol, atol);
        }
        Datum::I32(array) => array.iter().copied().map(i128::from).collect::<Vec<_>>(),
        Datum::I8(array) => array.iter().copied().map(i128::from).collect(),
        Datum::U8(array) => array.iter().copied().map(i128::from).collect(),
    };
    let Wanted::Integers(wanted) = elements(wanted) else {
        return Some(format!("integers instead of {:?}", wanted.dtype()));
    };
    let at = integers.iter().zip(&wanted).position(|(a, b)| a != b)?;
    Some(format!(
        "{} instead of {} at element {at}",
        integers[at], wanted[at]
    ))
}

fn float_difference(got: &[f64], wanted: &[f64], rtol: f64, atol: f64) -> Option<String> {
    let finite = wanted.iter().filter(|x| x.is_finite());
    let amax = finite.fold(0.0_f64, |amax, x| amax.max(x.abs()));
    let close = |(&a, &b): (&f64, &f64)| {
        let same = a == b || a.is_nan() && b.is_nan();
        same || b.is_finite() && (a - b).abs() <= rtol * b.abs() + atol * amax
    };
    let at = got.iter().zip(wanted).position(|pair| !close(pair))?;
    let wrong = got.iter().zip(wanted).filter(|&pair| !close(pair)).count();
    Some(format!(
        "{} instead of {} at element {at}; {wrong} of {} differ",
        got[at],
        wanted[at],
        wanted.len()
    ))
}

fn elements(tensor: &TensorView<'_>) -> Wanted {
    let bytes = tensor.data();
    match tensor.dtype() {
        Dtype::F64 => Wanted::Floats(each(bytes, f64::from_le_bytes)),
        Dtype::F32 => Wanted::Floats(each(bytes, |x| f32::from_le_bytes(x).into())),
        Dtype::F16 => Wanted::Floats(each(bytes, |x| f16::from_le_bytes(x).into())),
        Dtype::BF16 => Wanted::Floats(each(bytes, |x| bf16::from_le_bytes(x).into())),
        Dtype::I64 => Wanted::Integers(each(bytes, |x| i64::from_le_bytes(x).into())),
        Dtype::I32 => Wanted::Integers(each(bytes, |x| i32::from_le_bytes(x).into())),
        Dtype::I16 => Wanted::Integers(each(bytes, |x| i16::from_le_bytes(x).into())),
        Dtype::I8 => Wanted::Integers(each(bytes, |x| i8::from_le_bytes(x).into())),
        Dtype::U64 => Wanted::Integers(each(bytes, |x| u64::from_le_bytes(x).into())),
        Dtype::U32 => Wanted::Integers(each(bytes, |x| u32::from_le_bytes(x).into())),
        Dtype::U16 => Wanted::Integers(each(bytes, |x| u16::from_le_bytes(x).into())),
        Dtype::U8 | Dtype::BOOL => Wanted::Integers(each(bytes, |x| u8::from_le_bytes(x).into())),
        other => panic!("the generator writes no {other:?}"),
    }
}

fn each<const N: usize, T>(bytes: &[u8], element: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (chunks, _) = bytes.as_chunks::<N>();
    chunks.iter().map(|&chunk| element(chunk)).collect()
}
