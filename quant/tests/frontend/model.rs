//! Model files that are wrong, and what the error says.

use std::path::PathBuf;

use crate::shared::{LIMITS, data, made, made::Made};
use dual16_quant::{
    Error,
    float::FloatModel,
    model::{ElementKind, Model},
    onnx::external_locations,
    onnx::{DataType, ModelProto, StringStringEntryProto, TensorProto},
};
use prost::Message;

fn load(bytes: Vec<u8>) -> Result<Model, Error> {
    Model::from_bytes("m.onnx", bytes.into(), &[], LIMITS)
}

fn linear() -> Made {
    Made::new(&[1, 2])
        .constant("w", &[2, 2], &[1.0, 2.0, 3.0, 4.0])
        .node("MatMul", &["x", "w"], &["y"])
}

fn edited(edit: impl FnOnce(&mut ModelProto)) -> Vec<u8> {
    let mut proto = ModelProto::decode(linear().encode().as_slice()).unwrap();
    edit(&mut proto);
    proto.encode_to_vec()
}

fn weight(proto: &mut ModelProto) -> &mut TensorProto {
    &mut proto.graph.as_mut().unwrap().initializer[0]
}

#[test]
fn what_is_wrong_is_named() {
    let good = linear().encode();
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("empty", vec![], &["the file is empty"]),
        (
            "truncated",
            good[..good.len() - 20].to_vec(),
            &["truncated"],
        ),
        (
            "text",
            b"not a model at all, just text".to_vec(),
            &["no ONNX model"],
        ),
        ("no graph", edited(|m| m.graph = None), &["it has no graph"]),
        (
            "short tensor",
            edited(|m| weight(m).raw_data = Some(vec![0; 15].into())),
            &["tensor 'w'", "needs 16 bytes, the file has 15"],
        ),
        (
            "negative dim",
            edited(|m| weight(m).dims = vec![-2, 2]),
            &["tensor 'w'", "[-2, 2]"],
        ),
        (
            "huge dims",
            edited(|m| weight(m).dims = vec![i64::MAX, i64::MAX]),
            &["tensor 'w'", "impossible shape"],
        ),
        (
            "twice",
            edited(|m| {
                let again = weight(m).clone();
                m.graph.as_mut().unwrap().initializer.push(again);
            }),
            &["tensor 'w' is there twice"],
        ),
        (
            "unknown value",
            edited(|m| m.graph.as_mut().unwrap().node[0].input[0] = "z".to_owned()),
            &["node 'node_y' uses 'z'"],
        ),
        (
            "unknown output",
            edited(|m| m.graph.as_mut().unwrap().output[0].name = "z".to_owned()),
            &["output 'z'"],
        ),
        (
            "no output",
            edited(|m| m.graph.as_mut().unwrap().output.clear()),
            &["has no output"],
        ),
        (
            "no type",
            edited(|m| m.graph.as_mut().unwrap().input[0].r#type = None),
            &["input 'x'", "no tensor"],
        ),
    ];
    for (case, bytes, parts) in cases {
        let error = load(bytes).expect_err(case);
        let text = error.to_string();
        assert_eq!(error.code(), "INVALID_MODEL", "{case}");
        assert!(!error.retryable());
        for part in ["m.onnx: "].iter().chain(parts) {
            assert!(
                text.contains(part),
                "{case}: '{text}' does not say '{part}'"
            );
        }
    }
}

#[test]
fn a_weight_that_is_not_finite_is_named_with_its_index() {
    let made = Made::new(&[1, 2])
        .constant("w", &[2, 2], &[1.0, 2.0, f32::NAN, 4.0])
        .node("MatMul", &["x", "w"], &["y"]);
    let error = load(made.encode()).unwrap_err();
    assert_eq!(error.code(), "NON_FINITE");
    let wanted = "m.onnx: tensor 'w' has NaN at index [1, 0]";
    assert!(error.to_string().starts_with(wanted), "{error}");
}

#[test]
fn a_missing_file_is_an_io_error() {
    let error = Model::load("gone.onnx", &data("gone.onnx"), &[], LIMITS).unwrap_err();
    assert_eq!(error.code(), "IO");
    assert!(error.to_string().starts_with("gone.onnx: "));
}

