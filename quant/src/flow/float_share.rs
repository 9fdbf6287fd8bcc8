//! How much of a quantized model still runs in float, fp16 included.

use super::{Notice, session::Session};
use crate::{
    Error, Result,
    graph::{Island, Node, Op, ValueId},
};

/// Code of the notice.
pub(super) const PARTLY_FLOAT: &str = "PARTLY_FLOAT";
/// A share above this makes a model partly float.
const PARTLY: f64 = 0.01;
/// Operators that are named, at most.
const NAMED: usize = 5;

/// Shares of a model that run in float islands, each in [0, 1].
struct FloatShare {
    macs: f64,
    operators: f64,
    values: f64,
    /// ONNX operators that do, with how many of each.
    kinds: String,
}

/// A model of which more than 1 % runs in float is none that is quantized, whatever its figures say.
///
/// # Errors
/// [`Error::Setting`] where that was not to be (`strict`).
pub(super) fn told(session: &Session) -> Result<Option<Notice>> {
    let share = FloatShare::of(session);
    if share.macs.max(share.operators).max(share.values) <= PARTLY {
        return Ok(None);
    }
    let message = format!(
        "partly float: {:.0} % of its multiply-accumulates, {:.0} % of its operators and {:.0} % of its values run in \
         float ({}); its figures are not those of a whole quantized model",
        100.0 * share.macs,
        100.0 * share.operators,
        100.0 * share.values,
        share.kinds,
    );
    match session.job.settings.strict {
        true => Err(Error::Setting {
            setting: "strict".to_owned(),
            reason: format!("the model would be {message}"),
        }),
        false => Ok(Some(Notice {
            warning: true,
            code: PARTLY_FLOAT.to_owned(),
            subject: "model".to_owned(),
            message,
        })),
    }
}

impl FloatShare {
    fn of(session: &Session) -> Self {
        let graph = &session.graph;
        let elements =
            |node: &Node| -> u64 { node.outputs.iter().map(|&id| length(session, id)).sum() };
        let (mut operators, mut values, mut macs) = ([0u64; 2], [0u64; 2], [0u64; 2]);
        let mut kinds: std::collections::BTreeMap<&str, u64> = std::collections::BTreeMap::new();
        for (_, node) in graph.running() {
            if matches!(node.op, Op::Move(_)) {
                continue;
            }
            let island = match &node.op {
                // What makes integers or booleans has no integer kernel to miss.
                Op::Island(island)
                    if node
                        .outputs
                        .iter()
                        .any(|id| graph.value(*id).kind.is_float()) =>
                {
                    *kinds.entry(&island.op_type).or_default() += 1;
                    macs[1] = macs[1].saturating_add(island_macs(session, node, island));
                    true
                }
                Op::LayerNormFp16 { .. } => {
                    *kinds.entry(node.op.name()).or_default() += 1;
                    true
                }
                _ => {
                    macs[0] = macs[0].saturating_add(graph.macs(node));
                    false
                }
            };
            operators[usize::from(island)] += 1;
            values[usize::from(island)] += elements(node);
        }
        let share = |[integer, float]: [u64; 2]| float as f64 / (integer + float).max(1) as f64;
        let mut kinds: Vec<(&str, u64)> = kinds.into_iter().collect();
        kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let named = kinds
            .iter()
            .take(NAMED)
            .map(|(kind, count)| format!("{count} {kind}"));
        FloatShare {
            macs: share(macs),
            operators: share(operators),
            values: share(values),
            kinds: named.collect::<Vec<_>>().join(", "),
        }
    }
}

fn length(session: &Session, id: ValueId) -> u64 {
    session
        .graph
        .value(id)
        .shape
        .iter()
        .map(|&d| d as u64)
        .product()
}

/// Multiply-accumulates of a convolution or a product that runs in float; 0 of anything else.
fn island_macs(session: &Session, node: &Node, island: &Island) -> u64 {
    let Some(onnx) = session.float.node(island.onnx_node) else {
        return 0;
    };
    // The weight is [outputs, ...] of a convolution, [inputs, ...] of a transposed one.
    let each = |positions: Option<&ValueId>| {
        let weight = onnx
            .input(1)
            .and_then(|name| session.float.constant(name).ok())?;
        let channels = weight.shape().first().copied().unwrap_or(1).max(1);
        let taps = weight.shape().iter().product::<usize>() / channels;
        Some(length(session, *positions?).saturating_mul(taps as u64))
    };
    let macs = match onnx.standard_op() {
        "Conv" => each(node.outputs.first()),
        "ConvTranspose" => each(node.inputs.first()),
        _ => None,
    };
    macs.unwrap_or(0)
}
