//! Small attention models that mask in whatever way exporters write it, and jobs on them.

use std::{collections::BTreeMap, path::Path};

use dual16_quant::{
    onnx::{
        AttributeProto, AttributeType, DataType, TensorProto, TensorShapeProto, TensorTypeProto,
        TypeProto, ValueInfoProto,
    },
    settings::Settings,
};
use safetensors::{Dtype, serialize_to_file, tensor::TensorView};

use crate::{
    made::Made,
    support::{Finished, job, run},
};

/// Sequences in a batch, their length, and their width.
pub const SHAPE: [usize; 3] = [2, 6, 16];

/// Which keys each query may see, a row a query.
pub type Seen = [[bool; SHAPE[1]]; SHAPE[1]];

/// Numbers as a hash scatters them, in [-1, 1).
pub fn scatter(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// x times a constant matrix.
pub fn linear(made: Made, x: &str, name: &str, [k, o]: [usize; 2]) -> Made {
    let seed = name.bytes().map(u64::from).sum();
    let weights: Vec<f32> = scatter(k * o, seed).iter().map(|w| 0.5 * w).collect();
    let weight = format!("{name}.w");
    made.constant(&weight, &[k, o], &weights)
        .node("MatMul", &[x, &weight], &[name])
}

/// Scores "s", of queries and keys that are made from `keys`; the values are "v".
pub fn scores(keys: &str, made: Made) -> Made {
    let square = [SHAPE[2], SHAPE[2]];
    let made = linear(made, "x", "q", square);
    let made = linear(made, keys, "k", square);
    linear(made, keys, "v", square)
        .node("Transpose", &["k"], &["kt"])
        .ints("perm", &[0, 2, 1])
        .node("MatMul", &["q", "kt"], &["s0"])
        .scalar("scaling", 0.25)
        .node("Mul", &["s0", "scaling"], &["s"])
}

/// From masked scores "ms" to "y".
pub fn attend(made: Made) -> Made {
    weigh(made.node("Softmax", &["ms"], &["p"]), "p")
}

/// From weights of the values to "y".
pub fn weigh(made: Made, weights: &str) -> Made {
    let made = made.node("MatMul", &[weights, "v"], &["o"]);
    linear(made, "o", "y", [SHAPE[2], SHAPE[2]])
}

/// A constant that is `masked` where a key is not seen.
pub fn mask(made: Made, seen: &Seen, masked: f32) -> Made {
    let of = |&seen: &bool| if seen { 0.0 } else { masked };
    let values: Vec<f32> = seen.iter().flatten().map(of).collect();
    made.constant("m", &[SHAPE[1]; 2], &values)
}

/// A BOOL constant "seen".
pub fn seen(mut made: Made, seen: &Seen) -> Made {
    let raw: Vec<u8> = seen.iter().flatten().map(|&seen| seen.into()).collect();
    made.graph.initializer.push(TensorProto {
        name: "seen".to_owned(),
        dims: vec![SHAPE[1] as i64; 2],
        data_type: DataType::Bool.into(),
        raw_data: Some(raw.into()),
        ..TensorProto::default()
    });
    made
}

/// Declares another input, of static shape.
pub fn input(mut made: Made, name: &str, data_type: DataType, shape: &[usize]) -> Made {
    let dim = |&length: &usize| dual16_quant::onnx::Dimension {
        dim_value: Some(length as i64),
        dim_param: None,
    };
    made.graph.input.push(ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto {
            tensor_type: Some(TensorTypeProto {
                elem_type: data_type.into(),
                shape: Some(TensorShapeProto {
                    dim: shape.iter().map(dim).collect(),
                }),
            }),
        }),
        metadata_props: Vec::new(),
    });
    made
}

/// Adds a Cast to FLOAT.
pub fn to_float(made: Made, from: &str, to: &str) -> Made {
    made.node("Cast", &[from], &[to]).int("to", 1)
}

/// Adds an attribute of the last node that is a tensor with one FLOAT.
pub fn float_value(mut made: Made, value: f32) -> Made {
    let tensor = dual16_quant::onnx::f32_initializer("", ndarray::arr1(&[value]).view().into_dyn());
    let attribute = AttributeProto {
        name: "value".to_owned(),
        r#type: AttributeType::Tensor.into(),
        t: Some(tensor),
        ..AttributeProto::default()
    };
    if let Some(node) = made.graph.node.last_mut() {
        node.attribute.push(attribute);
    }
    made
}

/// Other inputs of a batch.
pub enum Extra {
    F32(Vec<usize>, Vec<f32>),
    I64(Vec<usize>, Vec<i64>),
}

/// Inputs beside x of each of three batches.
pub type Extras<'a> = &'a dyn Fn(usize) -> Vec<(&'a str, Extra)>;

/// Runs a model on three batches of `x`.
pub fn quantize(made: Made, settings: Settings, extras: Extras<'_>) -> Finished {
    calibrated_on(3, made, settings, extras)
}

/// Calibrates on the first of the three batches, measures on the others.
pub fn calibrated_on(first: usize, made: Made, settings: Settings, extras: Extras<'_>) -> Finished {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::write(path.join("model.onnx"), made.encode()).unwrap();
    std::fs::create_dir(path.join("calib")).unwrap();
    for batch in 0..3 {
        let x: Vec<f32> = scatter(SHAPE.iter().product(), 77 + batch as u64)
            .iter()
            .map(|x| 2.0 * x)
            .collect();
        let mut tensors = vec![("x", Extra::F32(SHAPE.to_vec(), x))];
        tensors.extend(extras(batch));
        write(&path.join(format!("calib/{batch:03}.safetensors")), tensors);
    }
    let mut job = job(path.to_str().unwrap(), settings);
    job.evaluation = job.calibration.split_off(first);
    run(&job).unwrap()
}

fn write(path: &Path, tensors: Vec<(&str, Extra)>) {
    let encoded: Vec<(&str, Dtype, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(name, extra)| match extra {
            Extra::F32(shape, values) => {
                let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                (name, Dtype::F32, shape, bytes)
            }
            Extra::I64(shape, values) => {
                let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                (name, Dtype::I64, shape, bytes)
            }
        })
        .collect();
    let views: BTreeMap<&str, TensorView<'_>> = encoded
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            let view = TensorView::new(*dtype, shape.clone(), bytes).unwrap();
            (*name, view)
        })
        .collect();
    serialize_to_file(views, None, path).unwrap();
}

/// SQNR of the one output in both runs.
pub fn sqnr(finished: &Finished) -> [f64; 2] {
    let output = &finished.result()["outputs"][0];
    ["validation", "converted"].map(|run| {
        let figure = &output[run]["sqnr_db"];
        figure.as_f64().unwrap_or_else(|| panic!("{output:#}"))
    })
}
