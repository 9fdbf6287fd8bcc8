//! Models that are whole files and wrong all the same.

use dual16_quant::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto,
    f32_value, node,
};
use dual16_tests::data::Copy;
use prost::Message as _;

use super::{BAD_INPUT, BATCH, Case};

pub(super) const MODELS: &[Case] = &[
    Case {
        name: "external data outside the model's folder",
        spoil: |copy| external_data(copy, "../secret"),
        arguments: &[],
        code: BAD_INPUT,
        says: &[
            "model.onnx",
            "linear1.bias",
            "../secret",
            "leaves the folder",
            "own folder",
        ],
    },
    Case {
        name: "external data that is not there",
        spoil: |copy| external_data(copy, "weights.bin"),
        arguments: &[],
        code: BAD_INPUT,
        says: &[
            "model.onnx",
            "linear1.bias",
            "weights.bin",
            "does not exist",
        ],
    },
    Case {
        name: "external data by an absolute path",
        spoil: |copy| external_data(copy, "/etc/hostname"),
        arguments: &[],
        code: BAD_INPUT,
        says: &[
            "model.onnx",
            "linear1.bias",
            "/etc/hostname",
            "absolute path",
        ],
    },
    Case {
        name: "external data by a symbolic link to nowhere",
        spoil: |copy| {
            std::os::unix::fs::symlink("nowhere", copy.file("link.bin")).unwrap();
            external_data(copy, "link.bin");
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &["model.onnx", "linear1.bias", "link.bin", "does not exist"],
    },
    Case {
        name: "external data that is cut off",
        spoil: |copy| {
            std::fs::write(copy.file("weights.bin"), [0; 1000]).unwrap();
            external_data(copy, "weights.bin");
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &["linear1.bias", "[256]", "1024", "1000"],
    },
    Case {
        name: "external data that is read over and over",
        spoil: |copy| {
            std::fs::write(copy.file("weights.bin"), vec![0; 1 << 20]).unwrap();
            graph(copy, |graph| {
                let tied = |i| TensorProto {
                    name: format!("tied{i}"),
                    dims: vec![1 << 18],
                    data_type: 1,
                    data_location: 1,
                    external_data: vec![StringStringEntryProto {
                        key: "location".to_owned(),
                        value: "weights.bin".to_owned(),
                    }],
                    ..TensorProto::default()
                };
                graph.initializer.extend((1..=30).map(tied));
            });
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &[
            "model.onnx",
            "'tied21' in 'weights.bin'",
            "22020096 bytes",
            "1048576",
            "at most 20971520",
            "LIMIT_EXCEEDED",
        ],
    },
    Case {
        name: "a tensor of too many dimensions",
        spoil: |copy| {
            graph(copy, |graph| {
                weight(graph).dims.splice(0..0, [1; 64]).for_each(drop)
            })
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &[
            "model.onnx",
            "'linear1.bias'",
            "65 dimensions",
            "at most 64",
            "LIMIT_EXCEEDED",
        ],
    },
    Case {
        name: "a model without a graph",
        spoil: |copy| model(copy, |model| model.graph = None),
        arguments: &[],
        code: BAD_INPUT,
        says: &["model.onnx", "no graph"],
    },
    Case {
        name: "a model of no operator set",
        spoil: |copy| model(copy, |model| model.opset_import.clear()),
        arguments: &[],
        code: BAD_INPUT,
        says: &["model.onnx", "opset_import", "cut off"],
    },
    Case {
        name: "a node that uses what nothing makes",
        spoil: |copy| graph(copy, |graph| graph.node[1].input[0] = "ghost".to_owned()),
        arguments: &[],
        code: BAD_INPUT,
        says: &[
            "model.onnx",
            "'ghost'",
            "nothing before it makes",
            "INVALID_MODEL",
        ],
    },
    Case {
        name: "a value made twice",
        spoil: |copy| {
            graph(copy, |graph| {
                let again = graph.node[0].clone();
                graph.node.push(again);
            })
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &["model.onnx", "is made twice", "unique"],
    },
    Case {
        name: "a batch with another value for an initializer",
        spoil: |copy| {
            graph(copy, |graph| {
                let bias = f32_value("linear1.bias", Some(&[Some(256)]));
                graph.input.push(bias);
            });
            copy.edit_tensors(BATCH, |tensors| {
                let other = tensors["x"].clone();
                tensors.insert("linear1.bias".to_owned(), other);
            });
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &[
            "001.safetensors",
            "'linear1.bias'",
            "initializer",
            "leave it out",
        ],
    },
    Case {
        name: "an output that no node makes",
        spoil: |copy| graph(copy, |graph| graph.output[0].name = "ghost".to_owned()),
        arguments: &[],
        code: BAD_INPUT,
        says: &["model.onnx", "output 'ghost'", "made by no node"],
    },
    Case {
        name: "a model without an output",
        spoil: |copy| graph(copy, |graph| graph.output.clear()),
        arguments: &[],
        code: BAD_INPUT,
        says: &["model.onnx", "no output"],
    },
    Case {
        name: "a weight that is too short",
        spoil: |copy| {
            graph(copy, |graph| {
                weight(graph).raw_data = Some(vec![0; 12].into())
            })
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &["model.onnx", "'linear1.bias'", "[256]", "1024", "12"],
    },
    Case {
        name: "a weight of a negative length",
        spoil: |copy| graph(copy, |graph| weight(graph).dims = vec![-256]),
        arguments: &[],
        code: BAD_INPUT,
        says: &["model.onnx", "'linear1.bias'", "impossible shape [-256]"],
    },
    Case {
        name: "a weight of a length that overflows",
        spoil: |copy| graph(copy, |graph| weight(graph).dims = vec![1 << 40, 1 << 40]),
        arguments: &[],
        code: BAD_INPUT,
        says: &["model.onnx", "'linear1.bias'", "impossible shape"],
    },
    Case {
        name: "a weight that is there twice",
        spoil: |copy| {
            graph(copy, |graph| {
                let again = weight(graph).clone();
                graph.initializer.push(again);
            })
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &["model.onnx", "'linear1.bias' is there twice", "unique"],
    },
    Case {
        name: "a weight that is NaN",
        spoil: |copy| {
            graph(copy, |graph| {
                weight(graph).raw_data = Some(f32::NAN.to_le_bytes().repeat(256).into())
            })
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &[
            "model.onnx",
            "'linear1.bias'",
            "NaN",
            "[0]",
            "finite",
            "NON_FINITE",
        ],
    },
    Case {
        name: "an input of text",
        spoil: |copy| {
            graph(copy, |graph| {
                let tensor = graph.input[0]
                    .r#type
                    .as_mut()
                    .unwrap()
                    .tensor_type
                    .as_mut()
                    .unwrap();
                tensor.elem_type = 8;
            })
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &["model.onnx", "input 'x'", "String", "not supported"],
    },
    Case {
        name: "an input that is no tensor",
        spoil: |copy| graph(copy, |graph| graph.input[0].r#type = None),
        arguments: &[],
        code: BAD_INPUT,
        says: &["model.onnx", "input 'x'", "no tensor"],
    },
    Case {
        name: "an operator that nobody knows",
        spoil: |copy| {
            graph(copy, |graph| {
                graph.node[0].op_type = "Frobnicate".to_owned()
            })
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &["model.onnx", "Frobnicate", "INVALID_MODEL"],
    },
    Case {
        name: "a model without a Linear",
        spoil: |copy| {
            graph(copy, |graph| {
                graph.node = vec![node("Identity", &["x"], &["y"])];
                graph.output = vec![f32_value("y", None)];
            })
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &["model.onnx", "no Linear layer", "it has 1 Identity"],
    },
    Case {
        name: "more nodes than any model has",
        spoil: |copy| {
            graph(copy, |graph| {
                let one = node("Identity", &["x"], &[]);
                graph.node.resize(100_001, one);
            })
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &[
            "model.onnx",
            "100001 nodes",
            "at most 100000",
            "--limit-model-nodes",
        ],
    },
    Case {
        name: "more tensors than any model has",
        spoil: |copy| {
            graph(copy, |graph| {
                graph.initializer.resize(100_001, TensorProto::default())
            })
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &[
            "model.onnx",
            "100001 tensors",
            "at most 100000",
            "--limit-file-tensors",
        ],
    },
    Case {
        name: "a tensor of a long name",
        spoil: |copy| graph(copy, |graph| graph.initializer[0].name = "w".repeat(1025)),
        arguments: &[],
        code: BAD_INPUT,
        says: &[
            "model.onnx",
            "tensor 'www",
            "1025 bytes",
            "at most 1024",
            "--limit-tensor-name-bytes",
        ],
    },
    Case {
        name: "a node of a long name",
        spoil: |copy| graph(copy, |graph| graph.node[1].name = "n".repeat(1025)),
        arguments: &[],
        code: BAD_INPUT,
        says: &[
            "model.onnx",
            "node 'nnn",
            "1025 bytes",
            "at most 1024",
            "--limit-tensor-name-bytes",
            "LIMIT_EXCEEDED",
        ],
    },
    Case {
        name: "more attributes than any model has",
        spoil: |copy| {
            graph(copy, |graph| {
                graph.node[0]
                    .attribute
                    .resize(1_600_001, AttributeProto::default())
            })
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &[
            "model.onnx",
            "attributes and declared values",
            "--limit-model-nodes",
            "LIMIT_EXCEEDED",
        ],
    },
    Case {
        name: "graphs nested deeper than any model's",
        spoil: |copy| {
            graph(copy, |graph| {
                let inner = (0..16).fold(GraphProto::default(), |inner, _| GraphProto {
                    node: vec![with_subgraph(inner)],
                    ..GraphProto::default()
                });
                graph.node.push(with_subgraph(inner));
            })
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &[
            "model.onnx",
            "nested 17 deep",
            "at most 16",
            "--limit-graph-nesting",
        ],
    },
    Case {
        name: "graphs nested without end",
        spoil: |copy| {
            let mut inner = Vec::new();
            for level in 0..600 {
                inner = field([0x32, 0x2a, 0x0a][level % 3], &inner);
            }
            copy.edit("model.onnx", |bytes| bytes.extend(field(0x3a, &inner)));
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &["model.onnx", "not a whole ONNX model", "recursion"],
    },
];

/// A node with a graph of its own.
fn with_subgraph(graph: GraphProto) -> NodeProto {
    NodeProto {
        op_type: "If".to_owned(),
        attribute: vec![AttributeProto {
            g: Some(graph),
            ..AttributeProto::default()
        }],
        ..NodeProto::default()
    }
}

fn model(copy: &Copy, change: impl FnOnce(&mut ModelProto)) {
    copy.edit("model.onnx", |bytes| {
        let mut model = ModelProto::decode(bytes.as_slice()).unwrap();
        change(&mut model);
        *bytes = model.encode_to_vec();
    });
}

fn graph(copy: &Copy, change: impl FnOnce(&mut GraphProto)) {
    model(copy, |model| change(model.graph.as_mut().unwrap()));
}

/// The bias of linear1.
fn weight(graph: &mut GraphProto) -> &mut TensorProto {
    let mut tensors = graph.initializer.iter_mut();
    tensors
        .find(|tensor| tensor.name == "linear1.bias")
        .unwrap()
}

/// Makes the model name another file for the bias of linear1, as exporters do for large ones.
fn external_data(copy: &Copy, location: &str) {
    graph(copy, |graph| {
        let bias = weight(graph);
        bias.raw_data = None;
        bias.data_location = 1;
        bias.external_data = vec![StringStringEntryProto {
            key: "location".to_owned(),
            value: location.to_owned(),
        }];
    });
}

/// A field of protocol buffers that holds bytes.
fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    prost::encoding::encode_varint(content.len() as u64, &mut bytes);
    bytes.extend_from_slice(content);
    bytes
}
