//! Small models made by hand, and batches for them.

use super::LIMITS;
use dual16_quant::{
    batch::Batch,
    model::Model,
    onnx::{
        AttributeProto, AttributeType, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
        StringStringEntryProto, f32_initializer, f32_value, int64_initializer, node,
    },
    tensor::Datum,
};
use ndarray::ArrayD;
use prost::Message;

/// A model with one input `x` and one output `y`, built node by node.
pub struct Made {
    pub graph: GraphProto,
    pub opset: i64,
}

impl Made {
    pub fn new(input: &[usize]) -> Made {
        let dims: Vec<Option<usize>> = input.iter().copied().map(Some).collect();
        let graph = GraphProto {
            name: "made".to_owned(),
            input: vec![f32_value("x", Some(&dims))],
            output: vec![f32_value("y", None)],
            ..GraphProto::default()
        };
        Made { graph, opset: 18 }
    }

    pub fn node(mut self, op: &str, inputs: &[&str], outputs: &[&str]) -> Made {
        self.graph.node.push(node(op, inputs, outputs));
        self
    }

    /// Adds an attribute to the last node.
    pub fn ints(mut self, name: &str, ints: &[i64]) -> Made {
        let attribute = AttributeProto {
            name: name.to_owned(),
            r#type: AttributeType::Ints.into(),
            ints: ints.to_vec(),
            ..AttributeProto::default()
        };
        self.last().attribute.push(attribute);
        self
    }

    pub fn int(mut self, name: &str, value: i64) -> Made {
        self.last()
            .attribute
            .push(dual16_quant::onnx::attribute_int(name, value));
        self
    }

    pub fn float(mut self, name: &str, value: f32) -> Made {
        let attribute = AttributeProto {
            name: name.to_owned(),
            r#type: AttributeType::Float.into(),
            f: Some(value),
            ..AttributeProto::default()
        };
        self.last().attribute.push(attribute);
        self
    }

    pub fn text(mut self, name: &str, value: &str) -> Made {
        let attribute = AttributeProto {
            name: name.to_owned(),
            r#type: AttributeType::String.into(),
            s: Some(value.as_bytes().to_vec().into()),
            ..AttributeProto::default()
        };
        self.last().attribute.push(attribute);
        self
    }

    /// Names the last node.
    pub fn named(mut self, name: &str) -> Made {
        self.last().name = name.to_owned();
        self
    }

    /// Says which module and function the last node comes from.
    pub fn scope(mut self, module: &str, function: &str) -> Made {
        let value = format!("['', '{module}', '{function}']");
        let key = "pkg.torch.onnx.name_scopes".to_owned();
        self.last()
            .metadata_props
            .push(StringStringEntryProto { key, value });
        self
    }

    pub fn constant(mut self, name: &str, shape: &[usize], values: &[f32]) -> Made {
        let array = ArrayD::from_shape_vec(shape, values.to_vec()).unwrap();
        self.graph
            .initializer
            .push(f32_initializer(name, array.view()));
        self
    }

    pub fn scalar(self, name: &str, value: f32) -> Made {
        self.constant(name, &[], &[value])
    }

    pub fn indices(mut self, name: &str, values: &[i64]) -> Made {
        self.graph.initializer.push(int64_initializer(name, values));
        self
    }

    pub fn opset(mut self, version: i64) -> Made {
        self.opset = version;
        self
    }

    pub fn encode(self) -> Vec<u8> {
        let model = ModelProto {
            ir_version: 8,
            graph: Some(self.graph),
            opset_import: vec![OperatorSetIdProto {
                domain: String::new(),
                version: self.opset,
            }],
            ..ModelProto::default()
        };
        model.encode_to_vec()
    }

    pub fn model(self) -> Model {
        Model::from_bytes("made.onnx", self.encode().into(), &[], LIMITS).unwrap()
    }

    fn last(&mut self) -> &mut NodeProto {
        self.graph.node.last_mut().unwrap()
    }
}

/// A batch with `x` filled by a smooth curve through negative and positive values.
pub fn batch(shape: &[usize]) -> Batch {
    Batch::from([("x".to_owned(), Datum::F32(curve(shape)))])
}

pub fn curve(shape: &[usize]) -> ArrayD<f32> {
    let mut index = 0.0_f32;
    ArrayD::from_shape_simple_fn(shape, || {
        index += 1.0;
        2.5 * (0.7 * index).sin() + 0.1
    })
}
