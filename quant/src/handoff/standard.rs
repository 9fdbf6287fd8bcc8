//! A node of the canonical form as a node of standard ONNX: what runs by a kernel of this crate is the
//! operator that it was, as long as the operator set has it.

use crate::{
    canonical::{OWN_DOMAIN, int_attribute, text_attribute},
    model::OnnxNode,
    onnx::{DataType, NodeProto},
};

/// Operators that came after opset 19, and the opset that has them.
const SINCE: &[(&str, i64)] = &[
    ("Gelu", 20),
    ("AffineGrid", 20),
    ("DFT", 20),
    ("RMSNormalization", 23),
    ("TensorScatter", 24),
    ("BitCast", 26),
    ("CumProd", 26),
];

/// What no node says that was written for a kernel of this crate.
const OTHER: &[&str] = &[
    "Narrow",
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "ConvInteger",
    "MatMulInteger",
];

/// The attribute by which kernels know the integers that they make.
const ELEM: &str = "elem";

/// The node as opset `opset` has it.
///
/// # Errors
/// Why it has not, in words.
pub(super) fn standard(node: &OnnxNode, opset: i64) -> Result<NodeProto, String> {
    let mut proto = node.to_proto();
    let own = node.domain == OWN_DOMAIN;
    if own {
        if node.rounds_to_f16() {
            // Every float is a float32 in what is handed back.
            let to = int_attribute("to", i32::from(DataType::Float).into());
            return Ok(NodeProto {
                op_type: "Cast".to_owned(),
                domain: String::new(),
                attribute: vec![to],
                ..proto
            });
        }
        if OTHER.contains(&node.op_type.as_str()) {
            return Err("it has no operator of ONNX that says the same".to_owned());
        }
        proto.domain.clear();
        let elem = node.int(ELEM);
        proto.attribute.retain(|attribute| attribute.name != ELEM);
        if let (Some(elem), "Cast") = (elem, node.op_type.as_str()) {
            proto.attribute.push(int_attribute("to", elem));
        }
    }
    if proto.domain.is_empty() {
        let since = SINCE.iter().find(|(op, _)| *op == node.op_type);
        if let Some((_, since)) = since.filter(|(_, since)| *since > opset) {
            return Err(format!("ONNX has it from opset {since} on"));
        }
        if node.op_type == "GridSample" {
            let mode = grid_mode(node.text("mode").unwrap_or("linear"), opset);
            proto.attribute.retain(|attribute| attribute.name != "mode");
            proto.attribute.push(text_attribute("mode", mode));
        }
    }
    Ok(proto)
}

/// What GridSample calls its interpolation, which opset 20 renamed.
fn grid_mode(mode: &str, opset: i64) -> &str {
    match (mode, opset >= 20) {
        ("linear" | "bilinear", false) => "bilinear",
        ("linear" | "bilinear", true) => "linear",
        ("cubic" | "bicubic", false) => "bicubic",
        ("cubic" | "bicubic", true) => "cubic",
        (mode, _) => mode,
    }
}
