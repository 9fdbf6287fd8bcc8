//! Names of what the model's file has no name for, the same in every ONNX file of a job.

use std::collections::{BTreeMap, HashSet};

use super::source::{Part, Source};
use crate::graph::{ValueId, ValueKind};

/// Names that nothing else has.
pub(super) struct Names {
    parts: BTreeMap<(usize, Part), String>,
    constants: BTreeMap<ValueId, String>,
    /// All of them, and all that the model has.
    pub(super) taken: HashSet<String>,
}

const PARTS: [Part; 11] = [
    Part::Weight,
    Part::Rows,
    Part::High,
    Part::Low,
    Part::Down,
    Part::Up,
    Part::Bias,
    Part::Scales,
    Part::LowScales,
    Part::DownScales,
    Part::UpScales,
];

impl Names {
    pub(super) fn of(source: &Source<'_>) -> Self {
        let model = source.model;
        let values = model.value_names().into_iter().map(str::to_owned);
        let constants = model.constants().map(|(name, _)| name.to_owned());
        let mut names = Self {
            parts: BTreeMap::new(),
            constants: BTreeMap::new(),
            taken: values.chain(constants).collect(),
        };
        for (id, node, _) in source.graph.linears() {
            for part in PARTS {
                let wanted = format!("{}.{}", node.name, part.suffix());
                let name = names.free(wanted);
                names.parts.insert((id.0, part), name);
            }
        }
        let inputs = source.graph.running().flat_map(|(_, node)| &node.inputs);
        let inputs: Vec<ValueId> = inputs.copied().collect();
        for id in inputs {
            let value = source.graph.value(id);
            let is_new = matches!(value.kind, ValueKind::Constant(_)) && value.onnx.is_none();
            if is_new && !names.constants.contains_key(&id) {
                let name = names.free(value.name.clone());
                names.constants.insert(id, name);
            }
        }
        names
    }

    /// What a part of a Linear is called.
    pub(super) fn part(&self, linear: usize, part: Part) -> &str {
        self.parts.get(&(linear, part)).map_or("", String::as_str)
    }

    /// What a constant that is none of the file is called.
    pub(super) fn constant(&self, id: ValueId) -> Option<&str> {
        self.constants.get(&id).map(String::as_str)
    }

    fn free(&mut self, wanted: String) -> String {
        let mut name = wanted.clone();
        let mut number = 1;
        while !self.taken.insert(name.clone()) {
            number += 1;
            name = format!("{wanted}_{number}");
        }
        name
    }
}