#[test]
fn every_encoding_of_a_tensor() {
    let typed = |data_type: i32, fill: &dyn Fn(&mut TensorProto)| {
        edited(|m| {
            let tensor = weight(m);
            tensor.raw_data = None;
            tensor.data_type = data_type;
            fill(tensor);
        })
    };
    let halves = [0x3c00_u16, 0x4000, 0x4200, 0x4400];
    let brains = [0x3f80_u16, 0x4000, 0x4040, 0x4080];
    let bits = |of: [u16; 4]| of.map(i32::from).to_vec();
    let raw = |of: [u16; 4]| {
        Some(
            of.iter()
                .flat_map(|x| x.to_le_bytes())
                .collect::<Vec<u8>>()
                .into(),
        )
    };
    let doubles = [1.0_f64, 2.0, 3.0, 4.0];
    let files = [
        typed(1, &|t| t.float_data = vec![1.0, 2.0, 3.0, 4.0]),
        typed(11, &|t| t.double_data = doubles.to_vec()),
        typed(11, &|t| {
            t.raw_data = Some(
                doubles
                    .iter()
                    .flat_map(|x| x.to_le_bytes())
                    .collect::<Vec<u8>>()
                    .into(),
            );
        }),
        typed(10, &|t| t.int32_data = bits(halves)),
        typed(10, &|t| t.raw_data = raw(halves)),
        typed(16, &|t| t.int32_data = bits(brains)),
        typed(16, &|t| t.raw_data = raw(brains)),
    ];
    for bytes in files {
        let tensor = load(bytes).unwrap().f32_constant("w").unwrap().clone();
        assert_eq!(tensor.shape(), [2, 2]);
        assert_eq!(
            tensor.iter().copied().collect::<Vec<f32>>(),
            [1.0, 2.0, 3.0, 4.0]
        );
    }
}

#[test]
fn constant_nodes_are_constants() {
    let made = Made::new(&[1, 2])
        .node("Constant", &[], &["c"])
        .float("value_float", 2.5)
        .node("Mul", &["x", "c"], &["y"]);
    let model = made.model();
    assert_eq!(model.f32_constant("c").unwrap().first(), Some(&2.5));
    let sample = crate::shared::Sample::new(model, made::batch(&[1, 2]));
    assert_eq!(sample.listing(), ["node_y Mul"]);
}

#[test]
fn inputs_know_type_and_shape() {
    let model = Model::load("model.onnx", &data("smallmodel/model.onnx"), &[], LIMITS).unwrap();
    let [input] = model.inputs() else {
        panic!("one input")
    };
    assert_eq!(
        (input.name.as_str(), input.shape.to_string()),
        ("x", "[2, 100, 256]".to_owned())
    );
    assert_eq!(model.outputs(), ["y"]);
}

/// A model whose weight is in another file, and the bytes of that file.
fn external(location: &str, offset: &str, length: &str) -> Vec<u8> {
    edited(|m| {
        let tensor = weight(m);
        tensor.raw_data = None;
        tensor.data_location = 1;
        let entries = [
            ("location", location),
            ("offset", offset),
            ("length", length),
        ];
        tensor.external_data = entries
            .map(|(key, value)| StringStringEntryProto {
                key: key.to_owned(),
                value: value.to_owned(),
            })
            .to_vec();
    })
}

fn weights_file() -> (tempfile::TempDir, Vec<(String, PathBuf)>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.bin");
    let mut bytes = vec![7; 8];
    bytes.extend(
        [1.0_f32, 2.0, 3.0, 4.0]
            .iter()
            .flat_map(|x| x.to_le_bytes()),
    );
    std::fs::write(&path, bytes).unwrap();
    (folder, vec![("w.bin".to_owned(), path)])
}

#[test]
fn external_data_is_read_by_offset_and_runs() {
    let (_folder, files) = weights_file();
    let bytes = external("w.bin", "8", "16");
    let model = Model::from_bytes("m.onnx", bytes.into(), &files, LIMITS).unwrap();
    let weight = model.f32_constant("w").unwrap();
    assert_eq!(
        weight.iter().copied().collect::<Vec<f32>>(),
        [1.0, 2.0, 3.0, 4.0]
    );
    let float = FloatModel::load(&model, 1).unwrap();
    let batch = made::batch(&[1, 2]);
    let y = float.run(&batch, &["y"]).unwrap();
    let x = batch["x"].as_f32().unwrap();
    let wanted = x[[0, 0]] * 1.0 + x[[0, 1]] * 3.0;
    assert!((y["y"].as_f32().unwrap()[[0, 0]] - wanted).abs() < 1e-5);
}

#[test]
fn external_data_in_a_folder_and_without_offset_runs() {
    let (_folder, mut files) = weights_file();
    files[0].0 = "weights/w.bin".to_owned();
    let bytes = std::fs::read(&files[0].1).unwrap();
    std::fs::write(&files[0].1, &bytes[8..]).unwrap();
    let mut proto = ModelProto::decode(external("weights/w.bin", "0", "0").as_slice()).unwrap();
    weight(&mut proto).external_data.truncate(1);
    let model = Model::from_bytes("m.onnx", proto.encode_to_vec().into(), &files, LIMITS).unwrap();
    let sample = crate::shared::Sample::new(model, made::batch(&[1, 2]));
    assert_eq!(sample.linear_names(), ["node_y"]);
    assert!(crate::shared::reference::worst_difference(&sample) < 1e-4);
}

#[test]
fn a_location_means_the_same_however_plainly_it_is_written() {
    let (folder, mut files) = weights_file();
    for (asked, given) in [
        ("./w.bin", "w.bin"),
        ("w.bin", "./w.bin"),
        ("a//./w.bin", "a/w.bin"),
    ] {
        files[0].0 = given.to_owned();
        let bytes = external(asked, "8", "16");
        let path = folder.path().join("m.onnx");
        std::fs::write(&path, &bytes).unwrap();
        let listed = external_locations("m.onnx", &path, LIMITS).unwrap();
        assert_eq!(listed, [asked.replace("./", "").replace("//", "/")]);
        let model = Model::from_bytes("m.onnx", bytes.into(), &files, LIMITS).unwrap();
        FloatModel::load(&model, 1).unwrap();
    }
}

