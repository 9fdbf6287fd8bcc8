//! Constants in the few types that the form has: every float is FLOAT, every integer INT64, INT32,
//! INT8 or UINT8. Constant nodes give theirs up here.

use half::{bf16, f16};

use super::{known::Known, refusal::Refusal};
use crate::onnx::{AttributeProto, DataType, NodeProto, Payload, TensorProto};

/// The tensor in a type of the form; its data stays where it is where it can.
pub(super) fn plain(tensor: TensorProto, known: &Known<'_>) -> Result<TensorProto, Refusal> {
    use DataType as T;
    let elem = tensor.element_type();
    if matches!(
        elem,
        T::Float
            | T::Double
            | T::Float16
            | T::Bfloat16
            | T::Int64
            | T::Int32
            | T::Int8
            | T::Uint8
            | T::Bool
    ) {
        return Ok(tensor);
    }
    let name = tensor.name.clone();
    let bad = |reason: String| Refusal::new(format!("tensor '{name}': {reason}"));
    if elem == T::Undefined || elem == T::String {
        // Nothing here can use it; whatever does is refused where it does.
        return Ok(tensor);
    }
    let shape = tensor.shape().map_err(|error| bad(error.to_string()))?;
    let count = shape.iter().product::<usize>();
    let read = known.read(&tensor, |tensor, at| elements(tensor, at, count));
    let elements = read.ok_or_else(|| {
        bad(format!(
            "its {count} elements of type {elem:?} are not all there"
        ))
    })?;
    let mut decoded = TensorProto {
        name: name.clone(),
        dims: tensor.dims.clone(),
        ..TensorProto::default()
    };
    match elements {
        Elements::Floats(floats) => {
            decoded.data_type = T::Float.into();
            decoded.float_data = floats;
        }
        Elements::Integers(integers) => {
            decoded.data_type = match elem {
                T::Int4 => T::Int8.into(),
                T::Uint4 => T::Uint8.into(),
                _ => T::Int64.into(),
            };
            if matches!(elem, T::Int4 | T::Uint4) {
                decoded.int32_data = integers.iter().map(|&x| x as i32).collect();
            } else {
                decoded.int64_data = integers;
            }
        }
    }
    Ok(decoded)
}

enum Elements {
    Floats(Vec<f32>),
    Integers(Vec<i64>),
}

