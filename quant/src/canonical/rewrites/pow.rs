//! Pow of floats with an exponent of integers: the exponent as floats. Powers of integers are
//! `integers`' concern.

use super::{Node, Rewritten};
use crate::{
    canonical::{
        known::Known,
        replacement::{Replacement, int_attribute},
    },
    onnx::DataType,
};

pub(super) fn rewrite(known: &Known<'_>, node: &Node<'_>) -> Rewritten {
    if node.op() != "Pow" {
        return Ok(None);
    }
    let (x, exponent) = (node.needs(0)?, node.needs(1)?);
    let to = |elem: DataType| vec![int_attribute("to", i32::from(elem).into())];
    let mut new = Replacement::of(node.proto);
    if known.is_integer(exponent) && (known.is_float(x) || known.elem(x) == DataType::Undefined) {
        let exponent = new.node_with("Cast", &[exponent], to(DataType::Float));
        return Ok(Some(new.last("Pow", &[x, &exponent])));
    }
    Ok(None)
}
