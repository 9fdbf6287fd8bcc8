//! Layer mode: weights and activations without a graph give the same layers as the graph does.

use std::path::PathBuf;

use crate::shared::{LIMITS, Sample, data};
use dual16_quant::{
    batch::{Batch, BatchFile},
    float::FloatModel,
    graph,
    layers::{layers_in, left_out, to_onnx},
    model::Model,
    tensor::Datum,
};
use safetensors::{Dtype, tensor::TensorView};
use tempfile::TempDir;

fn save(folder: &TempDir, name: &str, tensors: &[(&str, &Datum)]) -> PathBuf {
    let encoded: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, datum)| {
            let tensor = datum.as_f32().unwrap();
            let bytes = tensor.iter().flat_map(|x| x.to_le_bytes()).collect();
            ((*name).to_owned(), tensor.shape().to_vec(), bytes)
        })
        .collect();
    let views = encoded.iter().map(|(name, shape, bytes)| {
        (
            name.as_str(),
            TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
        )
    });
    let path = folder.path().join(name);
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    path
}

fn weights() -> PathBuf {
    data("smallmodel/float.safetensors")
}

#[test]
fn layers_alone_equal_layers_in_the_graph_to_the_bit() {
    let sample = Sample::load(&data("smallmodel"));
    let folder = tempfile::tempdir().unwrap();
    let probe = &sample.probe;
    let captured = [
        ("linear1", &probe["x"]),
        ("linear2.input", &probe["relu"]),
        ("linear3", &probe["linear_1"]),
        ("relu", &probe["relu"]),
    ];
    let activations = save(&folder, "a.safetensors", &captured);

    let layers = layers_in("a.safetensors", &activations, LIMITS).unwrap();
    assert_eq!(layers, ["linear1", "linear2", "linear3", "relu"]);
    let onnx = to_onnx("float.safetensors", &weights(), Some(&layers), LIMITS).unwrap();
    let model = Model::from_bytes("float.safetensors", onnx.into(), &[], LIMITS).unwrap();
    let mut file = BatchFile::open("a.safetensors", &activations, model.inputs(), LIMITS).unwrap();
    assert_eq!(file.ignored_keys(), ["relu"]);
    let batch = file.read(0).unwrap();

    let float = FloatModel::load(&model, 1).unwrap();
    let outputs: Vec<&str> = model.outputs().iter().map(String::as_str).collect();
    let made = float.run(&batch, &outputs).unwrap();
    assert!(made["linear1.output"] == probe["linear"]);
    assert!(made["linear2.output"] == probe["linear_1"]);
    assert!(made["linear3.output"] == probe["y"]);

    let lowered = graph::lower(&model, &float.probe(&batch).unwrap()).unwrap();
    let names: Vec<&str> = lowered
        .linears()
        .map(|(_, node, _)| node.name.as_str())
        .collect();
    assert_eq!(names, ["linear1", "linear2", "linear3"]);
    assert_eq!((lowered.nodes.len(), lowered.outputs.len()), (3, 3));
    for (alone, whole) in lowered.linears().zip(sample.graph.linears()) {
        assert_eq!(alone.2.weight, whole.2.weight);
        assert_eq!(alone.2.bias, whole.2.bias);
    }
}

#[test]
fn leading_dims_are_free_and_the_last_is_not() {
    let one = ["linear2".to_owned()];
    let onnx = to_onnx("float.safetensors", &weights(), Some(&one), LIMITS).unwrap();
    let model = Model::from_bytes("float.safetensors", onnx.into(), &[], LIMITS).unwrap();
    let [input] = model.inputs() else {
        panic!("one input")
    };
    assert_eq!(
        (input.name.as_str(), input.shape.to_string()),
        ("linear2.input", "[.., 256]".into())
    );

    let folder = tempfile::tempdir().unwrap();
    let float = FloatModel::load(&model, 1).unwrap();
    for shape in [vec![256], vec![3, 256], vec![1, 2, 3, 256]] {
        let x = Datum::F32(ndarray::ArrayD::ones(shape.clone()));
        let path = save(&folder, "a.safetensors", &[("linear2", &x)]);
        let mut file = BatchFile::open("a.safetensors", &path, model.inputs(), LIMITS).unwrap();
        assert_eq!(file.count(), 1);
        let batch: Batch = file.read(0).unwrap();
        let y = float.run(&batch, &["linear2.output"]).unwrap();
        assert_eq!(y["linear2.output"].shape().last(), Some(&60), "{shape:?}");
    }
    let x = Datum::F32(ndarray::ArrayD::ones(vec![2, 255]));
    let path = save(&folder, "a.safetensors", &[("linear2", &x)]);
    let error = BatchFile::open("a.safetensors", &path, model.inputs(), LIMITS).unwrap_err();
    let wanted = "tensor 'linear2' has shape [2, 255]; input 'linear2.input' needs [.., 256]";
    assert_eq!(error.to_string(), format!("a.safetensors: {wanted}"));
}