/// Elements of the types that no reader here takes as they are.
fn elements(tensor: &TensorProto, at: Payload<'_>, count: usize) -> Result<Elements, ()> {
    use DataType as T;
    let inline = tensor.raw_data.as_ref().map(AsRef::as_ref);
    let bytes: Option<&[u8]> = match at {
        Payload::External(bytes) => Some(bytes),
        Payload::Inline => inline,
    };
    let elem = tensor.element_type();
    let integers = |width: usize, of: &dyn Fn(&[u8]) -> i64| match bytes {
        Some(bytes) if bytes.len() == width * count => {
            Ok(bytes.chunks_exact(width).map(of).collect())
        }
        Some(_) => Err(()),
        None if matches!(elem, T::Uint32 | T::Uint64) => {
            let list = &tensor.uint64_data;
            (list.len() == count)
                .then(|| {
                    list.iter()
                        .map(|&x| i64::try_from(x).unwrap_or(i64::MAX))
                        .collect()
                })
                .ok_or(())
        }
        None => {
            let list = &tensor.int32_data;
            (list.len() == count)
                .then(|| list.iter().map(|&x| x.into()).collect())
                .ok_or(())
        }
    };
    let small = |of: fn(u8) -> f32| -> Result<Vec<f32>, ()> {
        match bytes {
            Some(bytes) if bytes.len() == count => Ok(bytes.iter().map(|&x| of(x)).collect()),
            Some(_) => Err(()),
            None => {
                let list = &tensor.int32_data;
                (list.len() == count)
                    .then(|| list.iter().map(|&x| of(x as u8)).collect())
                    .ok_or(())
            }
        }
    };
    let nibbles = || -> Result<Vec<u8>, ()> {
        let packed: Vec<u8> = match bytes {
            Some(bytes) => bytes.to_vec(),
            None => tensor.int32_data.iter().map(|&x| x as u8).collect(),
        };
        if packed.len() != count.div_ceil(2) {
            return Err(());
        }
        Ok(packed
            .iter()
            .flat_map(|&byte| [byte & 15, byte >> 4])
            .take(count)
            .collect())
    };
    let sized = |bytes: &[u8]| -> [u8; 8] {
        let mut wide = [0; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        wide
    };
    Ok(match elem {
        T::Int16 => Elements::Integers(integers(2, &|b| {
            i64::from(u64::from_le_bytes(sized(b)) as u16 as i16)
        })?),
        T::Uint16 => Elements::Integers(integers(2, &|b| u64::from_le_bytes(sized(b)) as i64)?),
        T::Uint32 => Elements::Integers(integers(4, &|b| u64::from_le_bytes(sized(b)) as i64)?),
        T::Uint64 => Elements::Integers(integers(8, &|b| {
            i64::try_from(u64::from_le_bytes(sized(b))).unwrap_or(i64::MAX)
        })?),
        T::Float8e4m3fn => Elements::Floats(small(|x| float8(x, 4, 7, Special::Finite))?),
        T::Float8e4m3fnuz => Elements::Floats(small(|x| float8(x, 4, 8, Special::Unsigned))?),
        T::Float8e5m2 => Elements::Floats(small(|x| float8(x, 5, 15, Special::Ieee))?),
        T::Float8e5m2fnuz => Elements::Floats(small(|x| float8(x, 5, 16, Special::Unsigned))?),
        T::Uint4 => Elements::Integers(nibbles()?.into_iter().map(i64::from).collect()),
        T::Int4 => Elements::Integers(
            nibbles()?
                .into_iter()
                .map(|x| i64::from((x as i8) << 4 >> 4))
                .collect(),
        ),
        T::Float4e2m1 => Elements::Floats(nibbles()?.into_iter().map(float4).collect()),
        _ => return Err(()),
    })
}

/// What an 8-bit float keeps its last codes for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Special {
    /// Infinities and NaN, as IEEE 754 has them.
    Ieee,
    /// NaN only, all ones.
    Finite,
    /// NaN only, where negative zero would be.
    Unsigned,
}

/// An 8-bit float (ONNX, "Float stored in 8 bits").
fn float8(code: u8, exponent_bits: u32, bias: i32, special: Special) -> f32 {
    let mantissa_bits = 7 - exponent_bits;
    let sign = if code & 0x80 != 0 { -1.0 } else { 1.0 };
    let exponent = (i32::from(code) >> mantissa_bits) & ((1 << exponent_bits) - 1);
    let mantissa = f32::from(code & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits) as f32;
    let top = (1 << exponent_bits) - 1;
    match special {
        Special::Unsigned if code == 0x80 => return f32::NAN,
        Special::Finite if code & 0x7f == 0x7f => return f32::NAN,
        Special::Ieee if exponent == top && mantissa == 0.0 => return sign * f32::INFINITY,
        Special::Ieee if exponent == top => return f32::NAN,
        _ => {}
    }
    match exponent {
        0 => sign * mantissa * 2_f32.powi(1 - bias),
        _ => sign * (1.0 + mantissa) * 2_f32.powi(exponent - bias),
    }
}

/// FLOAT4E2M1 (ONNX, "Float stored in 4 bits").
fn float4(code: u8) -> f32 {
    const MAGNITUDES: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    let magnitude = MAGNITUDES[usize::from(code & 7)];
    if code & 8 != 0 { -magnitude } else { magnitude }
}

/// What a Constant node holds, under the name of its output; None for any other node.
pub(super) fn constant_node(node: &NodeProto) -> Result<Option<TensorProto>, Refusal> {
    if node.op_type != "Constant" || !node.domain.is_empty() {
        return Ok(None);
    }
    let name = node.output.first().cloned().unwrap_or_default();
    let found = node
        .attribute
        .iter()
        .find_map(value)
        .unwrap_or_else(|| Err(Refusal::new("it has no value that is a tensor of numbers")));
    found.map(|tensor| Some(TensorProto { name, ..tensor }))
}

