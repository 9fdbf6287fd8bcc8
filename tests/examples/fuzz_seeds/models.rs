//! Models of a few nodes that use every way ONNX has to hold a constant.

use dual16_quant::onnx::{
    AttributeProto, AttributeType, DataType, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, ValueInfoProto, attribute_int, f32_initializer, f32_value,
    int64_initializer, node,
};
use ndarray::ArrayD;
use prost::Message as _;

use super::Seed;

pub(super) fn seeds() -> Vec<Seed> {
    let external = {
        let mut model = mlp();
        let graph = model.graph.as_mut().unwrap();
        let bias = &mut graph.initializer[1];
        bias.raw_data = None;
        bias.data_location = 1;
        let entries = [("location", "w.bin"), ("offset", "0"), ("length", "12")];
        bias.external_data = entries.map(|(key, value)| entry(key, value)).to_vec();
        model
    };
    vec![
        ("mlp", mlp().encode_to_vec()),
        ("constants", constants().encode_to_vec()),
        ("subgraph", subgraph().encode_to_vec()),
        ("external", external.encode_to_vec()),
        ("norm", norm().encode_to_vec()),
        ("moves", moves().encode_to_vec()),
    ]
}

/// x [*, 4] -> Gemm -> Relu -> MatMul -> y, its module names as PyTorch writes them.
fn mlp() -> ModelProto {
    let mut gemm = node("Gemm", &["x", "fc1.weight", "fc1.bias"], &["h"]);
    gemm.attribute = vec![attribute_int("transB", 1)];
    gemm.metadata_props = vec![entry("pkg.torch.onnx.name_scopes", "['', 'fc1', 'linear']")];
    model(GraphProto {
        name: "mlp".to_owned(),
        node: vec![
            gemm,
            node("Relu", &["h"], &["r"]),
            node("MatMul", &["r", "fc2.weight"], &["y"]),
        ],
        initializer: vec![
            floats("fc1.weight", &[3, 4]),
            floats("fc1.bias", &[3]),
            floats("fc2.weight", &[3, 2]),
        ],
        input: vec![f32_value("x", Some(&[None, Some(4)]))],
        output: vec![f32_value("y", Some(&[None, Some(2)]))],
        ..GraphProto::default()
    })
}

/// A Linear, a LayerNorm in its pieces and a Softmax, every value declared: it can be lowered.
fn norm() -> ModelProto {
    let mut softmax = node("Softmax", &["n"], &["y"]);
    softmax.attribute = vec![attribute_int("axis", -1)];
    let whole = ["p", "l", "d", "d2", "n"].map(|name| (name, vec![2, 4]));
    let reduced = ["m", "v", "ve", "s"].map(|name| (name, vec![2, 1]));
    model(GraphProto {
        name: "norm".to_owned(),
        node: vec![
            node("MatMul", &["x", "weight"], &["p"]),
            node("Add", &["p", "bias"], &["l"]),
            node("ReduceMean", &["l", "axes"], &["m"]),
            node("Sub", &["l", "m"], &["d"]),
            node("Mul", &["d", "d"], &["d2"]),
            node("ReduceMean", &["d2", "axes"], &["v"]),
            node("Add", &["v", "eps"], &["ve"]),
            node("Sqrt", &["ve"], &["s"]),
            node("Div", &["d", "s"], &["n"]),
            softmax,
        ],
        initializer: vec![
            floats("weight", &[4, 4]),
            floats("bias", &[4]),
            floats("eps", &[]),
            int64_initializer("axes", &[-1]),
        ],
        input: vec![f32_value("x", Some(&[Some(2), Some(4)]))],
        output: vec![f32_value("y", Some(&[Some(2), Some(4)]))],
        value_info: declared(whole.into_iter().chain(reduced)),
        ..GraphProto::default()
    })
}

/// Moves of every kind and a gate, every value declared.
fn moves() -> ModelProto {
    let with = |mut of: NodeProto, name: &str, value: i64| {
        of.attribute = vec![attribute_int(name, value)];
        of
    };
    let mut transpose = node("Transpose", &["x"], &["t"]);
    transpose.attribute = vec![AttributeProto {
        name: "perm".to_owned(),
        r#type: AttributeType::Ints.into(),
        ints: vec![1, 0],
        ..AttributeProto::default()
    }];
    let shapes: [(&str, &[usize]); 9] = [
        ("t", &[4, 2]),
        ("c", &[3, 2]),
        ("g", &[1, 2]),
        ("a", &[1, 1]),
        ("b", &[1, 1]),
        ("k", &[1, 2]),
        ("r", &[2]),
        ("q", &[2]),
        ("o", &[2]),
    ];
    model(GraphProto {
        name: "moves".to_owned(),
        node: vec![
            transpose,
            node("Slice", &["t", "from", "to"], &["c"]),
            with(node("Gather", &["c", "from"], &["g"]), "axis", 0),
            with(node("Split", &["g"], &["a", "b"]), "axis", 1),
            with(node("Concat", &["a", "b"], &["k"]), "axis", -1),
            node("Reshape", &["k", "flat"], &["r"]),
            node("Sigmoid", &["r"], &["q"]),
            node("Mul", &["r", "q"], &["o"]),
            with(node("ReduceMax", &["o"], &["y"]), "keepdims", 1),
        ],
        initializer: vec![
            int64_initializer("from", &[0]),
            int64_initializer("to", &[3]),
            int64_initializer("flat", &[-1]),
        ],
        input: vec![f32_value("x", Some(&[Some(2), Some(4)]))],
        output: vec![f32_value("y", Some(&[Some(1)]))],
        value_info: declared(
            shapes
                .map(|(name, shape)| (name, shape.to_vec()))
                .into_iter(),
        ),
        ..GraphProto::default()
    })
}

