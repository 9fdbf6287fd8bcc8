//! What the graph of a model is: its layers, their names, and that it computes what the model does.

use crate::shared::{Sample, data, reference};

/// Of the f64 reference against the float run, relative to the range of each value.
const TOLERANCE: f64 = 1e-4;

#[test]
fn smallmodel_is_three_linears_relu_and_layernorm() {
    let sample = Sample::load(&data("smallmodel"));
    let wanted = [
        "linear1 Linear",
        "layernorm.input_mean.pre_mean Mean",
        "layernorm.sub Sub",
        "layernorm.mul Mul",
        "layernorm.var_mean.pre_mean Mean",
        "layernorm.rsqrt rsqrt",
        "layernorm.out_mul Mul",
        "layernorm.weight_mul Mul",
        "layernorm.bias_add Add",
        "relu Relu",
        "linear2 Linear",
        "linear3 Linear",
    ];
    assert_eq!(sample.listing(), wanted);
    assert!(reference::worst_difference(&sample) < TOLERANCE);
}

#[test]
fn values_have_names_of_nodes_parameters_and_onnx() {
    let sample = Sample::load(&data("smallmodel"));
    let named = |name: &str| {
        sample
            .graph
            .values
            .iter()
            .find(|value| value.name == name)
            .unwrap_or_else(|| panic!("{name}"))
    };
    assert_eq!(named("x").onnx.as_deref(), Some("x"));
    assert_eq!(named("linear1").onnx.as_deref(), Some("linear"));
    assert_eq!(named("layernorm").onnx.as_deref(), Some("layer_norm"));
    assert_eq!(named("layernorm.sub").onnx, None);
    assert_eq!(
        named("layernorm.weight").onnx.as_deref(),
        Some("layernorm.weight")
    );
    assert_eq!(named("linear3").onnx.as_deref(), Some("y"));
    assert_eq!(named("linear3").shape, [2, 100, 60]);
    let outputs: Vec<&str> = sample
        .graph
        .outputs
        .iter()
        .map(|&id| sample.graph.value(id).name.as_str())
        .collect();
    assert_eq!(outputs, ["linear3"]);
}

#[test]
fn digits_has_fourteen_linears_and_no_island() {
    let sample = Sample::load(&data("digits"));
    let blocks = (0..2).flat_map(|block| {
        ["q", "k", "v", "proj", "fc1", "fc2"].map(|layer| format!("blocks.{block}.{layer}"))
    });
    let mut wanted = vec!["embed".to_owned()];
    wanted.extend(blocks);
    wanted.push("head".to_owned());
    assert_eq!(sample.linear_names(), wanted);
    assert_no_island(&sample);
    assert!(reference::worst_difference(&sample) < TOLERANCE);
}

#[test]
fn functional_nodes_have_module_and_function() {
    let sample = Sample::load(&data("digits"));
    let listing = sample.listing();
    for wanted in [
        "add Add",
        "blocks.0.norm1.rsqrt rsqrt",
        "blocks.0.view Reshape",
        "blocks.0.matmul MatMul",
        "blocks.0.mul Mul",
        "blocks.0.softmax.max Max",
        "blocks.0.softmax.reciprocal reciprocal",
        "blocks.0.softmax.mul Mul",
        "blocks.1.gelu_1 gelu",
        "mean Mean",
    ] {
        assert!(
            listing.iter().any(|line| line == wanted),
            "{wanted} is not in {listing:#?}"
        );
    }
    let named = |name: &str| sample.graph.values.iter().any(|value| value.name == name);
    assert!(named("blocks.0.softmax") && named("blocks.0.norm1") && named("pos"));
}

#[test]
fn names_are_unique() {
    for folder in ["smallmodel", "digits"] {
        let graph = Sample::load(&data(folder)).graph;
        let unique = |names: Vec<&str>| {
            let mut sorted = names.clone();
            sorted.sort_unstable();
            sorted.dedup();
            sorted.len() == names.len()
        };
        assert!(unique(
            graph
                .values
                .iter()
                .map(|value| value.name.as_str())
                .collect()
        ));
        assert!(unique(
            graph.nodes.iter().map(|node| node.name.as_str()).collect()
        ));
    }
}

fn assert_no_island(sample: &Sample) {
    let islands: Vec<String> = sample
        .listing()
        .into_iter()
        .filter(|line| line.contains("island"))
        .collect();
    assert!(islands.is_empty(), "{islands:?}");
}
