//! Pieces of a model that this crate writes itself.

use ndarray::ArrayViewD;

use crate::tensor::append_le;

use super::{
    AttributeProto, AttributeType, DataType, Dimension, NodeProto, TensorProto, TensorShapeProto,
    TensorTypeProto, TypeProto, ValueInfoProto,
};

/// A node of the standard operator set; its name is that of its first output.
pub fn node(op_type: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let names = |of: &[&str]| of.iter().map(|&name| name.to_owned()).collect();
    NodeProto {
        op_type: op_type.to_owned(),
        name: format!("node_{}", outputs.first().copied().unwrap_or(op_type)),
        input: names(inputs),
        output: names(outputs),
        ..NodeProto::default()
    }
}

/// An integer attribute.
pub fn attribute_int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Int.into(),
        i: Some(value),
        ..AttributeProto::default()
    }
}

/// A FLOAT constant, its elements in row-major order whatever the layout of the array.
pub fn f32_initializer(name: &str, array: ArrayViewD<'_, f32>) -> TensorProto {
    let mut raw = Vec::new();
    append_le(&mut raw, array.iter(), f32::to_le_bytes);
    initializer(name, DataType::Float, array.shape(), raw)
}

/// A vector of INT64 constants: axes, shapes.
pub fn int64_initializer(name: &str, elements: &[i64]) -> TensorProto {
    let mut raw = Vec::new();
    append_le(&mut raw, elements.iter(), i64::to_le_bytes);
    initializer(name, DataType::Int64, &[elements.len()], raw)
}

/// Declares a FLOAT value; `dims` None leaves even the rank open, None within leaves one dimension
/// open.
pub fn f32_value(name: &str, dims: Option<&[Option<usize>]>) -> ValueInfoProto {
    let dim = |length: &Option<usize>| Dimension {
        dim_value: length.map(|length| length as i64),
        dim_param: None,
    };
    let shape = dims.map(|dims| TensorShapeProto {
        dim: dims.iter().map(dim).collect(),
    });
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto {
            tensor_type: Some(TensorTypeProto {
                elem_type: DataType::Float.into(),
                shape,
            }),
        }),
        metadata_props: Vec::new(),
    }
}

fn initializer(name: &str, data_type: DataType, shape: &[usize], raw: Vec<u8>) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: shape.iter().map(|&dim| dim as i64).collect(),
        data_type: data_type.into(),
        raw_data: Some(raw.into()),
        ..TensorProto::default()
    }
}
