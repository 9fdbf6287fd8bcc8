//! Quantized values: rten has codes of 8 bits with one scale for a tensor or an axis, all else goes
//! to kernels of our own. The type of the codes is stated.

use super::{
    Node, Rewritten, dequantize,
    kernels::{elem_attribute, to_kernel},
};
use crate::{
    canonical::{known::Known, refusal::Refusal, replacement::int_attribute},
    onnx::DataType,
};

pub(super) fn rewrite(known: &Known<'_>, node: &Node<'_>) -> Rewritten {
    use DataType as T;
    let of = |index: usize| known.elem(node.input(index).unwrap_or_default());
    match node.op() {
        "QuantizeLinear" => {
            let stated = node
                .int("output_dtype")
                .and_then(|elem| DataType::try_from(elem as i32).ok())
                .filter(|&elem| elem != T::Undefined);
            let elem = match (stated, node.input(2)) {
                (Some(elem), _) => elem,
                (None, Some(zero)) => known.narrow(zero),
                (None, None) => T::Uint8,
            };
            if elem == T::Undefined {
                return Err(Refusal::new("the type of its zero point is not known"));
            }
            to_kernel(known, node, vec![elem_attribute(elem)])
        }
        "DequantizeLinear" => {
            let plain = matches!(of(0), T::Int8 | T::Uint8 | T::Int32)
                && node.int("block_size").unwrap_or(0) == 0
                && node.int("output_dtype").unwrap_or(0) == 0;
            match plain && known.nested {
                true => Ok(None),
                false => {
                    let made = dequantize::made(known, node);
                    to_kernel(
                        known,
                        node,
                        vec![int_attribute("to", i32::from(made).into())],
                    )
                }
            }
        }
        "DynamicQuantizeLinear" => to_kernel(known, node, vec![elem_attribute(T::Uint8)]),
        "MatMulInteger" | "ConvInteger" if !known.nested => {
            to_kernel(known, node, vec![elem_attribute(T::Int32)])
        }
        _ => Ok(None),
    }
}
