//! What is added to the scores of an Attention: its mask, no key after the query, none outside a
//! window, none that is padding.

use super::super::Node;
use crate::{
    canonical::{
        known::Known,
        refusal::Refusal,
        replacement::{Replacement, int_attribute},
    },
    onnx::DataType,
};

/// Since this operator set a mask may be shorter than the keys.
const SHORT_MASKS: i64 = 24;

pub(super) struct Mask {
    /// Broadcast to `[batch, heads, queries, keys]`.
    pub(super) bias: String,
    /// Whether a query may be left without a key.
    pub(super) may_cover_rows: bool,
}

pub(super) fn bias(
    known: &Known<'_>,
    node: &Node<'_>,
    new: &mut Replacement<'_>,
    q: &str,
    k: &str,
) -> Result<Option<Mask>, Refusal> {
    let causal = node.int("is_causal").unwrap_or(0) != 0;
    let windows = ["left_window_size", "right_window_size"]
        .map(|name| node.int(name).filter(|&size| size >= 0));
    let padded = node.input(6);
    let mut allowed = None;
    if causal || windows.iter().any(Option::is_some) || padded.is_some() {
        let places = Places::of(node, new, q, k);
        let mut and = |new: &mut Replacement<'_>, condition: String| {
            allowed = Some(match allowed.take() {
                Some(so_far) => {
                    let so_far: String = so_far;
                    new.node("And", &[&so_far, &condition])
                }
                None => condition,
            });
        };
        if causal {
            let within = new.node("LessOrEqual", &[&places.key, &places.query]);
            and(new, within);
        }
        let distance = |new: &mut Replacement<'_>, a: &str, b: &str, size: i64| {
            let (distance, size) = (new.node("Sub", &[a, b]), new.ints(&[size]));
            new.node("LessOrEqual", &[&distance, &size])
        };
        if let Some(left) = windows[0] {
            let within = distance(new, &places.query, &places.key, left);
            and(new, within);
        }
        if let Some(right) = windows[1] {
            let within = distance(new, &places.key, &places.query, right);
            and(new, within);
        }
        if let Some(padded) = padded {
            let column = new.ints(&[-1, 1, 1, 1]);
            let end = new.node("Reshape", &[padded, &column]);
            let within = new.node("Less", &[&places.key, &end]);
            and(new, within);
        }
    }
    let mask = match node.input(3) {
        Some(mask) => Some(stated(known, node, new, mask, k)?),
        None => None,
    };
    let chosen = allowed.map(|allowed| additive(new, &allowed));
    let bias = match (chosen, mask.clone()) {
        (Some(chosen), Some(mask)) => new.node("Add", &[&mask, &chosen]),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => return Ok(None),
    };
    let only_causal = mask.is_none() && padded.is_none() && windows == [None, None];
    Ok(Some(Mask {
        bias,
        may_cover_rows: !only_causal,
    }))
}

/// 0 where a condition holds, minus infinity elsewhere.
fn additive(new: &mut Replacement<'_>, allowed: &str) -> String {
    let (zero, infinity) = (new.float(0.0), new.float(f32::NEG_INFINITY));
    new.node("Where", &[allowed, &zero, &infinity])
}

/// The mask of a node, as what is added.
fn stated(
    known: &Known<'_>,
    node: &Node<'_>,
    new: &mut Replacement<'_>,
    mask: &str,
    k: &str,
) -> Result<String, Refusal> {
    let of = known.value(mask);
    let added = match of.elem {
        DataType::Bool => additive(new, mask),
        _ => mask.to_owned(),
    };
    let last = |name: Option<&str>, from_end: usize| {
        let shape = known.value(name?).shape?;
        shape.get(shape.len().checked_sub(from_end)?).copied()?
    };
    let of_keys = match node.input(4) {
        Some(_) => None,
        None => last(node.input(1), 2),
    };
    let whole = of_keys.is_some() && of_keys == last(Some(mask), 1);
    if known.opset < SHORT_MASKS || whole {
        return Ok(added);
    }
    let rank = of
        .shape
        .map(|shape| shape.len())
        .filter(|&rank| rank > 0)
        .ok_or_else(|| {
            Refusal::new(format!(
                "the rank of its mask '{mask}' is not known; declare its shape"
            ))
        })?;
    let length = |new: &mut Replacement<'_>, x: &str, axis: i64| {
        let start = vec![int_attribute("start", axis), int_attribute("end", axis + 1)];
        new.node_with("Shape", &[x], start)
    };
    let (keys, given) = (length(new, k, 2), length(new, mask, rank as i64 - 1));
    let (none, missing) = (
        new.ints(&vec![0; 2 * rank - 1]),
        new.node("Sub", &[&keys, &given]),
    );
    let pads = new.node_with("Concat", &[&none, &missing], vec![int_attribute("axis", 0)]);
    let infinity = new.float(f32::NEG_INFINITY);
    Ok(new.node("Pad", &[&added, &pads, &infinity]))
}

/// Places in the sequence of keys, of queries `[.., queries, 1]` and of keys `[keys]`.
struct Places {
    query: String,
    key: String,
}

impl Places {
    fn of(node: &Node<'_>, new: &mut Replacement<'_>, q: &str, k: &str) -> Places {
        let scalar = new.ints(&[]);
        let (zero, one) = (
            new.number(0, DataType::Int64),
            new.number(1, DataType::Int64),
        );
        let length = |new: &mut Replacement<'_>, x: &str| {
            let of = vec![int_attribute("start", 2), int_attribute("end", 3)];
            let vector = new.node_with("Shape", &[x], of);
            new.node("Reshape", &[&vector, &scalar])
        };
        let (queries, keys) = (length(new, q), length(new, k));
        let past = node.input(4).map(|past| length(new, past));
        let key = new.node("Range", &[&zero, &keys, &one]);
        let place = new.node("Range", &[&zero, &queries, &one]);
        let axis = new.ints(&[1]);
        let mut query = new.node("Unsqueeze", &[&place, &axis]);
        if let Some(past) = past {
            query = new.node("Add", &[&query, &past]);
        } else if let Some(padded) = node.input(6) {
            let column = new.ints(&[-1, 1, 1, 1]);
            let end = new.node("Reshape", &[padded, &column]);
            let before = new.node("Sub", &[&end, &queries]);
            query = new.node("Add", &[&query, &before]);
        }
        Places { query, key }
    }
}
