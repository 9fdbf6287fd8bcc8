//! From ONNX nodes to the operations of NASH_M.
//!
//! [`units`] goes backwards from the outputs and decides what each needed node is part of: a node
//! alone, or the last of several that are one operation (a Linear, a gelu). [`names`] names those
//! units, then each is lowered in order through [`Build`], by its own module. What has no integer
//! kernel becomes an island. Integers and booleans are part of the graph where they follow from activations.

mod activation;
mod build;
mod elementwise;
mod facts;
mod left_out;
mod linear;
mod movement;
mod names;
mod norm;
mod reduce;
mod units;

use std::collections::HashMap;

use super::Graph;
use crate::{
    error::{Error, Result},
    model::Model,
    tensor::Datum,
};

use build::{Build, Unit};
use facts::Facts;
use units::Pattern;

/// Lowers a model. `probe` is every value of one float run
/// ([`crate::float::FloatModel::probe`]): types and shapes are read from it, and what depends on
/// constants alone is folded with it.
///
/// # Errors
/// [`Error::Model`] for a model that has no float output, or where a constant cannot be decoded;
/// [`Error::NonFinite`] for a constant with NaN or infinity that would have to be quantized.
pub fn lower(model: &Model, probe: &HashMap<String, Datum>) -> Result<Graph> {
    let facts = Facts::gather(model, probe)?;
    let outputs = facts.float_outputs();
    if outputs.is_empty() {
        return Err(Error::Model {
            file: model.file().to_owned(),
            reason: "no output depends on float values; there is nothing to quantize".to_owned(),
        });
    }
    let exact = facts.exact_outputs();
    let wanted: Vec<&str> = outputs.iter().chain(&exact).copied().collect();
    let units = units::live(&facts, &wanted);
    let names = names::assign(&facts, &units);
    let mut build = Build::new(&facts)?;
    for (unit, names) in units.iter().zip(names) {
        let unit = Unit::new(&facts, unit, names);
        lower_unit(&mut build, &unit)?;
    }
    let mut graph = build.finish(&outputs, &exact)?;
    graph.left_out = left_out::found(&facts, &units);
    Ok(graph)
}

fn lower_unit<'a>(build: &mut Build<'a>, unit: &Unit<'a>) -> Result<()> {
    match unit.pattern {
        Pattern::Linear(parts) => linear::lower(build, unit, parts),
        Pattern::Lut { x, function } => elementwise::lut(build, unit, x, *function),
        Pattern::LayerNorm(parts) => norm::lower_layer_norm(build, unit, parts),
        Pattern::Softmax { x, axis } => norm::lower_softmax(build, unit, x, *axis),
        Pattern::Single => lower_single(build, unit),
    }
}

/// A node alone: the first module that knows its operator takes it, if it makes floats. Integers are calculated with
/// as they are, and no kernel quantizes them.
fn lower_single<'a>(build: &mut Build<'a>, unit: &Unit<'a>) -> Result<()> {
    if build.facts.is_exact(unit.output()) {
        return build.island(unit);
    }
    let taken = elementwise::lower(build, unit)?
        || movement::lower(build, unit)?
        || reduce::lower(build, unit)?
        || linear::lower_matmul(build, unit)?;
    if taken { Ok(()) } else { build.island(unit) }
}