#[test]
fn inputs_of_every_type_are_known() {
    let cases = [
        (DataType::Float, ElementKind::F32),
        (DataType::Float16, ElementKind::F32),
        (DataType::Bfloat16, ElementKind::F32),
        (DataType::Double, ElementKind::F64),
        (DataType::Int32, ElementKind::I32),
        (DataType::Int64, ElementKind::I32),
        (DataType::Uint32, ElementKind::U32),
        (DataType::Uint64, ElementKind::U32),
        (DataType::Int16, ElementKind::I16),
        (DataType::Uint16, ElementKind::U16),
        (DataType::Int8, ElementKind::I8),
        (DataType::Uint8, ElementKind::U8),
        (DataType::Bool, ElementKind::Bool),
    ];
    for (declared, kind) in cases {
        let mut made = made::Made::new(&[1]).node("Identity", &["x"], &["y"]);
        let tensor = made.graph.input[0].r#type.as_mut().unwrap();
        tensor.tensor_type.as_mut().unwrap().elem_type = declared.into();
        assert_eq!(made.model().inputs()[0].kind, kind, "{declared:?}");
    }
}

#[test]
fn external_data_never_leads_elsewhere() {
    let (_folder, files) = weights_file();
    let cases = [
        (
            external("other.bin", "0", "16"),
            "'other.bin', which is not among the files given: 'w.bin'",
        ),
        (
            external("../w.bin", "0", "16"),
            "'../w.bin', outside the model's folder",
        ),
        (
            external("/etc/passwd", "0", "16"),
            "'/etc/passwd', outside the model's folder",
        ),
        (
            external("a\\..\\w.bin", "0", "16"),
            "outside the model's folder",
        ),
        (
            external("w.bin", "16", "16"),
            "bytes 16..32 of 'w.bin', which has only 24",
        ),
        (
            external("w.bin", "18446744073709551615", "16"),
            "which has only 24",
        ),
        (external("w.bin", "eight", "16"), "external offset 'eight'"),
        (
            external("w.bin", "8", "12"),
            "needs 16 bytes, the file has 12",
        ),
    ];
    for (bytes, part) in cases {
        let error = Model::from_bytes("m.onnx", bytes.into(), &files, LIMITS).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("m.onnx: tensor 'w': ") && text.contains(part),
            "{text}"
        );
    }
}

#[test]
fn external_data_that_is_read_over_and_over_is_refused_before_it_is_read() {
    const SIDE: i64 = 512;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.bin");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(1 << 20).unwrap();
    let files = vec![("w.bin".to_owned(), path)];
    // All of the one file of 1 MiB each time: four times it and 16 MiB may be read.
    let shared = |times: usize| {
        let mut proto = ModelProto::decode(external("w.bin", "0", "1048576").as_slice()).unwrap();
        let graph = proto.graph.as_mut().unwrap();
        graph.initializer[0].dims = vec![SIDE, SIDE];
        let tensor = graph.initializer[0].clone();
        graph.initializer.extend((1..times).map(|i| TensorProto {
            name: format!("tied_{i}"),
            ..tensor.clone()
        }));
        Model::from_bytes("m.onnx", proto.encode_to_vec().into(), &files, LIMITS)
    };
    shared(20).unwrap();
    let refused = shared(21).unwrap_err();
    assert_eq!(refused.code(), "LIMIT_EXCEEDED");
    assert_eq!(
        refused.to_string(),
        "m.onnx: with tensor 'tied_20' in 'w.bin', its tensors read 22020096 bytes of external \
         files that have 1048576; at most 20971520 may be"
    );
}

#[test]
fn a_location_of_any_length_makes_a_short_message() {
    let (_folder, files) = weights_file();
    let long = "l".repeat(1 << 20);
    let (long, outside) = (long.as_str(), format!("../{long}"));
    for (location, offset) in [(long, "0"), (outside.as_str(), "0"), ("w.bin", long)] {
        let bytes = external(location, offset, "16");
        let error = Model::from_bytes("m.onnx", bytes.into(), &files, LIMITS).unwrap_err();
        let bytes = error.to_string().len();
        assert!(bytes < 400, "{bytes} bytes");
    }
}

#[test]
fn external_locations_are_listed_for_whoever_uploads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    std::fs::write(&path, external("sub/w.bin", "0", "16")).unwrap();
    assert_eq!(
        external_locations("m.onnx", &path, LIMITS).unwrap(),
        ["sub/w.bin"]
    );
    std::fs::write(&path, external("../w.bin", "0", "16")).unwrap();
    let error = external_locations("m.onnx", &path, LIMITS)
        .unwrap_err()
        .to_string();
    assert!(error.contains("outside the model's folder"), "{error}");
    assert!(
        external_locations("model.onnx", &data("digits/model.onnx"), LIMITS)
            .unwrap()
            .is_empty()
    );
}
