//! Elements of a [`TensorProto`], whichever of its many encodings it uses.

use half::{bf16, f16};
use ndarray::ArrayD;
use prost::bytes::Bytes;
use thiserror::Error;

use super::{DataType, TensorProto};
use crate::{doubles::held, tensor::Tensor};

/// Value of `data_location` for data in another file.
const EXTERNAL: i32 = 1;

/// Why a tensor's elements cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TensorError {
    /// Negative dimension, or more elements than can be counted.
    #[error("impossible shape {0:?}")]
    Shape(Vec<i64>),
    /// The data does not fill the shape.
    #[error("shape {shape:?} needs {wanted} {unit}, the file has {got}")]
    Length {
        /// Shape stated.
        shape: Vec<i64>,
        /// "elements" or "bytes".
        unit: &'static str,
        /// What the shape needs.
        wanted: usize,
        /// What there is.
        got: usize,
    },
    /// Element type that is not the one asked for.
    #[error("data type {got} where {wanted} is needed")]
    Type {
        /// Name or number of the type.
        got: String,
        /// Types that would do.
        wanted: &'static str,
    },
}

/// Where a tensor's elements are.
#[derive(Debug, Clone, Copy)]
pub enum Payload<'a> {
    /// In the message itself.
    Inline,
    /// In another file; these are its bytes.
    External(&'a [u8]),
}

impl TensorProto {
    /// Whether the elements are in another file.
    pub fn is_external(&self) -> bool {
        self.data_location == EXTERNAL
    }

    /// Element type; `Undefined` for one this crate does not know.
    pub fn element_type(&self) -> DataType {
        DataType::try_from(self.data_type).unwrap_or(DataType::Undefined)
    }

    /// Whether [`Self::to_f32`] can read it.
    pub fn is_float(&self) -> bool {
        use DataType::{Bfloat16, Double, Float, Float16};
        matches!(self.element_type(), Float | Float16 | Bfloat16 | Double)
    }

    /// Shape, every dimension >= 0 and the number of elements representable.
    pub fn shape(&self) -> Result<Vec<usize>, TensorError> {
        let impossible = || TensorError::Shape(self.dims.clone());
        let shape: Vec<usize> = self
            .dims
            .iter()
            .map(|&dim| usize::try_from(dim).map_err(|_| impossible()))
            .collect::<Result<_, _>>()?;
        shape
            .iter()
            .try_fold(8_usize, |product, &dim| product.checked_mul(dim))
            .filter(|&bytes| bytes <= isize::MAX as usize)
            .ok_or_else(impossible)?;
        Ok(shape)
    }

    /// Elements of a FLOAT, FLOAT16, BFLOAT16 or DOUBLE tensor, rounded to f32 where wider.
    pub fn to_f32(&self, payload: Payload<'_>) -> Result<Tensor, TensorError> {
        match self.element_type() {
            DataType::Float => self.read(payload, &self.float_data, f32::from_le_bytes, |&x| x),
            DataType::Double => {
                let narrow = |bytes| held(f64::from_le_bytes(bytes));
                self.read(payload, &self.double_data, narrow, |&x| held(x))
            }
            // The 16 bits are in the low half of each int32.
            DataType::Float16 => {
                let widen = |bytes| f16::from_le_bytes(bytes).to_f32();
                self.read(payload, &self.int32_data, widen, |&x| {
                    f16::from_bits(x as u16).to_f32()
                })
            }
            DataType::Bfloat16 => {
                let widen = |bytes| bf16::from_le_bytes(bytes).to_f32();
                self.read(payload, &self.int32_data, widen, |&x| {
                    bf16::from_bits(x as u16).to_f32()
                })
            }
            _ => Err(self.wrong_type("FLOAT, FLOAT16, BFLOAT16 or DOUBLE")),
        }
    }

    /// Elements of an INT64, INT32, INT8, UINT8 or BOOL tensor.
    pub fn to_i64(&self, payload: Payload<'_>) -> Result<ArrayD<i64>, TensorError> {
        match self.element_type() {
            DataType::Int64 => self.read(payload, &self.int64_data, i64::from_le_bytes, |&x| x),
            DataType::Int32 => {
                let widen = |bytes| i64::from(i32::from_le_bytes(bytes));
                self.read(payload, &self.int32_data, widen, |&x| i64::from(x))
            }
            DataType::Bool => {
                let truth = |[byte]: [u8; 1]| i64::from(byte != 0);
                self.read(payload, &self.int32_data, truth, |&x| i64::from(x != 0))
            }
            DataType::Int8 => {
                let widen = |bytes| i64::from(i8::from_le_bytes(bytes));
                self.read(payload, &self.int32_data, widen, |&x| i64::from(x))
            }
            DataType::Uint8 => {
                let widen = |[byte]: [u8; 1]| i64::from(byte);
                self.read(payload, &self.int32_data, widen, |&x| i64::from(x))
            }
            _ => Err(self.wrong_type("INT64, INT32, INT8, UINT8 or BOOL")),
        }
    }

    fn read<T, U, const N: usize>(
        &self,
        payload: Payload<'_>,
        typed: &[U],
        from_bytes: impl Fn([u8; N]) -> T,
        from_typed: impl Fn(&U) -> T,
    ) -> Result<ArrayD<T>, TensorError> {
        let shape = self.shape()?;
        let count = shape.iter().product::<usize>();
        let length = |unit, wanted, got| TensorError::Length {
            shape: self.dims.clone(),
            unit,
            wanted,
            got,
        };
        let bytes = match payload {
            Payload::External(bytes) => Some(bytes),
            Payload::Inline => self.raw_data.as_ref().map(Bytes::as_ref),
        };
        let elements: Vec<T> = match bytes {
            Some(bytes) if bytes.len() != N * count => {
                return Err(length("bytes", N * count, bytes.len()));
            }
            Some(bytes) => bytes
                .as_chunks::<N>()
                .0
                .iter()
                .map(|&chunk| from_bytes(chunk))
                .collect(),
            None if typed.len() != count => return Err(length("elements", count, typed.len())),
            None => typed.iter().map(from_typed).collect(),
        };
        let got = elements.len();
        ArrayD::from_shape_vec(shape, elements).map_err(|_| length("elements", count, got))
    }

    fn wrong_type(&self, wanted: &'static str) -> TensorError {
        let got = match DataType::try_from(self.data_type) {
            Ok(known) => format!("{known:?}").to_uppercase(),
            Err(_) => format!("number {}", self.data_type),
        };
        TensorError::Type { got, wanted }
    }
}
