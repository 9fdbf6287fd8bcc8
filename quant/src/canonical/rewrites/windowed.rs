//! Convolutions and pools that rten has not: more than two spatial axes, dilated or rounded-up
//! windows, indices.

use super::{Node, Rewritten, kernels::to_kernel};
use crate::{canonical::known::Known, onnx::DataType};

pub(super) fn rewrite(known: &Known<'_>, node: &Node<'_>) -> Rewritten {
    let kernel = node.ints("kernel_shape").map_or(0, <[i64]>::len);
    let more_than = |name: &str, least: i64| {
        let values = node.ints(name).unwrap_or_default();
        values.iter().any(|&value| value > least)
    };
    let own = match node.op() {
        "Conv" => kernel > 2,
        "ConvTranspose" => {
            kernel > 2 || more_than("dilations", 1) || more_than("output_padding", 0)
        }
        "MaxPool" | "AveragePool" => {
            kernel > 2
                || more_than("dilations", 1)
                || node.int("ceil_mode").unwrap_or(0) != 0
                || node.makes(1)
                || !known.is_float(node.needs(0)?)
                    && known.elem(node.needs(0)?) != DataType::Undefined
        }
        _ => false,
    };
    match own {
        true => to_kernel(known, node, Vec::new()),
        false => Ok(None),
    }
}
