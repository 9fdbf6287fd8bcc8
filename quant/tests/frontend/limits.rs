//! Files that hold more than they may: what is at a limit passes, one more is refused by name and
//! figure, before it costs anything.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};

use crate::shared::{data, made::Made};
use dual16_quant::{
    Error, InputLimits,
    batch::BatchFile,
    layers,
    limits::InputLimit,
    model::{ElementKind, InputShape, InputSpec, Model},
    onnx::{
        AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
        TensorProto, f32_initializer, f32_value, node,
    },
};
use ndarray::arr1;
use prost::Message as _;
use tempfile::TempDir;
use zip::{ZipWriter, write::SimpleFileOptions};

/// The defaults but for one.
pub(super) fn with(limit: InputLimit, max: u64) -> InputLimits {
    let mut limits = InputLimits::DEFAULT;
    *match limit {
        InputLimit::ModelNodes => &mut limits.model_nodes,
        InputLimit::FileTensors => &mut limits.file_tensors,
        InputLimit::TensorNameBytes => &mut limits.tensor_name_bytes,
        InputLimit::GraphNesting => &mut limits.graph_nesting,
        InputLimit::UnpackedBytes => &mut limits.unpacked_bytes,
    } = max;
    limits
}

/// `read` is to succeed with `found`, and to fail with one less, saying so and `says`.
#[track_caller]
pub(super) fn holds(
    limit: InputLimit,
    found: u64,
    says: &[&str],
    read: impl Fn(&InputLimits) -> Result<(), Error>,
) {
    read(&with(limit, found)).unwrap();
    let error = read(&with(limit, found - 1)).unwrap_err();
    assert_eq!(error.code(), "LIMIT_EXCEEDED", "{error}");
    let text = error.to_string();
    let max = format!("at most {} may be", found - 1);
    let flag = format!("--limit-{}", limit.name().replace('_', "-"));
    for part in [max.as_str(), limit.name(), &flag].iter().chain(says) {
        assert!(text.contains(part), "{part}: {text}");
    }
}

pub(super) fn model(graph: GraphProto) -> Vec<u8> {
    let model = ModelProto {
        ir_version: 8,
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: 18,
        }],
        ..ModelProto::default()
    };
    model.encode_to_vec()
}

pub(super) fn load(bytes: &[u8], limits: &InputLimits) -> Result<(), Error> {
    Model::from_bytes("m.onnx", bytes.to_vec().into(), &[], limits).map(|_| ())
}

/// `x` through an Identity to `y`, and a node `if_N` with a subgraph in a subgraph, `depth` times.
pub(super) fn nested(depth: usize) -> GraphProto {
    let mut graph = GraphProto {
        input: vec![f32_value("x", Some(&[Some(2)]))],
        output: vec![f32_value("y", None)],
        node: vec![node("Identity", &["x"], &["y"])],
        ..GraphProto::default()
    };
    let mut inner: Option<GraphProto> = None;
    for level in (0..depth).rev() {
        let tensor = f32_initializer("deep", arr1(&[1.0_f32]).into_dyn().view());
        let attribute = AttributeProto {
            name: "then_branch".to_owned(),
            g: Some(GraphProto {
                node: inner.take().map_or(Vec::new(), |graph| graph.node),
                initializer: vec![tensor],
                input: vec![f32_value("in", Some(&[Some(2)]))],
                ..GraphProto::default()
            }),
            ..AttributeProto::default()
        };
        let branching = NodeProto {
            name: format!("if_{level}"),
            op_type: "If".to_owned(),
            attribute: vec![attribute],
            ..NodeProto::default()
        };
        inner = Some(GraphProto {
            node: vec![branching],
            ..GraphProto::default()
        });
    }
    graph
        .node
        .extend(inner.into_iter().flat_map(|graph| graph.node));
    graph
}

