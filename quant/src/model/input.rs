//! What a model's inputs must look like.

use super::constants::Constants;
use crate::{
    error::{Error, Result},
    onnx::{DataType, GraphProto, ValueInfoProto},
};

/// Key of a note on a graph input whose rank is open: its last dimensions, as "256" or "8,256".
/// Layer mode writes it, since ONNX itself cannot say `[.., K]`.
pub const TRAILING_DIMS: &str = "dual16.trailing_dims";

/// Element kind of an input, in the types that float execution has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElementKind {
    /// f32; also the narrower and wider floats, which are converted.
    F32,
    /// i32; also i64 and bool.
    I32,
    /// i8.
    I8,
    /// u8.
    U8,
}

impl ElementKind {
    /// Bytes of an element.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::F32 | Self::I32 => 4,
            Self::I8 | Self::U8 => 1,
        }
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

/// The graph inputs that are no initializers.
pub(super) fn specs(
    file: &str,
    graph: &GraphProto,
    constants: &Constants,
) -> Result<Vec<InputSpec>> {
    let fed = graph
        .input
        .iter()
        .filter(|value| constants.get(&value.name).is_none());
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
        Ok(DataType::Float | DataType::Float16 | DataType::Double) => ElementKind::F32,
        Ok(DataType::Int64 | DataType::Int32 | DataType::Bool) => ElementKind::I32,
        Ok(DataType::Int8) => ElementKind::I8,
        Ok(DataType::Uint8) => ElementKind::U8,
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

impl std::fmt::Display for InputShape {
    /// `[2, *, 256]`, `[.., 256]`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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
