//! Sign, which is 0 at 0 (ONNX, Sign-13): (x > 0) - (x < 0).

use super::{Node, Rewritten};
use crate::{
    canonical::{
        known::Known,
        replacement::{Replacement, int_attribute},
    },
    onnx::DataType,
};

pub(super) fn rewrite(known: &Known<'_>, node: &Node<'_>) -> Rewritten {
    if node.op() != "Sign" {
        return Ok(None);
    }
    let x = node.needs(0)?;
    let elem = match known.elem(x) {
        DataType::Undefined => DataType::Float,
        elem => elem,
    };
    let mut new = Replacement::of(node.proto);
    let zero = new.number(0, elem);
    let to = || vec![int_attribute("to", i32::from(elem).into())];
    let above = new.node("Greater", &[x, &zero]);
    let below = new.node("Less", &[x, &zero]);
    let above = new.node_with("Cast", &[&above], to());
    let below = new.node_with("Cast", &[&below], to());
    Ok(Some(new.last("Sub", &[&above, &below])))
}
