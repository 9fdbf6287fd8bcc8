//! What a run met and did not stop at: values that no integer stands for, and nodes that failed.
//! A machine keeps one and goes on; who compares its values turns it into figures and notices.

use std::collections::{BTreeMap, HashMap};

use dual16_nash::quantize::NonFinite;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    graph::{Graph, Node, Op, ValueId},
    tensor::Datum,
};

/// Of one run or, merged, of several.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Trouble {
    /// Values that were NaN or infinite before they were quantized, by [`ValueId`].
    pub saturated: BTreeMap<usize, Saturated>,
    /// Values that could not be made, and why, by [`ValueId`].
    pub lost: BTreeMap<usize, String>,
}

/// How one value saturated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saturated {
    /// Elements that were NaN or infinite.
    pub count: u64,
    /// Elements of its node's operands at which the node is singular, by the operand's name.
    pub zeros: BTreeMap<String, u64>,
}

impl Trouble {
    /// Keeps what quantizing a value found.
    pub(super) fn quantized(&mut self, id: ValueId, found: NonFinite) {
        if found.total() > 0 {
            self.saturated.entry(id.0).or_default().count += found.total();
        }
    }

    /// Keeps how often an operand of a table lies where the function has no value.
    pub(super) fn singular(&mut self, graph: &Graph, node: &Node, count: u64) {
        if let (true, Some(output), Some(input)) =
            (count > 0, node.outputs.first(), node.inputs.first())
        {
            let saturated = self.saturated.entry(output.0).or_default();
            saturated.count += count;
            let name = graph.value(*input).name.clone();
            *saturated.zeros.entry(name).or_default() += count;
        }
    }

    /// Looks for the operands that make an island's results infinite.
    pub(super) fn island(
        &mut self,
        graph: &Graph,
        node: &Node,
        operands: &HashMap<String, Datum>,
        results: &[Datum],
    ) {
        let finite = |datum: &Datum| {
            let tensor = datum.as_f32();
            tensor.is_none_or(|tensor| tensor.iter().all(|v| v.is_finite()))
        };
        let (false, Some(output)) = (results.iter().all(finite), node.outputs.first()) else {
            return;
        };
        // Of a quotient only the divisor can be at fault; of others, any operand.
        let skipped = match &node.op {
            Op::Island(island) if matches!(island.op_type.as_str(), "Div" | "Mod") => {
                node.inputs.len().saturating_sub(1)
            }
            _ => 0,
        };
        for &id in node.inputs.iter().skip(skipped) {
            let value = graph.value(id);
            let operand = value.onnx.as_ref().and_then(|name| operands.get(name));
            let zeros = operand.and_then(Datum::as_f32).map_or(0, |tensor| {
                tensor.iter().filter(|&&v| v == 0.0).count() as u64
            });
            if zeros > 0 {
                let saturated = self.saturated.entry(output.0).or_default();
                *saturated.zeros.entry(value.name.clone()).or_default() += zeros;
            }
        }
    }

    /// Goes on without the outputs of a node that could not run. What is made of them is lost for
    /// the same reason.
    ///
    /// # Errors
    /// The error, where it is not about the node's numbers.
    pub(super) fn failed(&mut self, node: &Node, error: Error) -> Result<()> {
        let own = match &error {
            Error::Kernel { source, .. } => source.to_string(),
            Error::FloatRun { reason, .. } => reason.clone(),
            _ => return Err(error),
        };
        let inherited = node.inputs.iter().find_map(|id| self.lost.get(&id.0));
        let reason = match inherited {
            Some(reason) => reason.clone(),
            None => format!("{} failed: {own}", node.name),
        };
        let outputs = node.outputs.iter().map(|id| (id.0, reason.clone()));
        self.lost.extend(outputs);
        Ok(())
    }

    /// Sums of both; of two reasons the first.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (&id, more) in &other.saturated {
            let own = self.saturated.entry(id).or_default();
            own.count += more.count;
            for (name, count) in &more.zeros {
                *own.zeros.entry(name.clone()).or_default() += count;
            }
        }
        for (&id, reason) in &other.lost {
            self.lost.entry(id).or_insert_with(|| reason.clone());
        }
    }
}
