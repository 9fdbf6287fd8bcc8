//! What the tests of the front end share: the sample models, small models made by hand, and a
//! plain f64 interpreter of the lowered graph.

pub mod made;
pub mod operators;
pub mod reference;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use dual16_quant::{
    batch::{Batch, BatchFile},
    float::FloatModel,
    graph::{self, Graph},
    limits::InputLimits,
    model::Model,
    tensor::Datum,
};

/// What every file of these tests is held to.
pub const LIMITS: &InputLimits = &InputLimits::DEFAULT;

/// A file of `tests/data`.
pub fn data(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/data")
        .join(relative)
}

/// A model, its first calibration batch, and everything made of them.
pub struct Sample {
    pub model: Model,
    pub float: FloatModel,
    pub batch: Batch,
    pub probe: HashMap<String, Datum>,
    pub graph: Graph,
}

impl Sample {
    /// From a folder with `model.onnx` and `calib/000.safetensors`.
    pub fn load(folder: &Path) -> Sample {
        let model = Model::load("model.onnx", &folder.join("model.onnx"), &[], LIMITS).unwrap();
        let calibration = folder.join("calib/000.safetensors");
        let mut file =
            BatchFile::open("000.safetensors", &calibration, model.inputs(), LIMITS).unwrap();
        assert_eq!(file.count(), 1);
        Sample::new(model, file.read(0).unwrap())
    }

    pub fn new(model: Model, batch: Batch) -> Sample {
        let float = FloatModel::load(&model, 1).unwrap();
        let probe = float.probe(&batch).unwrap();
        let graph = graph::lower(&model, &probe).unwrap();
        Sample {
            model,
            float,
            batch,
            probe,
            graph,
        }
    }

    /// Names and operators of the nodes, in order: "fc1 Linear".
    pub fn listing(&self) -> Vec<String> {
        let nodes = self.graph.nodes.iter();
        nodes
            .map(|node| format!("{} {}", node.name, reference::kind(&node.op)))
            .collect()
    }

    pub fn linear_names(&self) -> Vec<&str> {
        self.graph
            .linears()
            .map(|(_, node, _)| node.name.as_str())
            .collect()
    }
}
