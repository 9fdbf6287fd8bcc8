//! What a plan's runs share over all batches: the quantized Linears and the tables.

use std::collections::BTreeMap;

use dual16_nash::{
    lut::{Lut, LutSpec},
    quantize::Rounding,
    scale::Scale,
};

use crate::{
    Result,
    error::KernelContext,
    graph::{Graph, NodeId, Op},
    plan::Plan,
    settings::Settings,
    ways::QuantizedLinear,
};

/// A plan made ready to run.
pub struct Prepared {
    /// By node index.
    pub linears: BTreeMap<usize, QuantizedLinear>,
    /// By node index; a node whose input or output stays float has none.
    pub tables: BTreeMap<usize, Lut>,
    /// Rounding of quantize.
    pub rounding: Rounding,
}

impl Prepared {
    /// Quantizes every weight and builds every table.
    ///
    /// # Errors
    /// A ratio of scales that the chip's multiplier cannot hold, naming layer or value.
    pub fn new(graph: &Graph, plan: &Plan, settings: &Settings) -> Result<Self> {
        let mut linears = BTreeMap::new();
        let mut tables = BTreeMap::new();
        for (index, node) in graph.nodes.iter().enumerate() {
            match &node.op {
                Op::Linear(linear) => {
                    if let Some(planned) = plan.linears.get(&index) {
                        let (way, params) = (planned.way, &planned.params);
                        let made = QuantizedLinear::new(&node.name, linear, way, params, settings)?;
                        linears.insert(index, made);
                    }
                }
                Op::Lut(function) => {
                    let input = plan.operand(graph, NodeId(index), 0);
                    let output = node.outputs.first().and_then(|id| plan.params(*id));
                    if let (Some(input), Some(output)) = (input, output) {
                        let spec = LutSpec {
                            function: *function,
                            input: input.dtype,
                            input_scale: Scale::new(input.scale).of(&node.name)?,
                            output: output.dtype,
                            output_scale: Scale::new(output.scale).of(&node.name)?,
                            observed: plan.table_ranges.get(&index).copied(),
                        };
                        tables.insert(index, Lut::build(&spec).of(&node.name)?);
                    }
                }
                _ => {}
            }
        }
        Ok(Prepared {
            linears,
            tables,
            rounding: settings.rounding,
        })
    }
}
