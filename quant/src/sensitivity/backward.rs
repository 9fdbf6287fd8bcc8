//! Passes backwards from one output: the cotangent of every value, handed to whoever measures with
//! it as soon as it is complete, and dropped.

use std::collections::BTreeMap;

use super::{analysis::Analysis, pullback::Local, values::FloatValues};
use crate::{
    Error, Result,
    graph::{Node, NodeId, ValueId},
    tensor::{Datum, Tensor},
};

/// What is done with cotangents, `[lanes, elements]`; None where none has arrived.
pub(super) trait Measure {
    /// Whether a value that no node makes is measured: the parameters that are not need no pass.
    fn wants(&self, id: ValueId) -> bool;

    /// At a value.
    fn value(&mut self, id: ValueId, cotangent: Option<&[f32]>) -> Result<()>;

    /// At what a node makes, by its first output.
    fn node(&mut self, id: NodeId, node: &Node, cotangent: Option<&[f32]>) -> Result<()>;
}

/// All passes of one output, which go through the graph together.
pub(super) struct Backward<'a> {
    analysis: &'a Analysis<'a>,
    values: &'a FloatValues,
    lanes: usize,
    /// By value, whether the output follows from it.
    leads: &'a [bool],
    /// By value, as far as it is gathered.
    cotangents: Vec<Option<Vec<f32>>>,
}

impl<'a> Backward<'a> {
    /// Passes that start with these cotangents at the output, `[lanes, elements]`.
    pub(super) fn run(
        analysis: &'a Analysis<'a>,
        values: &'a FloatValues,
        (output, start): (ValueId, Vec<f32>),
        leads: &'a [bool],
        measure: &mut impl Measure,
    ) -> Result<()> {
        let graph = analysis.graph;
        let elements: usize = values.get(analysis, output)?.shape().iter().product();
        let mut backward = Backward {
            analysis,
            values,
            lanes: start.len() / elements.max(1),
            leads,
            cotangents: vec![None; graph.values.len()],
        };
        backward.cotangents[output.0] = Some(start);
        for &id in analysis.order.iter().rev() {
            let node = graph.node(id);
            // Everything that reads the node's outputs has been passed: they are complete.
            for &output in &node.outputs {
                measure.value(output, backward.get(output))?;
            }
            if let Some(&first) = node.outputs.first() {
                measure.node(id, node, backward.get(first))?;
            }
            if node.outputs.iter().any(|id| backward.get(*id).is_some()) {
                backward.pull(node, measure)?;
            }
            for output in &node.outputs {
                backward.cotangents[output.0] = None;
            }
        }
        let ids = (0..graph.values.len()).map(ValueId);
        for id in ids.filter(|id| analysis.makers[id.0].is_none()) {
            measure.value(id, backward.get(id))?;
        }
        Ok(())
    }

    fn get(&self, id: ValueId) -> Option<&[f32]> {
        self.cotangents[id.0].as_deref()
    }

    /// Gathers the cotangents of a node's operands.
    fn pull(&mut self, node: &Node, measure: &impl Measure) -> Result<()> {
        let analysis = self.analysis;
        for (operand, &input) in node.inputs.iter().enumerate() {
            let wanted = analysis.makers[input.0].is_some() || measure.wants(input);
            let value = self.values.get(analysis, input)?;
            let (true, Datum::F32(x)) = (wanted && self.leads[input.0], value) else {
                continue;
            };
            for (place, &output) in node.outputs.iter().enumerate() {
                let Some(y) = self.cotangents[output.0].take() else {
                    continue;
                };
                let local = Local::of(analysis, self.values, node, operand, place)?;
                if let Some(local) = local {
                    let empty = || vec![0.0; self.lanes * x.len()];
                    let mut gathered = self.cotangents[input.0].take().unwrap_or_else(empty);
                    local.pull(self.lanes, &y, &mut gathered);
                    self.cotangents[input.0] = Some(gathered);
                }
                self.cotangents[output.0] = Some(y);
            }
        }
        Ok(())
    }
}

/// The gradient of `cotangent · output` at every value that it depends on: at each, the tensor of
/// partial derivatives at the float run's values, in the value's shape. Constants have one as well; a
/// value that reaches the output only through islands whose derivative is not known has none.
///
/// # Errors
/// [`Error::FloatRun`] for a cotangent that has not the output's shape; otherwise as
/// [`exact()`](super::exact()).
pub fn gradients(
    analysis: &Analysis<'_>,
    values: &FloatValues,
    output: ValueId,
    cotangent: &Tensor,
) -> Result<BTreeMap<ValueId, Tensor>> {
    let y = values.tensor(analysis, output)?;
    if y.shape() != cotangent.shape() {
        return Err(Error::FloatRun {
            node: analysis.graph.value(output).name.clone(),
            reason: format!(
                "a cotangent of shape {:?} is not one of {:?}",
                cotangent.shape(),
                y.shape()
            ),
        });
    }
    let mut kept = Kept {
        analysis,
        values,
        gradients: BTreeMap::new(),
    };
    let start: Vec<f32> = cotangent.iter().copied().collect();
    let leads = analysis.leading_to(&[output]);
    Backward::run(analysis, values, (output, start), &leads, &mut kept)?;
    Ok(kept.gradients)
}

struct Kept<'a> {
    analysis: &'a Analysis<'a>,
    values: &'a FloatValues,
    gradients: BTreeMap<ValueId, Tensor>,
}

impl Measure for Kept<'_> {
    fn wants(&self, _: ValueId) -> bool {
        true
    }

    fn value(&mut self, id: ValueId, cotangent: Option<&[f32]>) -> Result<()> {
        if let Some(cotangent) = cotangent {
            let shape = self.values.tensor(self.analysis, id)?.raw_dim();
            let gradient = Tensor::from_shape_vec(shape, cotangent.to_vec());
            self.gradients.extend(gradient.ok().map(|g| (id, g)));
        }
        Ok(())
    }

    fn node(&mut self, _: NodeId, _: &Node, _: Option<&[f32]>) -> Result<()> {
        Ok(())
    }
}
