//! Quantized values of the types that rten has no codes for, and operators on quantized operands.

use ndarray::{ArrayD, IxDyn};

use super::{
    Made,
    call::{Call, integers, stored, tensor},
    convolution, integers as whole,
};
use crate::{canonical::narrowed, onnx::DataType, tensor::Datum};

/// Parameters of each element: one for the tensor, one along an axis, or one a block along it.
struct Parameters {
    scale: ArrayD<f32>,
    zero: Option<ArrayD<f64>>,
    axis: usize,
    block: usize,
}

impl Parameters {
    fn of(call: &Call<'_>, shape: &[usize]) -> Result<Parameters, String> {
        let scale = call.floats(1)?.clone();
        let zero = call.given(2).map(|zero| match zero {
            Datum::F32(zero) => zero.mapv(f64::from),
            other => integers(other).unwrap_or_default().mapv(|x| x as f64),
        });
        let axis = match shape.is_empty() {
            true => 0,
            false => call.axis(call.int("axis", 1).min(shape.len() as i64 - 1), shape.len())?,
        };
        let block =
            usize::try_from(call.int("block_size", 0)).map_err(|_| "its block_size is negative")?;
        let fits = match (scale.ndim(), block) {
            _ if scale.len() == 1 => true,
            (1, 0) => scale.len() == shape.get(axis).copied().unwrap_or(1),
            (rank, block) => block > 0 && rank == shape.len(),
        };
        if !fits || zero.as_ref().is_some_and(|zero| zero.len() != scale.len()) {
            return Err(format!(
                "its scale of shape {:?} or its zero point does not fit an input of {shape:?}",
                scale.shape()
            ));
        }
        Ok(Parameters {
            scale,
            zero,
            axis,
            block,
        })
    }

    /// Scale and zero point of an element.
    fn at(&self, index: &[usize]) -> Result<(f32, f64), String> {
        let place = match (self.scale.len(), self.scale.ndim()) {
            (1, rank) => vec![0; rank],
            (_, 1) if self.block == 0 => vec![index[self.axis]],
            _ => {
                let mut place = index.to_vec();
                place[self.axis] /= self.block;
                place
            }
        };
        let missing = || "its scale does not fit its input and block_size".to_owned();
        let scale = self.scale.get(IxDyn(&place)).copied().ok_or_else(missing)?;
        let zero = match &self.zero {
            Some(zero) => {
                let flat = zero.iter().next().copied();
                let zero = if zero.len() == 1 {
                    flat
                } else {
                    zero.get(IxDyn(&place)).copied()
                };
                zero.ok_or_else(missing)?
            }
            None => 0.0,
        };
        Ok((scale, zero))
    }
}

/// QuantizeLinear-23 to `elem`: `saturate(round(x / scale) + zero point)`.
pub(super) fn quantize(call: &Call<'_>) -> Made {
    let elem = call.elem();
    let x = match call.needs(0)? {
        Datum::F32(x) => x.clone(),
        other => integers(other).unwrap_or_default().mapv(|x| x as f32),
    };
    let parameters = Parameters::of(call, x.shape())?;
    let mut codes = ArrayD::<f64>::zeros(x.raw_dim());
    let range = range(elem);
    for (index, &x) in x.indexed_iter() {
        let (scale, zero) = parameters.at(ndarray::Dimension::slice(&index))?;
        let scaled = x / scale;
        codes[&index] = match range {
            Some((low, high)) => (f64::from(scaled.round_ties_even()) + zero).clamp(low, high),
            None => f64::from(
                narrowed(scaled + zero as f32, elem, call.int("saturate", 1) != 0)
                    .unwrap_or(scaled),
            ),
        };
    }
    Ok(vec![match range {
        Some(_) => stored(&codes.mapv(|code| code as i64), elem)?,
        None => Datum::F32(codes.mapv(|code| code as f32)),
    }])
}

