//! A float run with some fake quants on: only what they change is computed.

use std::collections::BTreeSet;

use super::{
    analysis::{Analysis, missing},
    row::Row,
    values::FloatValues,
};
use crate::{
    Result,
    exec::ops_f32,
    graph::{Island, Node, NodeId, Op, ValueId},
    metrics::OutputError,
    tensor::{Datum, Tensor},
};

/// One run.
pub(super) struct Spread<'a> {
    analysis: &'a Analysis<'a>,
    values: &'a FloatValues,
    rows: &'a BTreeSet<Row>,
    /// By value, what differs from the float run and is still needed.
    changed: Vec<Option<Datum>>,
    /// By output of the analysis, where it differs.
    errors: Vec<Option<OutputError>>,
}

impl<'a> Spread<'a> {
    /// The error of every output of the analysis with these fake quants on.
    pub(super) fn run(
        analysis: &'a Analysis<'a>,
        values: &'a FloatValues,
        rows: &'a BTreeSet<Row>,
    ) -> Result<Vec<OutputError>> {
        let mut spread = Spread {
            analysis,
            values,
            rows,
            changed: vec![None; analysis.graph.values.len()],
            errors: vec![None; analysis.outputs.len()],
        };
        let mut first = analysis.order.len();
        for row in rows {
            let start = match *row {
                Row::Weight(id) | Row::Operand(id, _) | Row::Converted(id) => {
                    analysis.order.iter().position(|other| *other == id)
                }
                Row::Activation(id) | Row::Constant(id) => match analysis.makers[id.0] {
                    Some(position) => Some(position),
                    None => {
                        let tensor = values.tensor(analysis, id)?;
                        let tensor = spread.settled(id, tensor)?;
                        spread.set(id, Datum::F32(tensor))?;
                        Some(0)
                    }
                },
            };
            first = first.min(start.unwrap_or(first));
        }
        for position in first..analysis.order.len() {
            spread.step(position)?;
        }
        let outputs = spread.errors.iter().zip(&analysis.outputs);
        outputs
            .map(|(error, &id)| match error {
                Some(error) => Ok(*error),
                None => {
                    let same = values.get(analysis, id)?;
                    OutputError::of(&analysis.graph.value(id).name, same, same)
                }
            })
            .collect()
    }

    /// One node, if anything about it differs.
    fn step(&mut self, position: usize) -> Result<()> {
        let analysis = self.analysis;
        let id = analysis.order[position];
        let node = analysis.graph.node(id);
        if !node.outputs.iter().any(|output| analysis.leads[output.0]) {
            return Ok(());
        }
        let operand = |operand: usize| self.rows.contains(&Row::Operand(id, operand));
        let runs = node.inputs.iter().any(|id| self.changed[id.0].is_some())
            || self.rows.contains(&Row::Weight(id))
            || self.rows.contains(&Row::Converted(id))
            || (0..node.inputs.len()).any(operand);
        let mut outputs: Vec<Option<Datum>> = match (&node.op, runs) {
            (_, false) => vec![None; node.outputs.len()],
            (Op::Island(island), true) => self.island(node, island)?,
            (_, true) => {
                let outputs = self.node(id, node)?.into_iter();
                outputs.map(|tensor| Some(Datum::F32(tensor))).collect()
            }
        };
        for (&output, made) in node.outputs.iter().zip(&mut outputs) {
            let made = made.take();
            let settled = match (self.rows.contains(&Row::Activation(output)), &made) {
                (false, _) => made,
                (true, Some(Datum::F32(tensor))) => Some(Datum::F32(self.settled(output, tensor)?)),
                (true, _) => {
                    let tensor = self.values.tensor(analysis, output)?;
                    Some(Datum::F32(self.settled(output, tensor)?))
                }
            };
            if let Some(settled) = settled {
                self.set(output, settled)?;
            }
        }
        for input in &node.inputs {
            if analysis.last_uses[input.0] == Some(position) {
                self.changed[input.0] = None;
            }
        }
        Ok(())
    }

