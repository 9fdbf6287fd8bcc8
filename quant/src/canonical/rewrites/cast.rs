//! Cast between the types of the form. Every float is computed in f32, so a Cast between floats
//! rounds where the type is narrower; a boolean is 0 or 1; CastLike is a Cast.

use super::{Node, Rewritten, integers};
use crate::{
    canonical::{
        known::{Known, is_float},
        refusal::Refusal,
        replacement::{Replacement, int_attribute},
    },
    onnx::DataType,
};

pub(super) fn rewrite(known: &Known<'_>, node: &Node<'_>) -> Rewritten {
    use DataType as T;
    let to = match node.op() {
        "Cast" => node
            .int("to")
            .and_then(|to| DataType::try_from(to as i32).ok()),
        "CastLike" => Some(known.elem(node.needs(1)?)),
        _ => return Ok(None),
    };
    let to = to
        .filter(|&to| to != T::Undefined)
        .ok_or_else(|| Refusal::new("the type that it casts to is not known"))?;
    let x = node.needs(0)?;
    let from = known.elem(x);
    let mut new = Replacement::of(node.proto);
    let plain = |elem: DataType| vec![int_attribute("to", i32::from(elem).into())];
    if to == T::String || from == T::String {
        return Err(Refusal::new(
            "it casts from or to strings; only numbers are run",
        ));
    }
    if to == T::Bool {
        if from == T::Bool {
            return Ok(Some(new.last("Identity", &[x])));
        }
        let zero = new.number(0, from);
        let is_zero = new.node("Equal", &[x, &zero]);
        return Ok(Some(new.last("Not", &[&is_zero])));
    }
    let narrow = matches!(
        to,
        T::Bfloat16
            | T::Float16
            | T::Float8e4m3fn
            | T::Float8e4m3fnuz
            | T::Float8e5m2
            | T::Float8e5m2fnuz
            | T::Float4e2m1
    );
    // A branch or a loop of a model in f16 is run in f32 as the rest of it is.
    if narrow && from != to && !(to == T::Float16 && known.nested) {
        if known.nested {
            return Err(Refusal::new(format!(
                "it rounds to {to:?} inside a branch or a loop"
            )));
        }
        let x = match is_float(from) {
            true => x.to_owned(),
            false => new.node_with("Cast", &[x], plain(T::Float)),
        };
        let saturate = int_attribute("saturate", node.int("saturate").unwrap_or(1));
        let attributes = [plain(to), vec![saturate]].concat();
        return Ok(Some(new.last_own("Narrow", &[&x], attributes)));
    }
    if matches!(to, T::Int4 | T::Uint4) && is_float(from) {
        return Err(Refusal::new(format!(
            "it casts floats to {to:?}; quantize them instead"
        )));
    }
    if integers::exact_cast(known, x, to) {
        return integers::to_integer(known, node, x, to);
    }
    let target = match to {
        T::Float | T::Double | T::Float16 | T::Bfloat16 => T::Float,
        T::Int8 | T::Uint8 | T::Int32 | T::Int64 => to,
        T::Int16 | T::Uint16 | T::Uint32 | T::Uint64 => T::Int64,
        _ => {
            return Err(Refusal::new(format!(
                "it casts to {to:?}, which nothing here holds"
            )));
        }
    };
    if node.op() == "Cast" && to == target && node.attributes_but(&["to"]).is_empty() {
        return Ok(None);
    }
    Ok(Some(new.last_with("Cast", &[x], plain(target))))
}
