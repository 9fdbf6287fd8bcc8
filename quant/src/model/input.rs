//! What a model's inputs must look like.

use std::{fmt, ops::RangeInclusive};

use super::constants::Constants;
use crate::{
    error::{Error, Result},
    onnx::{DataType, GraphProto, ValueInfoProto, reads},
};

/// Key of a note on a graph input whose rank is open: its last dimensions, as "256" or "8,256".
/// Layer mode writes it, since ONNX itself cannot say `[.., K]`.
pub const TRAILING_DIMS: &str = "dual16.trailing_dims";

/// Element kind of an input: what it may hold, as float execution has it. All but the bytes and the
/// floats are `i32` there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ElementKind {
    /// f32; also the narrower and wider floats, which are converted.
    F32,
    /// Doubles, in f32.
    F64,
    /// int32 and int64, in 32 bits.
    I32,
    /// uint32 and uint64, in 31 bits.
    U32,
    /// int16.
    I16,
    /// uint16.
    U16,
    /// i8.
    I8,
    /// u8.
    U8,
    /// 0 and 1.
    Bool,
}

impl ElementKind {
    /// Bytes of an element.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::I8 | Self::U8 => 1,
            // They are read as they are before they are f32.
            Self::F64 => 8,
            _ => 4,
        }
    }

    /// The integers that it holds; floats are held to no range.
    pub(crate) const fn range(self) -> RangeInclusive<i128> {
        let (least, most) = match self {
            Self::F32 | Self::F64 | Self::I32 => (i32::MIN, i32::MAX),
            Self::U32 => (0, i32::MAX),
            Self::I16 => (i16::MIN as i32, i16::MAX as i32),
            Self::U16 => (0, u16::MAX as i32),
            Self::I8 => (i8::MIN as i32, i8::MAX as i32),
            Self::U8 => (0, u8::MAX as i32),
            Self::Bool => (0, 1),
        };
        least as i128..=most as i128
    }
}

impl fmt::Display for ElementKind {
    /// As ONNX and NumPy call it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "float",
            Self::F64 => "double",
            Self::I32 => "int32 or int64",
            Self::U32 => "uint32 or uint64",
            Self::I16 => "int16",
            Self::U16 => "uint16",
            Self::I8 => "int8",
            Self::U8 => "uint8",
            Self::Bool => "bool",
        })
    }
}

/// One input of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputSpec {
    /// Name in the graph; the key a batch file has for it.
    pub name: String,
    /// Element kind.
    pub kind: ElementKind,
    /// Shape, as far as it is fixed.
    pub shape: InputShape,
}

/// How much of an input's shape is fixed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputShape {
    /// The rank is; None = any length.
    Ranked(Vec<Option<usize>>),
    /// Only the last dimensions are, after any number of others.
    Trailing(Vec<usize>),
}

/// The graph inputs that are no initializers and that something reads: of the others no batch need tell.
pub(super) fn specs(
    file: &str,
    graph: &GraphProto,
    constants: &Constants,
) -> Result<Vec<InputSpec>> {
    let read = reads::reads(graph);
    let fed = graph
        .input
        .iter()
        .filter(|value| constants.get(&value.name).is_none() && read.contains(value.name.as_str()));
    fed.map(|value| {
        spec(value).map_err(|reason| Error::Model {
            file: file.to_owned(),
            reason: format!("input '{}': {reason}", value.name),
        })
    })
    .collect()
}

fn spec(value: &ValueInfoProto) -> Result<InputSpec, String> {
    let tensor = value
        .r#type
        .as_ref()
        .and_then(|value_type| value_type.tensor_type.as_ref());
    let tensor = tensor.ok_or("it is no tensor; only tensors can be given in a batch")?;
    let kind = match DataType::try_from(tensor.elem_type) {
        Ok(DataType::Float | DataType::Float16 | DataType::Bfloat16) => ElementKind::F32,
        Ok(DataType::Double) => ElementKind::F64,
        Ok(DataType::Int64 | DataType::Int32) => ElementKind::I32,
        Ok(DataType::Uint64 | DataType::Uint32) => ElementKind::U32,
        Ok(DataType::Int16) => ElementKind::I16,
        Ok(DataType::Uint16) => ElementKind::U16,
        Ok(DataType::Int8) => ElementKind::I8,
        Ok(DataType::Uint8) => ElementKind::U8,
        Ok(DataType::Bool) => ElementKind::Bool,
        Ok(other) => return Err(format!("data type {other:?} is not supported")),
        Err(_) => return Err(format!("data type number {} is unknown", tensor.elem_type)),
    };
    let shape = match &tensor.shape {
        Some(shape) => InputShape::Ranked(
            shape
                .dim
                .iter()
                .map(|dim| usize::try_from(dim.dim_value?).ok())
                .collect(),
        ),
        None => InputShape::Trailing(trailing(value)),
    };
    Ok(InputSpec {
        name: value.name.clone(),
        kind,
        shape,
    })
}

/// Note of another tool under our key: whatever does not parse fixes nothing.
fn trailing(value: &ValueInfoProto) -> Vec<usize> {
    let note = value
        .metadata_props
        .iter()
        .find(|entry| entry.key == TRAILING_DIMS);
    let parse = |text: &str| text.split(',').map(|dim| dim.trim().parse().ok()).collect();
    note.and_then(|entry| parse(&entry.value))
        .unwrap_or_default()
}

impl InputShape {
    /// Whether a shape fits.
    pub fn fits(&self, shape: &[usize]) -> bool {
        match self {
            InputShape::Ranked(dims) => {
                dims.len() == shape.len()
                    && dims
                        .iter()
                        .zip(shape)
                        .all(|(dim, got)| dim.is_none_or(|dim| dim == *got))
            }
            InputShape::Trailing(dims) => shape.ends_with(dims),
        }
    }
}

impl fmt::Display for InputShape {
    /// `[2, *, 256]`, `[.., 256]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = match self {
            InputShape::Ranked(dims) => dims
                .iter()
                .map(|dim| dim.map_or("*".to_owned(), |dim| dim.to_string()))
                .collect(),
            InputShape::Trailing(dims) => std::iter::once("..".to_owned())
                .chain(dims.iter().map(ToString::to_string))
                .collect(),
        };
        write!(f, "[{}]", parts.join(", "))
    }
}
