//! Equalization of the input columns of the Linears that read one value, taken in by what makes the input: its last product and sum
//! with a constant, as a LayerNorm ends, or another Linear (cross-layer equalization, arXiv 1906.04721, section 4.1), and a ReLU
//! between. With s > 0 a factor for each column,
//!
//! relu(x · w + b) / s = relu(x · (w / s) + b / s)
//!
//! exactly, and the weight of each Linear is multiplied by s. Costs nothing on the chip. What the factors are,
//! the fit says that wants them ([`crate::fit`]).

use std::sync::Arc;

use super::{Place, Remedy, maker};
use crate::{
    graph::{Divided, Extension, Graph, NodeId, Op, Stated, ValueId, ValueKind},
    plan::{ScaleSource, shared::by_weight},
    tensor::Tensor,
};

/// Room of every tensor that is divided, beyond what was observed: the largest column set the range
/// before, now each of them may exceed its own.
const ROOM: f32 = 2.0;

/// Adds an alternative for each value whose columns are to be divided, for all Linears that read it.
pub(super) fn extend(source: &ScaleSource<'_>, extension: &mut Extension, places: &mut Vec<Place>) {
    let columns = &source.calibration.columns;
    for (linear, factors) in columns {
        let linear = NodeId(*linear);
        let Ok(steps) = makers(source, linear) else {
            continue;
        };
        let graph = source.graph;
        let input = graph.node(linear).inputs[0];
        let readers = graph.consumers(input);
        let agree = |reader: &NodeId| {
            let same = |(of, own): &(usize, Vec<f64>)| *of == reader.0 && own == factors;
            columns.iter().any(same)
        };
        if readers.first() != Some(&linear) || !readers.iter().all(agree) {
            continue;
        }
        let Some(mut fragment) = extension.instead_of(input, Remedy::Equalize.name()) else {
            continue;
        };
        let stated = Stated {
            room: Some(ROOM),
            ..Stated::default()
        };
        let mut made = None;
        let mut below = None;
        for step in steps.into_iter().rev() {
            let node = graph.node(step.node);
            if matches!(node.op, Op::Linear(_)) {
                // Seen as a product; where the factors are taken in, the Linear has it in its weight.
                let of = node.outputs[0];
                let shape = graph.value(of).shape.clone();
                let inverse = factors.iter().map(|factor| (1.0 / factor) as f32);
                let inverse = Tensor::from_shape_vec(vec![factors.len()], inverse.collect());
                let Ok(inverse) = inverse else { break };
                let inverse = fragment.constant("inverse", inverse);
                made = Some(fragment.node("mul", Op::Mul, vec![of, inverse], shape, stated));
                below = Some(step.node);
                continue;
            }
            let suffix = match node.op {
                Op::Mul => "mul",
                Op::Add => "add",
                _ => "relu",
            };
            let mut inputs = vec![made.unwrap_or(step.from)];
            if let Some((operand, constant)) = step.constant {
                let constant = divided(constant, factors);
                let constant = fragment.constant(&format!("{suffix}_constant"), constant);
                inputs.insert(operand, constant);
            }
            let shape = graph.value(node.outputs[0]).shape.clone();
            made = Some(fragment.node(suffix, node.op.clone(), inputs, shape, stated));
        }
        let Some(made) = made else { continue };
        let divided = Divided {
            factors: Arc::new(factors.clone()),
            readers: readers.to_vec(),
            below,
        };
        fragment.end_divided(made, divided);
        places.push(Place {
            remedy: Remedy::Equalize,
            node: linear,
            with: Vec::new(),
            alternative: places.len(),
        });
    }
}

/// A node that takes factors in or lets them through.
pub(crate) struct Step<'g> {
    node: NodeId,
    /// Its operand that is no constant.
    from: ValueId,
    /// Which operand is a constant, and that, a number for each column.
    constant: Option<(usize, &'g Tensor)>,
}

/// The nodes that make a Linear's input and would take the factors in, the last first. All that read the
/// input are Linears then.
///
/// # Errors
/// Why there are none, in words.
pub(crate) fn makers<'g>(
    source: &ScaleSource<'g>,
    linear: NodeId,
) -> Result<Vec<Step<'g>>, String> {
    let graph = source.graph;
    let node = graph.node(linear);
    let Op::Linear(own) = &node.op else {
        return Err("it is no Linear".to_owned());
    };
    let columns = own.weight.ncols();
    let mut value = node.inputs[0];
    let mut steps = Vec::new();
    loop {
        let name = &graph.value(value).name;
        let request = &source.request.values[value.0];
        let consumers = graph.consumers(value);
        let others = match steps.is_empty() {
            true => consumers.iter().any(|&id| !is_linear(graph, id)),
            false => consumers.len() != 1,
        };
        if others || graph.is_output(value) {
            return Err(format!("'{name}' is read by others as well"));
        }
        if request.fixed_scale.is_some() || request.explicit {
            return Err(format!("the scale or dtype of '{name}' was given"));
        }
        let Some(id) = maker(graph, value) else {
            return Err(format!("no operation makes '{name}'"));
        };
        let node = graph.node(id);
        let (from, constant) = match (&node.op, node.inputs.as_slice()) {
            (Op::Relu, &[x]) => (x, None),
            (Op::Linear(_), _) if shared(graph, id) => {
                let node = &graph.node(id).name;
                return Err(format!("other Linears have the weight of '{node}' as well"));
            }
            (Op::Linear(_), &[x]) => (x, None),
            (Op::Add | Op::Mul, &[a, b]) => {
                match (vector(graph, a, columns), vector(graph, b, columns)) {
                    (None, Some(constant)) => (a, Some((1, constant))),
                    (Some(constant), None) => (b, Some((0, constant))),
                    _ => return Err(format!("'{name}' has no constant for each column")),
                }
            }
            _ => {
                return Err(format!(
                    "'{name}' is made neither by a Linear, nor by a ReLU, nor with a constant for each column"
                ));
            }
        };
        let ends = matches!(node.op, Op::Mul | Op::Linear(_));
        steps.push(Step {
            node: id,
            from,
            constant,
        });
        if ends {
            return Ok(steps);
        }
        value = from;
    }
}

fn is_linear(graph: &Graph, id: NodeId) -> bool {
    matches!(graph.node(id).op, Op::Linear(_))
}

/// Whether other Linears have the same weight.
fn shared(graph: &Graph, id: NodeId) -> bool {
    let alone = |set: &Vec<usize>| set.contains(&id.0) && set.len() == 1;
    !by_weight(graph).iter().any(alone)
}

/// A constant that has one number for each of so many columns.
fn vector(graph: &Graph, id: ValueId, columns: usize) -> Option<&Tensor> {
    match &graph.value(id).kind {
        ValueKind::Constant(tensor) if columns > 1 => {
            let along = tensor.shape().last() == Some(&columns);
            (along && tensor.len() == columns).then_some(&**tensor)
        }
        _ => None,
    }
}

fn divided(constant: &Tensor, factors: &[f64]) -> Tensor {
    let mut constant = constant.clone();
    for (x, factor) in constant.iter_mut().zip(factors) {
        *x = (f64::from(*x) / factor) as f32;
    }
    constant
}
