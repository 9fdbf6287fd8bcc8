//! Casts whose result depends on the exact type, and the bits of a value taken for another type.

use super::{
    Made,
    call::{Call, integers, stored},
};
use crate::{
    canonical::{OPEN, narrowed},
    onnx::DataType,
    tensor::Datum,
};

/// To an integer type `elem`: floats are cut, integers wrap. What no integer is, where nobody takes it, is the
/// least one.
pub(super) fn cast(call: &Call<'_>) -> Made {
    let elem = call.elem();
    let whole = match call.needs(0)? {
        Datum::F32(x) => {
            let bits = if elem == DataType::Int32 { 32 } else { 64 };
            let largest = 2_f32.powi(bits - 1);
            let fits = |x: f32| x < largest && x >= -largest;
            let open = call.int(OPEN, 0) != 0;
            if let Some(x) = x.iter().find(|&&x| !open && !fits(x)) {
                return Err(format!(
                    "no integer of {bits} bits is {x}; keep it from the Cast, by a Clip or a Where before it"
                ));
            }
            x.mapv(|x| match fits(x) {
                true => x as i64,
                false => i32::MIN.into(),
            })
        }
        other => integers(other).ok_or("its input is no tensor of numbers")?,
    };
    Ok(vec![stored(&whole, elem)?])
}

/// To a float type `to` narrower than f32.
pub(super) fn narrow(call: &Call<'_>) -> Made {
    let to = call.elem_of("to");
    let x = call.floats(0)?;
    let saturate = call.int("saturate", 1) != 0;
    Ok(vec![Datum::F32(
        x.mapv(|x| narrowed(x, to, saturate).unwrap_or(x)),
    )])
}

/// The same bits as another type of as many.
pub(super) fn bits(call: &Call<'_>) -> Made {
    let to = call.elem();
    let y = match (call.needs(0)?, to) {
        (Datum::F32(x), DataType::Int32) => Datum::I32(x.mapv(|x| x.to_bits() as i32)),
        (Datum::I32(x), DataType::Float) => Datum::F32(x.mapv(|x| f32::from_bits(x as u32))),
        (Datum::I8(x), DataType::Uint8) => Datum::U8(x.mapv(|x| x as u8)),
        (Datum::U8(x), DataType::Int8) => Datum::I8(x.mapv(|x| x as i8)),
        (x @ Datum::F32(_), DataType::Float)
        | (x @ Datum::I32(_), DataType::Int32)
        | (x @ Datum::I8(_), DataType::Int8)
        | (x @ Datum::U8(_), DataType::Uint8) => x.clone(),
        _ => return Err(format!("bits of its input are no {to:?} here")),
    };
    Ok(vec![y])
}
