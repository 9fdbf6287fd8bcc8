//! The form as messages of ONNX.

use super::OPSET;
use crate::onnx::{GraphProto, ModelProto, OperatorSetIdProto, ValueInfoProto};

/// Version of the file format written.
const IR_VERSION: i64 = 10;

/// A graph of the form as a file.
pub(crate) fn file(graph: GraphProto) -> ModelProto {
    ModelProto {
        ir_version: IR_VERSION,
        opset_import: ["", "com.microsoft"]
            .map(|domain| OperatorSetIdProto {
                domain: domain.to_owned(),
                version: if domain.is_empty() { OPSET } else { 1 },
            })
            .to_vec(),
        graph: Some(graph),
        ..ModelProto::default()
    }
}

/// A value of which only the name is stated.
pub(crate) fn named(name: &str) -> ValueInfoProto {
    ValueInfoProto {
        name: name.to_owned(),
        ..ValueInfoProto::default()
    }
}
