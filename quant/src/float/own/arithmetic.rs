//! Arithmetic and bits of integers, computed in 64 bits and held as their type is.

use ndarray::{ArrayD, Zip};

use super::{
    Made,
    call::{Call, beyond, broadcast, stored},
};
use crate::{onnx::DataType, tensor::Datum};

/// An operation of two integers.
pub(super) fn binary(call: &Call<'_>) -> Made {
    if let ("Pow", Some(Datum::F32(exponent))) = (call.op(), call.given(1)) {
        return float_power(call, &exponent.mapv(f64::from));
    }
    let (a, b) = (call.integers(0)?, call.integers(1)?);
    let op = call.op();
    let elem = call.elem();
    if matches!(op, "Div" | "Mod") && b.iter().any(|&b| b == 0) {
        return Err("it divides an integer by 0".to_owned());
    }
    let wide = matches!(elem, DataType::Int64 | DataType::Uint64);
    let left = call.text("direction", "LEFT") == "LEFT";
    let fmod = call.int("fmod", 0) != 0;
    let bits = width(elem);
    let one = |a: i64, b: i64| -> Option<i64> {
        Some(match op {
            "Add" => a.checked_add(b)?,
            "Sub" => a.checked_sub(b)?,
            "Mul" => a.checked_mul(b)?,
            "Div" => a.wrapping_div(b),
            "Mod" if fmod => a % b,
            "Mod" => {
                let rest = a % b;
                match rest != 0 && (rest < 0) != (b < 0) {
                    true => rest + b,
                    false => rest,
                }
            }
            "Pow" => power(a, b, wide)?,
            "BitwiseAnd" => a & b,
            "BitwiseOr" => a | b,
            "BitwiseXor" => a ^ b,
            "BitShift" if b < 0 || b >= bits => match left {
                true => 0,
                false => a >> 63,
            },
            "BitShift" if left && wide => a.checked_mul(1_i64.checked_shl(b as u32)?)?,
            "BitShift" if left => a << b,
            "BitShift" => a >> b,
            _ => return None,
        })
    };
    elementwise(&a, &b, one, elem)
}

fn elementwise(
    a: &ArrayD<i64>,
    b: &ArrayD<i64>,
    one: impl Fn(i64, i64) -> Option<i64>,
    elem: DataType,
) -> Made {
    let shape = broadcast(a.shape(), b.shape())?;
    let misfit = || {
        format!(
            "the shapes {:?} and {:?} do not broadcast",
            a.shape(),
            b.shape()
        )
    };
    let a = a.broadcast(shape.clone()).ok_or_else(misfit)?;
    let b = b.broadcast(shape.clone()).ok_or_else(misfit)?;
    let mut y = ArrayD::zeros(shape);
    let mut outside = None;
    Zip::from(&mut y).and(&a).and(&b).for_each(|y, &a, &b| {
        match one(a, b) {
            Some(result) => *y = result,
            None => outside = Some((a, b)),
        };
    });
    if let Some((a, b)) = outside {
        return Err(beyond(&format!("of {a} and {b}")));
    }
    Ok(vec![stored(&y, elem)?])
}

/// Bits of a type.
fn width(elem: DataType) -> i64 {
    match elem {
        DataType::Int8 | DataType::Uint8 => 8,
        DataType::Int16 | DataType::Uint16 => 16,
        DataType::Int32 | DataType::Uint32 => 32,
        _ => 64,
    }
}

/// A power of integers; a negative exponent gives a fraction, which is cut.
fn power(a: i64, b: i64, wide: bool) -> Option<i64> {
    if b < 0 {
        return match a {
            0 => None,
            1 => Some(1),
            -1 => Some(if b % 2 == 0 { 1 } else { -1 }),
            _ => Some(0),
        };
    }
    let b = u32::try_from(b).ok()?;
    match wide {
        true => a.checked_pow(b),
        false => Some(a.wrapping_pow(b)),
    }
}

fn float_power(call: &Call<'_>, exponent: &ArrayD<f64>) -> Made {
    let base = call.integers(0)?;
    let shape = broadcast(base.shape(), exponent.shape())?;
    let misfit = || "its operands do not broadcast".to_owned();
    let base = base.broadcast(shape.clone()).ok_or_else(misfit)?;
    let exponent = exponent.broadcast(shape.clone()).ok_or_else(misfit)?;
    let mut y = ArrayD::zeros(shape);
    let mut outside = false;
    Zip::from(&mut y)
        .and(&base)
        .and(&exponent)
        .for_each(|y, &a, &b| {
            let power = (a as f64).powf(b);
            outside |= power.is_nan() || power.abs() >= 9.0e18;
            *y = power as i64;
        });
    if outside {
        return Err(beyond("of a power"));
    }
    Ok(vec![stored(&y, call.elem())?])
}

/// An operation of one integer.
pub(super) fn unary(call: &Call<'_>) -> Made {
    let x = call.integers(0)?;
    let one = |x: i64| match call.op() {
        "Abs" => x.wrapping_abs(),
        "Neg" => x.wrapping_neg(),
        _ => !x,
    };
    Ok(vec![stored(&x.mapv(one), call.elem())?])
}
