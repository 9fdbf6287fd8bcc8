//! What a kernel is given: operands by position and attributes by name, and the ways it reads them.

use ndarray::{ArrayD, IxDyn};

use crate::{
    model::OnnxNode,
    onnx::DataType,
    tensor::{Datum, Tensor},
};

/// One run of a node.
pub(super) struct Call<'c> {
    pub(super) node: &'c OnnxNode,
    pub(super) operands: &'c [Option<&'c Datum>],
}

impl<'c> Call<'c> {
    pub(super) fn op(&self) -> &'c str {
        &self.node.op_type
    }

    /// Operand by position; None where it is left out.
    pub(super) fn given(&self, index: usize) -> Option<&'c Datum> {
        self.operands.get(index).copied().flatten()
    }

    pub(super) fn needs(&self, index: usize) -> Result<&'c Datum, String> {
        self.given(index)
            .ok_or_else(|| format!("its input {index} is missing"))
    }

    /// An operand of floats.
    pub(super) fn floats(&self, index: usize) -> Result<&'c Tensor, String> {
        self.needs(index)?
            .as_f32()
            .ok_or_else(|| format!("its input {index} holds no floats"))
    }

    /// An operand of floats that may be left out.
    pub(super) fn optional_floats(&self, index: usize) -> Result<Option<&'c Tensor>, String> {
        self.given(index).map(|_| self.floats(index)).transpose()
    }

    /// An operand of integers of any width.
    pub(super) fn integers(&self, index: usize) -> Result<ArrayD<i64>, String> {
        integers(self.needs(index)?).ok_or_else(|| format!("its input {index} holds no integers"))
    }

    /// The elements of an operand of integers; None where it is left out.
    pub(super) fn list(&self, index: usize) -> Result<Option<Vec<i64>>, String> {
        let list = |_| Ok(self.integers(index)?.into_iter().collect());
        self.given(index).map(list).transpose()
    }

    /// The first element of an operand of any type.
    pub(super) fn number(&self, index: usize) -> Result<Option<f64>, String> {
        let Some(datum) = self.given(index) else {
            return Ok(None);
        };
        let first = match datum {
            Datum::F32(floats) => floats.first().map(|&x| f64::from(x)),
            other => integers(other).and_then(|x| x.first().map(|&x| x as f64)),
        };
        first
            .map(Some)
            .ok_or_else(|| format!("its input {index} is empty"))
    }

    pub(super) fn int(&self, name: &str, otherwise: i64) -> i64 {
        self.node.int(name).unwrap_or(otherwise)
    }

    pub(super) fn float(&self, name: &str, otherwise: f32) -> f32 {
        self.node.float(name).unwrap_or(otherwise)
    }

    pub(super) fn text(&self, name: &str, otherwise: &'c str) -> &'c str {
        self.node.text(name).unwrap_or(otherwise)
    }

    /// A list of sizes, `length` of them.
    pub(super) fn sizes(
        &self,
        name: &str,
        length: usize,
        otherwise: usize,
    ) -> Result<Vec<usize>, String> {
        let Some(given) = self.node.ints(name) else {
            return Ok(vec![otherwise; length]);
        };
        let sizes: Option<Vec<usize>> = given.iter().map(|&x| usize::try_from(x).ok()).collect();
        sizes
            .filter(|sizes| sizes.len() == length)
            .ok_or_else(|| format!("its {name} {given:?} are not {length} sizes"))
    }

    /// Type of the integers made.
    pub(super) fn elem(&self) -> DataType {
        self.elem_of("elem")
    }

    /// A type that an attribute states.
    pub(super) fn elem_of(&self, name: &str) -> DataType {
        let stated = self
            .node
            .int(name)
            .and_then(|elem| DataType::try_from(elem as i32).ok());
        stated.unwrap_or(DataType::Undefined)
    }

    /// An axis of `rank`, counted from the front.
    pub(super) fn axis(&self, axis: i64, rank: usize) -> Result<usize, String> {
        let counted = if axis < 0 { axis + rank as i64 } else { axis };
        usize::try_from(counted)
            .ok()
            .filter(|&axis| axis < rank)
            .ok_or_else(|| format!("axis {axis} is none of a tensor of {rank} dimensions"))
    }
}

/// Integers of any width; None for floats.
pub(super) fn integers(datum: &Datum) -> Option<ArrayD<i64>> {
    Some(match datum {
        Datum::F32(_) => return None,
        Datum::I32(x) => x.mapv(i64::from),
        Datum::I8(x) => x.mapv(i64::from),
        Datum::U8(x) => x.mapv(i64::from),
    })
}

/// Integers as values of a type are held. Narrow types wrap, as ONNX's arithmetic does; what 32 bits
/// cannot hold is an error, never another number.
pub(super) fn stored(x: &ArrayD<i64>, elem: DataType) -> Result<Datum, String> {
    use DataType as T;
    Ok(match elem {
        T::Int8 | T::Int4 => Datum::I8(x.mapv(|x| x as i8)),
        T::Uint8 | T::Uint4 => Datum::U8(x.mapv(|x| x as u8)),
        T::Int16 => Datum::I32(x.mapv(|x| i32::from(x as i16))),
        T::Uint16 => Datum::I32(x.mapv(|x| i32::from(x as u16))),
        T::Int32 | T::Bool => Datum::I32(x.mapv(|x| x as i32)),
        _ => {
            let wrapped = |x: i64| match elem {
                T::Uint32 => i64::from(x as u32),
                _ => x,
            };
            let outside = |&&x: &&i64| {
                let x = wrapped(x);
                i32::try_from(x).is_err() || (elem == T::Uint64 && x < 0)
            };
            if let Some(x) = x.iter().find(outside) {
                return Err(beyond(&x.to_string()));
            }
            Datum::I32(x.mapv(|x| wrapped(x) as i32))
        }
    })
}

/// Says that a result is too large.
pub(super) fn beyond(what: &str) -> String {
    format!("its result {what} is a 64-bit integer; float execution has 32-bit ones")
}

/// A tensor of the shape and elements given.
pub(super) fn tensor<T>(shape: &[usize], elements: Vec<T>) -> Result<ArrayD<T>, String> {
    ArrayD::from_shape_vec(IxDyn(shape), elements)
        .map_err(|_| format!("its result does not fill the shape {shape:?}"))
}

/// The shape that numpy broadcasts two to.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let rank = a.len().max(b.len());
    let at = |shape: &[usize], index: usize| match (index + shape.len()).checked_sub(rank) {
        Some(index) => shape[index],
        None => 1,
    };
    let lengths = (0..rank).map(|index| match (at(a, index), at(b, index)) {
        (1, other) | (other, 1) => Ok(other),
        (x, y) if x == y => Ok(x),
        _ => Err(format!("the shapes {a:?} and {b:?} do not broadcast")),
    });
    lengths.collect()
}

/// Maps the tensor of a datum, whatever its type, to another of the same.
macro_rules! moved {
    ($datum:expr, $x:ident => $body:expr) => {
        match $datum {
            $crate::tensor::Datum::F32($x) => $crate::tensor::Datum::F32($body),
            $crate::tensor::Datum::I32($x) => $crate::tensor::Datum::I32($body),
            $crate::tensor::Datum::I8($x) => $crate::tensor::Datum::I8($body),
            $crate::tensor::Datum::U8($x) => $crate::tensor::Datum::U8($body),
        }
    };
}
pub(super) use moved;
