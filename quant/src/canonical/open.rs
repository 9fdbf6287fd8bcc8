//! Casts of floats that no integer is, as NaN or the logarithm of 0. ONNX leaves open what they become, so a
//! float run refuses them; but a model may cast all of a tensor and take by a Where what can be cast, as the
//! buckets of relative positions do. What nothing but the choices of a Where reads may be whatever it is.

use std::collections::{HashMap, HashSet};

use super::{OWN_DOMAIN, known::Known, replacement::int_attribute};
use crate::onnx::{NodeProto, reads};

/// The attribute of a Cast whose result may be left open.
pub(crate) const OPEN: &str = "open";

/// Marks the Casts whose results a Where chooses from before anything else reads them.
pub(super) fn mark(nodes: &mut [NodeProto], outputs: &[&str], known: &Known<'_>) {
    let casts = |node: &NodeProto| node.op_type == "Cast" && node.domain == OWN_DOMAIN;
    let mut read: HashSet<&str> = outputs.iter().copied().collect();
    let mut users: HashMap<&str, Vec<(&NodeProto, usize)>> = HashMap::new();
    for node in nodes.iter() {
        for (place, name) in node.input.iter().enumerate() {
            users.entry(name).or_default().push((node, place));
        }
        reads::of_bodies(node, &mut read);
    }
    let open: Vec<usize> = (0..nodes.len())
        .filter(|&index| {
            casts(&nodes[index]) && is_chosen_from(&nodes[index], &users, &read, known)
        })
        .collect();
    for index in open {
        nodes[index].attribute.push(int_attribute(OPEN, 1));
    }
}

/// Whether each way from a node leads, element by element, to a choice of a Where.
fn is_chosen_from(
    cast: &NodeProto,
    users: &HashMap<&str, Vec<(&NodeProto, usize)>>,
    read: &HashSet<&str>,
    known: &Known<'_>,
) -> bool {
    let mut seen: HashSet<&str> = HashSet::new();
    let mut open: Vec<&str> = cast.output.iter().map(String::as_str).collect();
    while let Some(name) = open.pop() {
        if read.contains(name) {
            return false;
        }
        if !seen.insert(name) {
            continue;
        }
        for &(node, place) in users.get(name).into_iter().flatten() {
            let made = node.output.first().map_or("", String::as_str);
            match node.op_type.as_str() {
                "Where" if place > 0 => {}
                "Shape" | "Size" => {}
                "Add" | "Sub" | "Mul" | "Neg" | "Abs" | "Min" | "Max" | "Identity" => {
                    open.push(made)
                }
                "Clip" | "Reshape" | "Squeeze" | "Unsqueeze" | "Expand" | "Transpose"
                    if place == 0 =>
                {
                    open.push(made);
                }
                "Cast" if known.is_integer(made) => open.push(made),
                _ => return false,
            }
        }
    }
    true
}
