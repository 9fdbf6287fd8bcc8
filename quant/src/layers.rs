//! Layer mode: named weights without a graph. Each Linear becomes a small model of its own inside
//! one ONNX model, so that everything after this works as with a real graph.

use std::{collections::HashSet, path::Path};

use ndarray::Ix2;
use prost::Message;

use crate::{
    batch::{self, SafetensorsFile},
    error::{Error, Result},
    limits::{InputLimits, listed, shown},
    model::{ElementKind, TRAILING_DIMS},
    onnx::{
        GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
        f32_initializer, f32_value, node,
    },
    report::Notice,
    tensor::{Datum, Tensor},
};

/// Version of the file format and of the operator set written.
const IR_VERSION: i64 = 8;
const OPSET: i64 = 18;

const WEIGHT: &str = ".weight";
const INPUT: &str = ".input";
/// How PyTorch's MultiheadAttention calls its first Linear, or its first three.
const PROJECTIONS: [&str; 4] = [
    "in_proj_weight",
    "q_proj_weight",
    "k_proj_weight",
    "v_proj_weight",
];

/// Layers that a file of activations has inputs for: its keys, `NAME` or `NAME.input`; sorted.
///
/// # Errors
/// As [`batch::keys`].
pub fn layers_in(name: &str, path: &Path, limits: &InputLimits) -> Result<Vec<String>> {
    let keys = batch::keys(name, path, limits)?;
    let mut layers: Vec<String> = keys
        .iter()
        .map(|key| key.strip_suffix(INPUT).unwrap_or(key).to_owned())
        .collect();
    layers.sort();
    layers.dedup();
    Ok(layers)
}

/// Encodes an ONNX model with, for each layer NAME that has a `NAME.weight` `[O, K]` and optionally
/// a `NAME.bias` `[O]`, a graph input `NAME.input` `[.., K]`, a Linear named NAME and a graph output
/// `NAME.output` `[.., O]`. `layers` narrows it to those with activations; other keys of rank 2, an
/// embedding for one, simply have none.
///
/// # Errors
/// [`Error::Batch`] for a damaged weights file, a bias that does not fit, or no layer left;
/// [`Error::NonFinite`] for a weight that is NaN or infinite; [`Error::Limit`] for a file that holds
/// more than `limits` allow. What is made of the file is held to no limit any more.
pub fn to_onnx(
    file_name: &str,
    path: &Path,
    layers: Option<&[String]>,
    limits: &InputLimits,
) -> Result<Vec<u8>> {
    let mut weights = SafetensorsFile::open(file_name, path, limits)?;
    let bad = |reason: String| Error::Batch {
        file: file_name.to_owned(),
        reason,
    };
    let linears = linear_names(&weights);
    let with_activations: Option<HashSet<&String>> = layers.map(|layers| layers.iter().collect());
    let wanted = |name: &&String| {
        let layers = with_activations.as_ref();
        layers.is_none_or(|layers| layers.contains(name))
    };
    let chosen: Vec<&String> = linears.iter().filter(wanted).collect();
    if chosen.is_empty() {
        return Err(bad(match (linears.is_empty(), layers) {
            (true, _) => "it has no NAME.weight of rank 2, so no Linear layer".to_owned(),
            (false, _) => format!(
                "none of its Linear layers ({}) has activations ({})",
                listed(&linears, "no tensor"),
                listed(layers.unwrap_or_default(), "no tensor")
            ),
        }));
    }
    let mut graph = GraphProto {
        name: "layers".to_owned(),
        ..GraphProto::default()
    };
    for name in chosen {
        add_linear(&mut graph, file_name, &mut weights, name)?;
    }
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "dual16".to_owned(),
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: OPSET,
        }],
        graph: Some(graph),
        ..ModelProto::default()
    };
    Ok(model.encode_to_vec())
}