fn value(attribute: &AttributeProto) -> Option<Result<TensorProto, Refusal>> {
    let floats = |dims: Vec<i64>, float_data: Vec<f32>| TensorProto {
        dims,
        float_data,
        data_type: DataType::Float.into(),
        ..TensorProto::default()
    };
    let ints = |dims: Vec<i64>, int64_data: Vec<i64>| TensorProto {
        dims,
        int64_data,
        data_type: DataType::Int64.into(),
        ..TensorProto::default()
    };
    let count = |length: usize| vec![length as i64];
    Some(Ok(match attribute.name.as_str() {
        "value" => attribute.t.clone()?,
        "sparse_value" => return Some(super::sparse::dense(attribute.sparse_tensor.as_ref()?)),
        "value_float" => floats(Vec::new(), vec![attribute.f.unwrap_or_default()]),
        "value_floats" => floats(count(attribute.floats.len()), attribute.floats.clone()),
        "value_int" => ints(Vec::new(), vec![attribute.i.unwrap_or_default()]),
        "value_ints" => ints(count(attribute.ints.len()), attribute.ints.clone()),
        _ => return None,
    }))
}

/// The nearest number that a narrower float type has; ties to even, beyond its range as ONNX's Cast
/// does with `saturate` or without. None for a type that is no float narrower than f32.
pub(crate) fn narrowed(x: f32, elem: DataType, saturate: bool) -> Option<f32> {
    use DataType as T;
    // What a number beyond the largest becomes where it does not saturate.
    let infinity = match elem {
        T::Float8e5m2 => f32::INFINITY,
        _ => f32::NAN,
    };
    let grid = |bias: i32, mantissa_bits: i32, largest: f32| {
        if x.is_nan() {
            return x;
        }
        let magnitude = x.abs();
        if magnitude == 0.0 {
            return 0.0_f32.copysign(x);
        }
        let exponent = (magnitude.log2().floor() as i32).clamp(1 - bias, 127);
        // log2 may be off by one next to a power of two.
        let exponent = match 2_f32.powi(exponent) > magnitude && exponent > 1 - bias {
            true => exponent - 1,
            false => exponent,
        };
        let step = 2_f64.powi(exponent - mantissa_bits);
        let rounded = (f64::from(magnitude) / step).round_ties_even() * step;
        match rounded as f32 {
            rounded if rounded <= largest => rounded.copysign(x),
            _ if saturate => largest.copysign(x),
            _ => infinity.copysign(x),
        }
    };
    Some(match elem {
        T::Float16 => f16::from_f32(x).to_f32(),
        T::Bfloat16 => bf16::from_f32(x).to_f32(),
        T::Float8e4m3fn => grid(7, 3, 448.0),
        T::Float8e4m3fnuz => grid(8, 3, 240.0),
        T::Float8e5m2 => grid(15, 2, 57344.0),
        T::Float8e5m2fnuz => grid(16, 2, 57344.0),
        T::Float4e2m1 => grid(1, 1, 6.0),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bit_floats_at_the_ends_of_their_ranges() {
        assert_eq!(float8(0x7e, 4, 7, Special::Finite), 448.0);
        assert!(float8(0x7f, 4, 7, Special::Finite).is_nan());
        assert_eq!(float8(0x01, 4, 7, Special::Finite), 2_f32.powi(-9));
        assert_eq!(float8(0x7f, 4, 8, Special::Unsigned), 240.0);
        assert!(float8(0x80, 4, 8, Special::Unsigned).is_nan());
        assert_eq!(float8(0x7b, 5, 15, Special::Ieee), 57344.0);
        assert_eq!(float8(0xfc, 5, 15, Special::Ieee), f32::NEG_INFINITY);
        assert_eq!(float8(0xbc, 5, 15, Special::Ieee), -1.0);
    }

    #[test]
    fn narrowing_gives_numbers_of_the_type_and_keeps_those() {
        for code in 0..=0x7e {
            let x = float8(code, 4, 7, Special::Finite);
            assert_eq!(narrowed(x, DataType::Float8e4m3fn, true), Some(x), "{code}");
        }
        assert_eq!(narrowed(1.0625, DataType::Float8e4m3fn, true), Some(1.0));
        assert_eq!(narrowed(-1e9, DataType::Float8e4m3fn, true), Some(-448.0));
        assert_eq!(narrowed(2.5, DataType::Float4e2m1, true), Some(2.0));
    }
}
