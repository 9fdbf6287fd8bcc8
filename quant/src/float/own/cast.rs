//! Casts whose result depends on the exact type, and the bits of a value taken for another type.

use super::{
    Made,
    call::{Call, integers, stored},
};
use crate::{canonical::narrowed, onnx::DataType, tensor::Datum};

/// To an integer type `elem`: floats are cut, integers wrap.
pub(super) fn cast(call: &Call<'_>) -> Made {
    let elem = call.elem();
    let whole = match call.needs(0)? {
        Datum::F32(x) => {
            if let Some(x) = x.iter().find(|x| x.is_nan() || x.abs() >= 9.0e18) {
                return Err(format!("no integer of {} bits is {x}", 64));
            }
            let largest = 2_f32.powi(31);
            let outside = |x: &&f32| **x >= largest || **x < -largest;
            if let (DataType::Int32, Some(x)) = (elem, x.iter().find(outside)) {
                return Err(format!("no integer of 32 bits is {x}"));
            }
            x.mapv(|x| x as i64)
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
