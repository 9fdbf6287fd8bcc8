//! ONNX files as protocol buffer messages, to read and to write, and the tensors inside them.
//!
//! The messages carry the public field numbers of ONNX and only the fields that matter here, so no
//! protoc is needed. Whatever else a file holds is dropped when it is decoded: float execution is
//! always given the original bytes. Nothing here knows what an operator means.

mod build;
mod external;
mod label;
pub(crate) mod lifted;
mod proto;
pub(crate) mod reads;
pub(crate) mod survey;
mod tensor;
mod wire;

pub use build::{attribute_int, f32_initializer, f32_value, int64_initializer, node};
pub(crate) use external::ExternalData;
pub use external::external_locations;
pub(crate) use label::node_label;
pub use proto::{
    AttributeProto, AttributeType, DataType, Dimension, FunctionProto, GraphProto, ModelProto,
    NodeProto, OperatorSetIdProto, SparseTensorProto, StringStringEntryProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
pub use tensor::{Payload, TensorError};
pub(crate) use wire::Fields;
