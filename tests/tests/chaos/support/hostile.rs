//! Models that are small, well-formed and meant ill: they never end, or want more memory than there is.

use dual16_proto::v1::{self, job_spec::Model};
use dual16_quant::onnx::{
    AttributeProto, AttributeType, DataType, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, TensorTypeProto, TypeProto, ValueInfoProto, f32_initializer, f32_value,
    int64_initializer, node,
};
use dual16_tests::data::smallmodel;
use ndarray::ArrayD;
use prost::Message as _;

use super::Api;

/// What a model does beside its one Linear.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Hostile {
    /// A Loop that never ends.
    Loop,
    /// 200 products of 4096 by 4096, one after the other.
    Products,
    /// A constant of floats, by its shape.
    Constant([i64; 3]),
}

impl Hostile {
    /// A job of it; the note makes it another than the same without.
    pub(crate) async fn spec(self, api: &Api, note: &str) -> v1::JobSpec {
        let model = self.model().encode_to_vec();
        let batch = std::fs::read(smallmodel().join("calib/000.safetensors")).unwrap();
        v1::JobSpec {
            model: Some(Model::Onnx(v1::OnnxModel {
                model: Some(api.upload(&format!("{note}.onnx"), &model).await),
                external_data: Vec::new(),
            })),
            calibration: vec![api.upload("calib/0.safetensors", &batch).await],
            ..v1::JobSpec::default()
        }
    }

    fn model(self) -> ModelProto {
        let weight = ArrayD::from_elem(vec![256, 4], 0.5_f32);
        let mut nodes = vec![node("MatMul", &["x", "weight"], &["h"])];
        let mut initializer = vec![f32_initializer("weight", weight.view())];
        match self {
            Self::Loop => {
                initializer.push(TensorProto {
                    name: "yes".to_owned(),
                    data_type: DataType::Bool.into(),
                    raw_data: Some(vec![1].into()),
                    ..TensorProto::default()
                });
                let body = AttributeProto {
                    name: "body".to_owned(),
                    r#type: AttributeType::Graph.into(),
                    g: Some(body()),
                    ..AttributeProto::default()
                };
                let turns = NodeProto {
                    attribute: vec![body],
                    ..node("Loop", &["", "yes", "h"], &["y"])
                };
                nodes.push(turns);
            }
            Self::Products => {
                initializer.push(int64_initializer("shape", &[4096, 4096]));
                nodes.push(node("ConstantOfShape", &["shape"], &["zero"]));
                // Of the batch, so that nothing is known before it runs.
                nodes.push(node("ReduceMax", &["h"], &["one"]));
                nodes.push(node("Add", &["zero", "one"], &["p0"]));
                for i in 0..200 {
                    let [from, to] = [i, i + 1].map(|i| format!("p{i}"));
                    nodes.push(node("MatMul", &[&from, "p0"], &[&to]));
                }
                nodes.push(node("ReduceMax", &["p200"], &["last"]));
                nodes.push(node("Add", &["h", "last"], &["y"]));
            }
            Self::Constant(shape) => {
                initializer.push(int64_initializer("shape", &shape));
                nodes.push(node("ConstantOfShape", &["shape"], &["huge"]));
                nodes.push(node("ReduceMax", &["huge"], &["one"]));
                nodes.push(node("Add", &["h", "one"], &["y"]));
            }
        }
        let graph = GraphProto {
            name: "hostile".to_owned(),
            node: nodes,
            initializer,
            input: vec![f32_value("x", Some(&[Some(2), Some(100), Some(256)]))],
            output: vec![f32_value("y", None)],
            ..GraphProto::default()
        };
        ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto {
                domain: String::new(),
                version: 17,
            }],
            graph: Some(graph),
            ..ModelProto::default()
        }
    }
}

/// One turn: the same again, and on.
fn body() -> GraphProto {
    let typed = |name: &str, elements: DataType| ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto {
            tensor_type: Some(TensorTypeProto {
                elem_type: elements.into(),
                shape: None,
            }),
        }),
        ..f32_value(name, None)
    };
    GraphProto {
        name: "body".to_owned(),
        node: vec![
            node("Identity", &["go_on"], &["still"]),
            node("Abs", &["before"], &["after"]),
        ],
        input: vec![
            typed("round", DataType::Int64),
            typed("go_on", DataType::Bool),
            typed("before", DataType::Float),
        ],
        output: vec![
            typed("still", DataType::Bool),
            typed("after", DataType::Float),
        ],
        ..GraphProto::default()
    }
}
