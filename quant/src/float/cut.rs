//! Where a run can be cut in two: what the later part needs of the earlier. A run that is given those
//! values instead of what they follow from makes the same figures, for every node runs on the same operands.

use std::collections::{BTreeSet, HashMap};

use super::FloatModel;
use crate::model::OnnxNode;

/// By value, the node that makes it and the last that uses it, where one does.
#[derive(Debug, Default)]
pub(super) struct Lives(HashMap<String, (usize, Option<usize>)>);

impl Lives {
    pub(super) fn of(nodes: &[OnnxNode]) -> Self {
        let mut lives: HashMap<String, (usize, Option<usize>)> = HashMap::new();
        for (index, node) in nodes.iter().enumerate() {
            for name in node.uses() {
                if let Some((_, last)) = lives.get_mut(name) {
                    *last = Some(index);
                }
            }
            lives.extend(node.made().map(|name| (name.to_owned(), (index, None))));
        }
        Lives(lives)
    }
}

impl FloatModel {
    /// How many nodes there are to the last that makes one of these values.
    pub(crate) fn nodes_to(&self, names: &[&str]) -> usize {
        let makers = names.iter().filter_map(|name| self.lives.0.get(*name));
        makers.map(|(maker, _)| maker + 1).max().unwrap_or(0)
    }

    /// The values that the first `nodes` nodes make and others use.
    pub(crate) fn live_after(&self, nodes: usize) -> BTreeSet<&str> {
        let live = |(maker, last): &(usize, Option<usize>)| {
            *maker < nodes && last.is_some_and(|last| last >= nodes)
        };
        let lives = self.lives.0.iter().filter(|(_, life)| live(life));
        lives.map(|(name, _)| name.as_str()).collect()
    }

    /// Whether the others of a model's nodes make a value, after so many.
    pub(crate) fn is_made_after(&self, nodes: usize, name: &str) -> bool {
        let life = self.lives.0.get(name);
        life.is_none_or(|(maker, _)| *maker >= nodes)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        InputLimits,
        batch::{Batch, BatchFile},
        model::Model,
    };

    #[test]
    fn a_run_from_any_cut_makes_the_same_bits_as_the_whole() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/digits");
        let limits = &InputLimits::DEFAULT;
        let model = Model::load("model.onnx", &folder.join("model.onnx"), &[], limits).unwrap();
        let float = FloatModel::load(&model, 1).unwrap();
        let calibration = folder.join("calib/000.safetensors");
        let file = BatchFile::open("000.safetensors", &calibration, model.inputs(), limits);
        let batch = file.unwrap().read(0).unwrap();
        let whole = float.probe(&batch).unwrap();
        let nodes = model.nodes().len();
        let mut values = 0;
        for cut in (0..=nodes).step_by(3) {
            let live = float.live_after(cut);
            let given = live
                .iter()
                .map(|name| ((*name).to_owned(), whole[*name].clone()));
            // Nothing of what was before may be looked at: the inputs are there only where they are used.
            let used: Vec<&str> = model.nodes()[cut..]
                .iter()
                .flat_map(OnnxNode::uses)
                .collect();
            let inputs = batch
                .iter()
                .filter(|(name, _)| used.contains(&name.as_str()));
            let inputs = inputs.map(|(name, datum)| (name.clone(), datum.clone()));
            let given: Batch = given.chain(inputs).collect();
            let made = model.nodes()[cut..].iter().flat_map(OnnxNode::made);
            let wanted: Vec<&str> = made.filter(|name| whole.contains_key(*name)).collect();
            assert!(wanted.iter().all(|name| float.is_made_after(cut, name)));
            assert!(live.iter().all(|name| !float.is_made_after(cut, name)));
            assert_eq!(
                float.nodes_to(&wanted),
                if wanted.is_empty() { 0 } else { nodes }
            );
            for (name, datum) in float.run(&given, &wanted).unwrap() {
                assert!(datum == whole[&name], "'{name}' from node {cut}");
                values += 1;
            }
        }
        assert!(values > nodes, "{values}");
        assert_eq!(float.nodes_to(&["no value"]), 0);
    }
}