#[test]
fn nodes_of_a_model_subgraphs_and_functions_included() {
    let plain = Made::new(&[2])
        .node("Relu", &["x"], &["a"])
        .node("Relu", &["a"], &["y"])
        .encode();
    let says = ["m.onnx: the model has 2 nodes"];
    holds(InputLimit::ModelNodes, 2, &says, |limits| {
        load(&plain, limits)
    });

    let deep = model(nested(3));
    let says = ["the model has 4 nodes"];
    holds(InputLimit::ModelNodes, 4, &says, |limits| {
        load(&deep, limits)
    });

    // FunctionProto.node is field 7.
    let function = [0x3a, 0, 0x3a, 0, 0x3a, 0];
    let with_function = ModelProto {
        functions: vec![FunctionProto::decode(function.as_slice()).unwrap()],
        ..ModelProto::decode(plain.as_slice()).unwrap()
    };
    let bytes = with_function.encode_to_vec();
    let says = ["the model has 5 nodes"];
    holds(InputLimit::ModelNodes, 5, &says, |limits| {
        load(&bytes, limits)
    });
}

#[test]
fn a_function_that_calls_itself_ends_at_a_limit() {
    // A call without a name is counted; the name of one that has one grows.
    for (name, says) in [("", "functions inlined"), ("f", "the name of node")] {
        let call = NodeProto {
            domain: "own".to_owned(),
            name: name.to_owned(),
            ..node("F", &["x"], &["y"])
        };
        let function = FunctionProto {
            name: "F".to_owned(),
            domain: "own".to_owned(),
            input: vec!["x".to_owned()],
            output: vec!["y".to_owned()],
            node: vec![call.clone()],
            ..FunctionProto::default()
        };
        let mut graph = nested(0);
        graph.node = vec![call];
        let proto = ModelProto {
            functions: vec![function],
            ..ModelProto::decode(model(graph).as_slice()).unwrap()
        };
        let error = load(&proto.encode_to_vec(), &InputLimits::DEFAULT).unwrap_err();
        assert_eq!(error.code(), "LIMIT_EXCEEDED", "{name}");
        let text = error.to_string();
        assert!(text.contains(says) && text.len() < 300, "{text:.300}");
    }
}

#[test]
fn attributes_and_declared_values_are_no_way_around_the_nodes() {
    let mut graph = nested(0);
    graph.node[0].attribute = vec![AttributeProto::default(); 40];
    let bytes = model(graph);
    let says = ["42 attributes and declared values, as many as 3 nodes may have"];
    holds(InputLimit::ModelNodes, 3, &says, |limits| {
        load(&bytes, limits)
    });
}

#[test]
fn tensors_of_a_model_those_of_nodes_included() {
    let bytes = Made::new(&[2])
        .scalar("a", 1.0)
        .scalar("b", 2.0)
        .node("Relu", &["x"], &["y"])
        .encode();
    let says = ["m.onnx: it has 2 tensors"];
    holds(InputLimit::FileTensors, 2, &says, |limits| {
        load(&bytes, limits)
    });

    let mut graph = nested(2);
    graph.node[0].attribute = vec![AttributeProto {
        t: Some(TensorProto::default()),
        ..AttributeProto::default()
    }];
    let bytes = model(graph);
    let says = ["m.onnx: it has 3 tensors"];
    holds(InputLimit::FileTensors, 3, &says, |limits| {
        load(&bytes, limits)
    });
}