/// DynamicQuantizeLinear-11: codes of 8 bits, their scale and their zero point.
pub(super) fn dynamic(call: &Call<'_>) -> Made {
    let x = call.floats(0)?;
    let largest = x.fold(0.0_f32, |largest, &x| largest.max(x));
    let smallest = x.fold(0.0_f32, |smallest, &x| smallest.min(x));
    let scale = (largest - smallest) / 255.0;
    let zero = match scale > 0.0 {
        true => (-smallest / scale).clamp(0.0, 255.0).round_ties_even(),
        false => 0.0,
    };
    let code = |x: f32| match scale > 0.0 {
        true => ((x / scale).round_ties_even() + zero).clamp(0.0, 255.0) as u8,
        false => 0,
    };
    Ok(vec![
        Datum::U8(x.mapv(code)),
        Datum::F32(tensor(&[], vec![scale])?),
        Datum::U8(tensor(&[], vec![zero as u8])?),
    ])
}

/// Smallest and largest code of an integer type; None for a float.
fn range(elem: DataType) -> Option<(f64, f64)> {
    use DataType as T;
    Some(match elem {
        T::Int8 => (-128.0, 127.0),
        T::Uint8 => (0.0, 255.0),
        T::Int16 => (-32768.0, 32767.0),
        T::Uint16 => (0.0, 65535.0),
        T::Int4 => (-8.0, 7.0),
        T::Uint4 => (0.0, 15.0),
        T::Int32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
        _ => return None,
    })
}

/// DequantizeLinear-23.
pub(super) fn dequantize(call: &Call<'_>) -> Made {
    let x = match call.needs(0)? {
        Datum::F32(x) => x.mapv(f64::from),
        other => integers(other).unwrap_or_default().mapv(|x| x as f64),
    };
    let parameters = Parameters::of(call, x.shape())?;
    let made = call.elem_of("to");
    let mut y = ArrayD::<f32>::zeros(x.raw_dim());
    for (index, &x) in x.indexed_iter() {
        let (scale, zero) = parameters.at(ndarray::Dimension::slice(&index))?;
        let exact = (x - zero) as f32 * scale;
        y[&index] = narrowed(exact, made, true).unwrap_or(exact);
    }
    Ok(vec![Datum::F32(y)])
}

/// An operand less its zero point: one for all, or one a row (`-2`), a column (`-1`) or a channel.
fn centred(call: &Call<'_>, x: usize, zero: usize, axis: i64) -> Result<ArrayD<i64>, String> {
    let mut x = call.integers(x)?;
    let Some(zero) = call.list(zero)? else {
        return Ok(x);
    };
    match zero.as_slice() {
        [] => {}
        &[zero] => x.mapv_inplace(|x| x - zero),
        many => {
            let axis = call.axis(axis, x.ndim())?;
            if x.shape()[axis] != many.len() {
                return Err(format!(
                    "{} zero points are not {}",
                    many.len(),
                    x.shape()[axis]
                ));
            }
            for (mut slice, &zero) in x.axis_iter_mut(ndarray::Axis(axis)).zip(many) {
                slice.mapv_inplace(|x| x - zero);
            }
        }
    }
    Ok(x)
}

/// MatMulInteger.
pub(super) fn matmul_integer(call: &Call<'_>) -> Made {
    let (a, b) = (centred(call, 0, 2, -2)?, centred(call, 1, 3, -1)?);
    Ok(vec![stored(&whole::product(&a, &b)?, DataType::Int32)?])
}

/// ConvInteger.
pub(super) fn conv_integer(call: &Call<'_>) -> Made {
    let (x, w) = (centred(call, 0, 2, 1)?, centred(call, 1, 3, 0)?);
    Ok(vec![stored(&convolved(call, &x, &w)?, DataType::Int32)?])
}

fn convolved(call: &Call<'_>, x: &ArrayD<i64>, w: &ArrayD<i64>) -> Result<ArrayD<i64>, String> {
    let flat = |x: &ArrayD<i64>| -> Vec<f64> { x.iter().map(|&x| x as f64).collect() };
    let y = convolution::product(call, (x.shape(), &flat(x)), (w.shape(), &flat(w)))?;
    tensor(&y.shape, y.elements.iter().map(|&y| y as i64).collect())
}