fn declared<'n>(values: impl Iterator<Item = (&'n str, Vec<usize>)>) -> Vec<ValueInfoProto> {
    let declared = |(name, shape): (&str, Vec<usize>)| {
        let dims: Vec<Option<usize>> = shape.into_iter().map(Some).collect();
        f32_value(name, Some(&dims))
    };
    values.map(declared).collect()
}

/// A constant in every field that can hold one.
fn constants() -> ModelProto {
    let mut value_floats = node("Constant", &[], &["c1"]);
    value_floats.attribute = vec![AttributeProto {
        name: "value_floats".to_owned(),
        r#type: AttributeType::Floats.into(),
        floats: vec![1.0, -2.0],
        ..AttributeProto::default()
    }];
    let mut value = node("Constant", &[], &["c2"]);
    value.attribute = vec![AttributeProto {
        name: "value".to_owned(),
        r#type: AttributeType::Tensor.into(),
        t: Some(tensor("", DataType::Float, |t| t.float_data = vec![0.5; 2])),
        ..AttributeProto::default()
    }];
    let initializer = vec![
        tensor("half", DataType::Float16, |t| t.int32_data = vec![15360; 2]),
        tensor("double", DataType::Double, |t| {
            t.double_data = vec![1e300, 0.0]
        }),
        tensor("flags", DataType::Bool, |t| t.int32_data = vec![0, 1]),
        tensor("brain", DataType::Bfloat16, |t| {
            t.raw_data = Some(vec![0x80, 0x3f, 0, 0].into());
        }),
        int64_initializer("shape", &[-1, 2]),
    ];
    model(GraphProto {
        name: "constants".to_owned(),
        node: vec![
            value_floats,
            value,
            node("Add", &["x", "c1"], &["s"]),
            node("Mul", &["s", "c2"], &["m"]),
            node("Reshape", &["m", "shape"], &["y"]),
        ],
        initializer,
        input: vec![f32_value("x", Some(&[None, Some(2)]))],
        output: vec![f32_value("y", None)],
        ..GraphProto::default()
    })
}

/// An If whose branch is a graph in a graph.
fn subgraph() -> ModelProto {
    let branch = |name: &str| GraphProto {
        name: name.to_owned(),
        node: vec![node("Identity", &["x"], &[name])],
        output: vec![f32_value(name, None)],
        ..GraphProto::default()
    };
    let attribute = |name: &str| AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Graph.into(),
        g: Some(branch(name)),
        ..AttributeProto::default()
    };
    let mut choice = node("If", &["flag"], &["y"]);
    choice.attribute = vec![attribute("then_branch"), attribute("else_branch")];
    model(GraphProto {
        name: "choice".to_owned(),
        node: vec![choice],
        initializer: vec![TensorProto {
            dims: Vec::new(),
            ..tensor("flag", DataType::Bool, |t| t.int32_data = vec![1])
        }],
        input: vec![f32_value("x", Some(&[Some(2)]))],
        output: vec![f32_value("y", None)],
        ..GraphProto::default()
    })
}

fn model(graph: GraphProto) -> ModelProto {
    let named = |node: NodeProto| NodeProto {
        name: String::new(),
        ..node
    };
    ModelProto {
        ir_version: 8,
        producer_name: "seed".to_owned(),
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: 18,
        }],
        graph: Some(GraphProto {
            node: graph.node.into_iter().map(named).collect(),
            ..graph
        }),
        ..ModelProto::default()
    }
}

fn floats(name: &str, shape: &[usize]) -> TensorProto {
    f32_initializer(name, ArrayD::from_elem(shape, 0.25).view())
}

fn tensor(name: &str, data_type: DataType, fill: impl FnOnce(&mut TensorProto)) -> TensorProto {
    let mut tensor = TensorProto {
        name: name.to_owned(),
        dims: vec![2],
        data_type: data_type.into(),
        ..TensorProto::default()
    };
    fill(&mut tensor);
    tensor
}

fn entry(key: &str, value: &str) -> StringStringEntryProto {
    StringStringEntryProto {
        key: key.to_owned(),
        value: value.to_owned(),
    }
}