#[test]
fn all_layers_of_rank_two_without_a_choice() {
    let onnx = to_onnx(
        "float.safetensors",
        &data("digits/float.safetensors"),
        None,
        LIMITS,
    )
    .unwrap();
    let model = Model::from_bytes("float.safetensors", onnx.into(), &[], LIMITS).unwrap();
    assert_eq!(model.inputs().len(), 14);
}

#[test]
fn what_a_capture_missed_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let tensor = |shape: &[usize]| Datum::F32(ndarray::ArrayD::ones(shape));
    let (weight, projection, norm) = (tensor(&[3, 4]), tensor(&[12, 4]), tensor(&[4]));
    let path = save(
        &folder,
        "w.safetensors",
        &[
            ("attn.in_proj_weight", &projection),
            ("attn.out_proj.weight", &weight),
            ("fc.weight", &weight),
            ("norm.weight", &norm),
        ],
    );
    let of = |layers: &[&str]| {
        let layers: Vec<String> = layers.iter().map(|&layer| layer.to_owned()).collect();
        left_out("w.safetensors", &path, &layers, LIMITS).unwrap()
    };
    let [missed, projection] = &of(&["fc"])[..] else {
        panic!("{:?}", of(&["fc"]))
    };
    let codes = (missed.code.as_str(), projection.code.as_str());
    assert_eq!(codes, ("NOT_MEASURED", "NOT_MEASURED"));
    let says = "1 of its 2 weights of rank 2 have no captured inputs and are not measured: \
                'attn.out_proj'";
    assert!(missed.message.starts_with(says), "{}", missed.message);
    let says = "save the first as 'attn.in_proj.weight'";
    assert!(projection.message.contains(says), "{}", projection.message);
    assert_eq!(of(&["fc", "attn.out_proj"]).len(), 1);
    assert!(
        left_out(
            "float.safetensors",
            &weights(),
            &["linear1", "linear2", "linear3"].map(String::from),
            LIMITS
        )
        .unwrap()
        .is_empty()
    );
}

#[test]
fn what_is_wrong_is_named() {
    let nothing = ["embedding".to_owned()];
    let error = to_onnx("float.safetensors", &weights(), Some(&nothing), LIMITS)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "float.safetensors: none of its Linear layers ('linear1', 'linear2', 'linear3') has \
         activations ('embedding')"
    );

    let folder = tempfile::tempdir().unwrap();
    let tensor = |shape: &[usize], value: f32| Datum::F32(ndarray::ArrayD::from_elem(shape, value));
    let path = save(
        &folder,
        "w.safetensors",
        &[("norm.weight", &tensor(&[4], 1.0))],
    );
    let error = to_onnx("w.safetensors", &path, None, LIMITS)
        .unwrap_err()
        .to_string();
    assert!(error.contains("no NAME.weight of rank 2"), "{error}");

    let (weight, bias) = (tensor(&[3, 4], 1.0), tensor(&[4], 1.0));
    let path = save(
        &folder,
        "w.safetensors",
        &[("a.weight", &weight), ("a.bias", &bias)],
    );
    let error = to_onnx("w.safetensors", &path, None, LIMITS)
        .unwrap_err()
        .to_string();
    let wanted = "tensor 'a.bias' has shape [4]; 'a.weight' of shape [3, 4] needs [3]";
    assert_eq!(error, format!("w.safetensors: {wanted}"));

    let path = save(
        &folder,
        "w.safetensors",
        &[("a.weight", &tensor(&[1, 2], f32::NAN))],
    );
    let error = to_onnx("w.safetensors", &path, None, LIMITS).unwrap_err();
    assert_eq!(error.code(), "NON_FINITE");
    let wanted = "w.safetensors: tensor 'a.weight' has NaN at index [0, 0]";
    assert!(error.to_string().starts_with(wanted), "{error}");
}