#[test]
fn names_of_everything_in_a_model() {
    let long = "n".repeat(100);
    let named = |graph: &mut dyn FnMut(&mut GraphProto)| {
        let mut made = nested(1);
        graph(&mut made);
        model(made)
    };
    type Rename<'a> = &'a mut dyn FnMut(&mut GraphProto);
    let cases: [(&str, Rename<'_>); 6] = [
        ("node", &mut |graph| graph.node[0].name = long.clone()),
        ("operator", &mut |graph| {
            graph.node[1].op_type = long.clone()
        }),
        ("attribute", &mut |graph| {
            graph.node[1].attribute[0].name = long.clone()
        }),
        ("value", &mut |graph| {
            graph.input[0].name = long.clone();
            graph.node[0].input[0] = long.clone();
        }),
        ("tensor", &mut |graph| {
            graph.node[1].attribute[0].g.as_mut().unwrap().initializer[0].name = long.clone();
        }),
        ("value", &mut |graph| {
            graph.output[0].name = long.clone();
            graph.node[0].output[0] = long.clone();
        }),
    ];
    for (of, rename) in cases {
        let bytes = named(rename);
        let says = format!(
            "m.onnx: the name of {of} '{}…' has 100 bytes",
            "n".repeat(64)
        );
        holds(InputLimit::TensorNameBytes, 100, &[&says], |limits| {
            match load(&bytes, limits) {
                // Nothing runs an operator of this name, however long it may be.
                Err(error) if error.code() == "INVALID_MODEL" && of == "operator" => Ok(()),
                other => other,
            }
        });
    }
    for (of, module, function) in [
        ("module", long.as_str(), "relu"),
        ("function", "fc", long.as_str()),
    ] {
        let scoped = Made::new(&[2])
            .node("Relu", &["x"], &["y"])
            .scope(module, function)
            .encode();
        let says = format!("m.onnx: the name of {of} 'nnn");
        holds(InputLimit::TensorNameBytes, 100, &[&says], |limits| {
            load(&scoped, limits)
        });
    }
}

#[test]
fn subgraphs_within_subgraphs() {
    let bytes = model(nested(5));
    let says = ["m.onnx: node 'if_4' has a subgraph nested 5 deep"];
    holds(InputLimit::GraphNesting, 5, &says, |limits| {
        load(&bytes, limits)
    });
    // Without a limit it is the decoder that ends it, and everything it takes is let through.
    load(&model(nested(31)), &InputLimits::NONE).unwrap();
    let error = load(&model(nested(32)), &InputLimits::NONE).unwrap_err();
    assert_eq!(error.code(), "INVALID_MODEL");
    assert!(
        error
            .to_string()
            .contains("'if_31' has a subgraph nested 32 deep"),
        "{error}"
    );
    assert!(error.to_string().contains("beyond 31"), "{error}");
}

#[test]
fn a_subgraph_larger_than_can_be_run() {
    let branch = |nodes| AttributeProto {
        g: Some(GraphProto {
            node: vec![node("Identity", &["x"], &["again"]); nodes],
            ..GraphProto::default()
        }),
        ..AttributeProto::default()
    };
    let mut graph = nested(0);
    graph.node[0].attribute = vec![branch(4000)];
    load(&model(graph.clone()), &InputLimits::NONE).unwrap();
    graph.node[0].attribute = vec![branch(4001)];
    let error = load(&model(graph), &InputLimits::NONE).unwrap_err();
    assert_eq!(error.code(), "INVALID_MODEL");
    let says = "m.onnx: node 'node_y' has a subgraph of 4001 nodes; at most 4000 can be run";
    assert_eq!(error.to_string(), says);
}

fn inputs() -> Vec<InputSpec> {
    vec![InputSpec {
        name: "x".to_owned(),
        kind: ElementKind::F32,
        shape: InputShape::Trailing(Vec::new()),
    }]
}

fn open(name: &str, path: &Path, limits: &InputLimits) -> Result<(), Error> {
    BatchFile::open(name, path, &inputs(), limits)?
        .read(0)
        .map(|_| ())
}

fn safetensors(folder: &TempDir, names: &[&str]) -> PathBuf {
    let entries = names.iter().enumerate().map(|(i, name)| {
        let (from, to) = (8 * i, 8 * i + 8);
        format!(r#""{name}":{{"dtype":"F32","shape":[1,2],"data_offsets":[{from},{to}]}}"#)
    });
    let entries: Vec<String> = entries.collect();
    let header = format!(r#"{{"__metadata__":{{"a":"b"}},{}}}"#, entries.join(","));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + 8 * names.len(), 0);
    let path = folder.path().join("b.safetensors");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn tensors_names_and_bytes_of_safetensors() {
    let folder = tempfile::tempdir().unwrap();
    let path = safetensors(&folder, &["x", "label", "note"]);
    let read = |limits: &InputLimits| open("b.safetensors", &path, limits);
    holds(
        InputLimit::FileTensors,
        3,
        &["b.safetensors: it has 3 tensors"],
        read,
    );
    let says = ["b.safetensors: the name of tensor 'label' has 5 bytes"];
    holds(InputLimit::TensorNameBytes, 5, &says, read);
    let says = ["b.safetensors: its tensors have 24 bytes unpacked"];
    holds(InputLimit::UnpackedBytes, 24, &says, read);

    // Weights are held to the same, but for their size: that of a model is the server's affair.
    let path = safetensors(&folder, &["a.weight", "b.weight"]);
    let read = |limits: &InputLimits| layers::to_onnx("w.safetensors", &path, None, limits);
    holds(
        InputLimit::FileTensors,
        2,
        &["w.safetensors: it has 2 tensors"],
        |limits| read(limits).map(|_| ()),
    );
    read(&with(InputLimit::UnpackedBytes, 1)).unwrap();
}

/// An archive of these entries, compressed.
fn npz(folder: &TempDir, entries: &[(&str, &[u8])]) -> PathBuf {
    let path = folder.path().join("b.npz");
    let mut archive = ZipWriter::new(File::create(&path).unwrap());
    for (name, bytes) in entries {
        archive
            .start_file(*name, SimpleFileOptions::default())
            .unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap();
    path
}

fn npy(shape: &str, elements: usize) -> Vec<u8> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    let mut bytes = [b"\x93NUMPY\x01\0", &length[..], header.as_bytes()].concat();
    bytes.resize(bytes.len() + 4 * elements, 0);
    bytes
}

#[test]
fn arrays_names_and_bytes_of_an_archive() {
    let folder = tempfile::tempdir().unwrap();
    let (x, label) = (npy("(4,)", 4), npy("(1000,)", 1000));
    let path = npz(&folder, &[("x.npy", &x), ("label.npy", &label)]);
    let read = |limits: &InputLimits| open("b.npz", &path, limits);
    holds(
        InputLimit::FileTensors,
        2,
        &["b.npz: it has 2 tensors"],
        read,
    );
    let says = ["b.npz: the name of array 'label' has 5 bytes"];
    holds(InputLimit::TensorNameBytes, 5, &says, read);
    let bytes = (x.len() + label.len()) as u64;
    let says = format!("b.npz: its tensors have {bytes} bytes unpacked");
    holds(InputLimit::UnpackedBytes, bytes, &[&says], read);
    assert!(
        std::fs::metadata(&path).unwrap().len() < bytes / 4,
        "it was compressed"
    );
}

#[test]
fn an_array_that_says_it_is_larger_than_its_archive_does_counts_as_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let lying = npy("(1000000,)", 1);
    let path = npz(
        &folder,
        &[("x.npy", &npy("(4,)", 4)), ("label.npy", &lying)],
    );
    let limits = with(InputLimit::UnpackedBytes, 4_000_000);
    let error = open("b.npz", &path, &limits).unwrap_err();
    assert_eq!(error.code(), "LIMIT_EXCEEDED", "{error}");
}

#[test]
fn an_archive_that_says_it_has_more_entries_than_it_has_is_refused_unread() {
    let folder = tempfile::tempdir().unwrap();
    let path = npz(&folder, &[("x.npy", &npy("(4,)", 4))]);
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len() - 22;
    bytes[end + 8..end + 12].copy_from_slice(&[0xff, 0xfe, 0xff, 0xfe]);
    std::fs::write(&path, bytes).unwrap();
    let error = open("b.npz", &path, &with(InputLimit::FileTensors, 1000)).unwrap_err();
    let says = "b.npz: it has 65279 tensors; at most 1000 may be";
    assert!(error.to_string().starts_with(says), "{error}");
}

#[test]
fn real_models_are_far_from_the_defaults() {
    for name in ["digits/model.onnx", "smallmodel/model.onnx"] {
        let hundredth = InputLimits {
            model_nodes: InputLimits::DEFAULT.model_nodes / 100,
            file_tensors: InputLimits::DEFAULT.file_tensors / 100,
            tensor_name_bytes: InputLimits::DEFAULT.tensor_name_bytes / 8,
            graph_nesting: 1,
            unpacked_bytes: InputLimits::DEFAULT.unpacked_bytes,
        };
        Model::load(name, &data(name), &[], &hundredth).unwrap();
    }
}
