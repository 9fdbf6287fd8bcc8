//! Small vectors of integers and booleans that follow from lengths which the file fixes: what an If asks
//! that an exporter wrote for any shape.

use super::known::{Known, counted, is_float};
use crate::onnx::{DataType, NodeProto};

/// What a node makes of such vectors, None within where an element is open; None where it is none.
pub(super) fn followed(known: &Known<'_>, node: &NodeProto) -> Option<Vec<Option<i64>>> {
    let name = |index: usize| node.input.get(index).filter(|name| !name.is_empty());
    let of = |index: usize| known.followed(name(index)?);
    let pairs = |with: fn(i64, i64) -> bool| -> Option<Vec<Option<i64>>> {
        let (a, b) = (of(0)?, of(1)?);
        // Of one element against many as well.
        let length = a.len().max(b.len());
        let at = |all: &[Option<i64>], index: usize| match all {
            [one] => *one,
            all => all.get(index).copied().flatten(),
        };
        let made = |index| Some(i64::from(with(at(&a, index)?, at(&b, index)?)));
        Some((0..length).map(made).collect())
    };
    match node.op_type.as_str() {
        "Shape" if node.attribute.is_empty() => {
            let lengths = known.inferred_shape(name(0)?)?;
            let length = |length: Option<usize>| i64::try_from(length?).ok();
            Some(lengths.into_iter().map(length).collect())
        }
        "Gather" => {
            let from = of(0)?;
            let at = |index: Option<i64>| from.get(counted(index?, from.len())?).copied();
            of(1)?.into_iter().map(at).collect()
        }
        "Identity" | "Cast" | "Squeeze" | "Unsqueeze" => {
            let made = known.elem(node.output.first()?);
            let is = |x: i64| match made {
                DataType::Bool => i64::from(x != 0),
                _ => x,
            };
            let whole = !is_float(made) && !known.is_float(name(0)?);
            let elements = of(0).filter(|_| whole)?;
            Some(elements.into_iter().map(|x| x.map(is)).collect())
        }
        "Not" => Some(
            of(0)?
                .into_iter()
                .map(|x| Some(i64::from(x? == 0)))
                .collect(),
        ),
        "Equal" => pairs(|a, b| a == b),
        "Less" => pairs(|a, b| a < b),
        "LessOrEqual" => pairs(|a, b| a <= b),
        "Greater" => pairs(|a, b| a > b),
        "GreaterOrEqual" => pairs(|a, b| a >= b),
        "And" => pairs(|a, b| a != 0 && b != 0),
        "Or" => pairs(|a, b| a != 0 || b != 0),
        _ => None,
    }
}