/// What of a checkpoint is not measured beside the layers `layers` that have activations, and why:
/// a capture easily misses a layer.
///
/// # Errors
/// As [`to_onnx`].
pub fn left_out(
    file_name: &str,
    path: &Path,
    layers: &[String],
    limits: &InputLimits,
) -> Result<Vec<Notice>> {
    let weights = SafetensorsFile::open(file_name, path, limits)?;
    let notice = |message: String| Notice {
        warning: true,
        code: "NOT_MEASURED".to_owned(),
        subject: file_name.to_owned(),
        message,
    };
    let mut notices = Vec::new();
    let linears = linear_names(&weights);
    let captured: HashSet<&String> = layers.iter().collect();
    let missing = linears.iter().filter(|name| !captured.contains(name));
    let missing: Vec<String> = missing.cloned().collect();
    if !missing.is_empty() {
        notices.push(notice(format!(
            "{} of its {} weights of rank 2 have no captured inputs and are not measured: {}; a \
             Linear that is called past its hooks, as MultiheadAttention calls out_proj, needs its \
             input captured where it is made, and an embedding needs none",
            missing.len(),
            linears.len(),
            listed(&missing, "none")
        )));
    }
    let is_projection = |key: &String| {
        let name = key.rsplit('.').next().unwrap_or_default();
        PROJECTIONS.contains(&name) && is_linear(&weights, key)
    };
    let projections: Vec<String> = weights.keys().into_iter().filter(is_projection).collect();
    if let Some(first) = projections.first() {
        let renamed = first.trim_end_matches("_weight");
        notices.push(notice(format!(
            "a Linear is a NAME.weight, so these of MultiheadAttention are not measured: {}; save \
             the first as '{}.weight', its bias likewise, and capture its input as '{}'",
            listed(&projections, "none"),
            shown(renamed.as_bytes()),
            shown(renamed.as_bytes())
        )));
    }
    Ok(notices)
}

fn linear_names(weights: &SafetensorsFile) -> Vec<String> {
    let name = |key: String| key.strip_suffix(WEIGHT).map(str::to_owned);
    weights
        .keys()
        .into_iter()
        .filter(|key| is_linear(weights, key))
        .filter_map(name)
        .collect()
}

/// Whether a tensor can be the weight of a Linear.
fn is_linear(weights: &SafetensorsFile, key: &str) -> bool {
    let shape = weights.shape(key);
    shape.is_some_and(|shape| shape.len() == 2 && !shape.contains(&0)) && weights.is_float(key)
}

fn add_linear(
    graph: &mut GraphProto,
    file: &str,
    weights: &mut SafetensorsFile,
    name: &str,
) -> Result<()> {
    let bad = |reason: String| Error::Batch {
        file: file.to_owned(),
        reason,
    };
    let weight_name = format!("{name}{WEIGHT}");
    let weight = read(weights, file, &weight_name)?
        .into_dimensionality::<Ix2>()
        .map_err(|_| bad(format!("tensor '{weight_name}' is not of rank 2")))?;
    let (rows, columns) = weight.dim();

    let bias_name = format!("{name}.bias");
    let bias = match weights.shape(&bias_name) {
        None => None,
        Some(shape) if shape == [rows] => Some(read(weights, file, &bias_name)?),
        Some(shape) => {
            return Err(bad(format!(
                "tensor '{bias_name}' has shape {shape:?}; '{weight_name}' of shape \
                 [{rows}, {columns}] needs [{rows}]"
            )));
        }
    };

    let (input, output) = (format!("{name}{INPUT}"), format!("{name}.output"));
    let transposed = format!("{weight_name}/transposed");
    graph
        .initializer
        .push(f32_initializer(&transposed, weight.t().into_dyn()));
    match &bias {
        None => graph.node.push(scoped(
            node("MatMul", &[&input, &transposed], &[&output]),
            name,
        )),
        Some(bias) => {
            let product = format!("{name}.product");
            graph
                .initializer
                .push(f32_initializer(&bias_name, bias.view()));
            graph.node.push(scoped(
                node("MatMul", &[&input, &transposed], &[&product]),
                name,
            ));
            graph.node.push(scoped(
                node("Add", &[&product, &bias_name], &[&output]),
                name,
            ));
        }
    }
    let mut input = f32_value(&input, None);
    input.metadata_props.push(StringStringEntryProto {
        key: TRAILING_DIMS.to_owned(),
        value: columns.to_string(),
    });
    graph.input.push(input);
    graph.output.push(f32_value(&output, None));
    Ok(())
}

fn read(weights: &mut SafetensorsFile, file: &str, key: &str) -> Result<Tensor> {
    let datum = weights.read(key, ElementKind::F32, None)?;
    batch::check_finite(file, key, &datum, None, |_| false)?;
    match datum {
        Datum::F32(tensor) => Ok(tensor),
        _ => Err(Error::Batch {
            file: file.to_owned(),
            reason: format!("tensor '{key}' holds no floats"),
        }),
    }
}

/// Notes the module, as PyTorch's exporter does: a Python list of the root, the module, the function.
fn scoped(mut node: NodeProto, module: &str) -> NodeProto {
    let quoted = module.replace('\\', r"\\").replace('\'', r"\'");
    node.metadata_props.push(StringStringEntryProto {
        key: crate::model::NAME_SCOPES.to_owned(),
        value: format!("['', '{quoted}', 'linear']"),
    });
    node
}