    /// Takes in what a value is now, if it is another.
    fn set(&mut self, id: ValueId, datum: Datum) -> Result<()> {
        let analysis = self.analysis;
        let old = self.values.get(analysis, id)?;
        if is_same(old, &datum) {
            return Ok(());
        }
        for (error, output) in self.errors.iter_mut().zip(&analysis.outputs) {
            if *output == id {
                let name = &analysis.graph.value(id).name;
                *error = Some(OutputError::of(name, old, &datum)?);
            }
        }
        if analysis.leads[id.0] && analysis.last_uses[id.0].is_some() {
            self.changed[id.0] = Some(datum);
        }
        Ok(())
    }

    /// A value as its own fake quant leaves it.
    fn settled(&self, id: ValueId, tensor: &Tensor) -> Result<Tensor> {
        let name = &self.analysis.graph.value(id).name;
        match self.analysis.plan.params(id) {
            Some(params) => self.analysis.fake_quantized(name, tensor, params),
            None => Ok(tensor.clone()),
        }
    }

    fn get(&self, id: ValueId) -> Result<&Datum> {
        match &self.changed[id.0] {
            Some(datum) => Ok(datum),
            None => self.values.get(self.analysis, id),
        }
    }

    fn node(&self, id: NodeId, node: &Node) -> Result<Vec<Tensor>> {
        let analysis = self.analysis;
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for &input in &node.inputs {
            let tensor = self.get(input)?.as_f32();
            inputs.push(
                tensor.ok_or_else(|| missing(analysis.graph, input, "it is no float tensor"))?,
            );
        }
        let requantized = inputs
            .iter()
            .enumerate()
            .map(|(operand, tensor)| {
                let on = self.rows.contains(&Row::Operand(id, operand));
                let params = analysis.requantized(id, operand).filter(|_| on);
                params
                    .map(|params| analysis.fake_quantized(&node.name, tensor, params))
                    .transpose()
            })
            .collect::<Result<Vec<_>>>()?;
        for (input, requantized) in inputs.iter_mut().zip(&requantized) {
            *input = requantized.as_ref().unwrap_or(input);
        }
        if self.rows.contains(&Row::Weight(id)) {
            let linear = analysis.prepared.linear(id, node)?;
            return Ok(vec![
                linear.run_fake_quant(ops_f32::operand(node, &inputs, 0)?)?,
            ]);
        }
        let shapes = self.values.shapes(node);
        let mut made = analysis.node(id, node, &inputs, &shapes)?;
        if self.rows.contains(&Row::Converted(id))
            && let Some(made) = made.first_mut()
        {
            let added = analysis.beyond_validation(id, node, &inputs, &shapes)?;
            made.iter_mut()
                .zip(added)
                .for_each(|(y, added)| *y += added);
        }
        Ok(made)
    }

    /// What an island makes of changed operands; None for what stays as in the float run. Results of
    /// another shape, as a NonZero of other values may have, stay so too: what follows could not be
    /// compared otherwise.
    fn island(&self, node: &Node, island: &Island) -> Result<Vec<Option<Datum>>> {
        let analysis = self.analysis;
        let stays = |output: &ValueId| analysis.stays(node, *output);
        if node.outputs.iter().all(stays) {
            return Ok(vec![None; node.outputs.len()]);
        }
        let changed = |id: ValueId| self.changed[id.0].as_ref();
        let made = self.values.island(analysis, node, island, changed)?;
        let mut made: Vec<Option<Datum>> = made.into_iter().map(Some).collect();
        let outputs = node.outputs.iter().zip(&island.made);
        outputs
            .map(|(&id, &place)| {
                let old = self.values.get(analysis, id)?;
                let made = made.get_mut(place).and_then(Option::take);
                Ok(made.filter(|made| !stays(&id) && made.shape() == old.shape()))
            })
            .collect()
    }
}

/// Equal bit for bit, so that NaN equals itself and -0 is not 0.
fn is_same(a: &Datum, b: &Datum) -> bool {
    match (a, b) {
        (Datum::F32(a), Datum::F32(b)) => {
            let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits();
            a.shape() == b.shape()
                && match (a.as_slice(), b.as_slice()) {
                    (Some(a), Some(b)) => a.iter().zip(b).all(same),
                    _ => a.iter().zip(b).all(same),
                }
        }
        _ => a == b,
    }
}
