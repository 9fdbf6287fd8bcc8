//! What layers are called in files of both of PyTorch's exporters, and what settings find by it.

use crate::shared::{
    Sample,
    made::{self, Made},
};
use dual16_nash::{dtype::IntDtype, ways::Way};
use dual16_quant::{
    Error, Result,
    plan::Request,
    report::Notice,
    settings::{NamedSetting, SettingValue, Settings, WayChoice},
};

const SPLIT: SettingValue = SettingValue::Way(WayChoice::Fixed(Way::Split));

fn sample(made: Made) -> Sample {
    Sample::new(made.model(), made::batch(&[3, 4]))
}

/// A chain of square Linears from x to y.
struct Chain {
    made: Made,
    value: String,
    count: usize,
}

impl Chain {
    fn new() -> Chain {
        Chain {
            made: Made::new(&[3, 4]),
            value: "x".to_owned(),
            count: 0,
        }
    }

    fn constant(mut self, name: &str, shape: &[usize]) -> Chain {
        let count = shape.iter().product::<usize>();
        let values: Vec<f32> = (0..count).map(|i| (1.3 * i as f32).sin()).collect();
        self.made = self.made.constant(name, shape, &values);
        self
    }

    /// A node on the last value and another, edited by `edit`.
    fn then(mut self, op: &str, other: &[&str], edit: impl FnOnce(Made) -> Made) -> Chain {
        self.count += 1;
        let made = format!("v{}", self.count);
        let inputs: Vec<&str> = std::iter::once(self.value.as_str())
            .chain(other.iter().copied())
            .collect();
        self.made = edit(self.made.node(op, &inputs, &[&made]));
        self.value = made;
        self
    }

    /// A node as TorchScript's exporter names it.
    fn legacy(self, name: &str, op: &str, other: &[&str]) -> Chain {
        self.then(op, other, |made| made.named(name))
    }

    /// A node as the newer exporter describes it.
    fn dynamo(self, module: &str, function: &str, op: &str, other: &[&str]) -> Chain {
        self.then(op, other, |made| made.scope(module, function))
    }

    fn sample(self) -> Sample {
        let last = self.value.clone();
        sample(self.made.node("Identity", &[&last], &["y"]))
    }
}

fn resolve(sample: &Sample, by_name: &[(&str, SettingValue)]) -> Result<Request> {
    let named = |(name, value): &(&str, SettingValue)| NamedSetting {
        name: (*name).to_owned(),
        value: value.clone(),
    };
    let settings = Settings {
        by_name: by_name.iter().map(named).collect(),
        ..Settings::default()
    };
    Request::resolve(&sample.graph, &settings, false)
}

/// Names of the Linears that a name or glob sets, and what is said of it.
fn reached(sample: &Sample, name: &str) -> (Vec<String>, Vec<Notice>) {
    let request = resolve(sample, &[(name, SPLIT)]).unwrap();
    let set = request.linears.iter().filter(|(_, linear)| linear.explicit);
    let names = set.map(|(&id, _)| sample.graph.nodes[id].name.clone());
    (names.collect(), request.notices)
}

/// A Linear of each kind that TorchScript's exporter writes.
fn legacy() -> Sample {
    Chain::new()
        .constant("onnx::MatMul_10", &[4, 4])
        .constant("blocks.0.fc1.bias", &[4])
        .constant("blocks.0.attn.out_proj.weight", &[4, 4])
        .constant("blocks.0.attn.in_proj_bias", &[4])
        .legacy("/blocks.0/attn/MatMul", "MatMul", &["onnx::MatMul_10"])
        .legacy("/blocks.0/attn/Add", "Add", &["blocks.0.attn.in_proj_bias"])
        .legacy("/blocks.0/attn/Softmax", "Softmax", &[])
        .legacy(
            "/blocks.0/attn/Gemm",
            "Gemm",
            &["blocks.0.attn.out_proj.weight"],
        )
        .legacy("/blocks.0/fc1/MatMul", "MatMul", &["onnx::MatMul_10"])
        .legacy("/blocks.0/fc1/Add", "Add", &["blocks.0.fc1.bias"])
        .legacy("/blocks.0/act/Relu", "Relu", &[])
        .legacy(
            "/blocks/blocks.1/fc1/MatMul",
            "MatMul",
            &["onnx::MatMul_10"],
        )
        .legacy("/head/MatMul", "MatMul", &["onnx::MatMul_10"])
        .legacy("/head/Relu", "Relu", &[])
        .sample()
}

#[test]
fn torchscript_names_nodes_by_module() {
    let sample = legacy();
    let wanted = [
        "blocks.0.attn.in_proj",
        "blocks.0.attn.out_proj",
        "blocks.0.fc1",
        "blocks.1.fc1",
        // The module does more than this.
        "/head/MatMul",
    ];
    assert_eq!(sample.linear_names(), wanted);
    let modules: Vec<&str> = sample
        .graph
        .linears()
        .map(|(_, node, _)| node.names.module.as_str())
        .collect();
    assert_eq!(
        modules,
        [
            "blocks.0.attn",
            "blocks.0.attn.out_proj",
            "blocks.0.fc1",
            "blocks.1.fc1",
            "head"
        ]
    );
}

#[test]
fn every_alias_of_a_layer_finds_it_and_nothing_else() {
    let sample = legacy();
    for alias in [
        "blocks.0.fc1",
        "/blocks.0/fc1/MatMul",
        "/blocks.0/fc1/Add",
        "v5",
        "v6",
        "/blocks.0/fc1/*",
    ] {
        let (names, notices) = reached(&sample, alias);
        assert_eq!(names, ["blocks.0.fc1"], "{alias}");
        assert_eq!(notices, [], "{alias}");
    }
    let (names, _) = reached(&sample, "blocks.*.fc1");
    assert_eq!(names, ["blocks.0.fc1", "blocks.1.fc1"]);

    let tensors = [
        ("/blocks.0/fc1/MatMul", SettingValue::Dtype(IntDtype::Int8)),
        ("v6.mul", SettingValue::FixedScale(0.5)),
        ("blocks.0.act", SettingValue::Dtype(IntDtype::Int8)),
    ];
    let request = resolve(&sample, &tensors).unwrap();
    let explicit = request.values.iter().zip(&sample.graph.values);
    let explicit: Vec<&str> = explicit
        .filter(|(request, _)| request.explicit)
        .map(|(_, value)| value.name.as_str())
        .collect();
    assert_eq!(explicit, ["blocks.0.fc1", "/blocks.0/act/Relu"]);
    assert_eq!(request.slots.len(), 1);
}

#[test]
fn functional_calls_are_named_by_their_parameters() {
    let attention = |chain: Chain, block: usize, linear: usize| {
        let attn = format!("blocks.{block}.attn");
        let (first, second) = (format!("linear_{linear}"), format!("linear_{}", linear + 1));
        chain
            .constant(&format!("{attn}.in_proj_weight"), &[4, 4])
            .constant(&format!("{attn}.out_proj.bias"), &[4])
            .dynamo(&attn, &first, "Gemm", &[&format!("{attn}.in_proj_weight")])
            .dynamo(&attn, "softmax", "Softmax", &[])
            .dynamo(&attn, &second, "MatMul", &["val_0"])
            .dynamo(&attn, &second, "Add", &[&format!("{attn}.out_proj.bias")])
    };
    let chain = attention(Chain::new().constant("val_0", &[4, 4]), 0, 0);
    let sample = attention(chain, 1, 2).sample();
    let wanted = [
        "blocks.0.attn.in_proj",
        "blocks.0.attn.out_proj",
        "blocks.1.attn.in_proj",
        "blocks.1.attn.out_proj",
    ];
    assert_eq!(sample.linear_names(), wanted);
    // The names by running numbers go on working, and say where they stop.
    assert_eq!(reached(&sample, "blocks.1.attn.linear_3").0, wanted[3..]);
    let (names, notices) = reached(&sample, "blocks.*.attn.linear_1");
    assert_eq!(names, wanted[1..2]);
    assert_eq!(notices[0].code, "GLOB_PARTIAL");
    assert_eq!(notices[0].subject, "blocks.*.attn.linear_1");
    assert!(notices[0].message.contains("blocks.1.attn"), "{notices:?}");
    assert_eq!(reached(&sample, "blocks.*.attn.out_proj").1, []);
}

#[test]
fn a_parameter_is_followed_through_what_is_folded() {
    let sample = Chain::new()
        .constant("attn.in_proj_weight", &[12, 4])
        .constant("fc.weight", &[2, 8])
        .constant("fold.weight/transposed", &[4, 4])
        .constant("half", &[])
        .part("q", 0)
        .part("k", 4)
        .folded("Reshape", &["fc.weight", "four"], "fc_square")
        .folded("Mul", &["half", "fc_square"], "fc_half")
        .dynamo("attn", "linear", "MatMul", &["q"])
        .dynamo("attn", "linear_1", "MatMul", &["k"])
        .dynamo("", "linear_2", "MatMul", &["fc_half"])
        .dynamo("", "linear_3", "MatMul", &["fold.weight/transposed"])
        .sample();
    let wanted = ["attn.in_proj.0", "attn.in_proj.1", "fc", "fold"];
    assert_eq!(sample.linear_names(), wanted);
}

impl Chain {
    /// A constant made of others.
    fn folded(mut self, op: &str, inputs: &[&str], output: &str) -> Chain {
        self.made = self.made.node(op, inputs, &[output]);
        self
    }

    /// Four rows of the projection, as `[K, O]`.
    fn part(mut self, name: &str, start: i64) -> Chain {
        let (from, to, rows) = (
            format!("{name}_from"),
            format!("{name}_to"),
            format!("{name}_rows"),
        );
        self.made = self
            .made
            .indices(&from, &[start])
            .indices(&to, &[start + 4]);
        if start == 0 {
            self.made = self.made.indices("four", &[4, 4]).indices("rows", &[0]);
        }
        self.folded("Slice", &["attn.in_proj_weight", &from, &to, "rows"], &rows)
            .folded("Transpose", &[&rows], name)
    }
}

#[test]
fn a_shared_parameter_names_only_the_module_that_has_it() {
    let sample = Chain::new()
        .constant("embed.word.weight", &[4, 4])
        .constant("fc.weight", &[4, 4])
        .dynamo("head", "linear", "MatMul", &["embed.word.weight"])
        .dynamo("fc", "linear_1", "MatMul", &["fc.weight"])
        .dynamo("fc", "linear_2", "MatMul", &["fc.weight"])
        .sample();
    assert_eq!(
        sample.linear_names(),
        ["head", "fc.linear_1", "fc.linear_2"]
    );
    // A module that is called twice is both calls.
    assert_eq!(reached(&sample, "fc").0, ["fc.linear_1", "fc.linear_2"]);

    let sample = Chain::new()
        .constant("fc.weight", &[4, 4])
        .legacy("/fc/Gemm", "Gemm", &["fc.weight"])
        .legacy("/act/Relu", "Relu", &[])
        .legacy("/fc_1/Gemm", "Gemm", &["fc.weight"])
        .sample();
    assert_eq!(sample.linear_names(), ["/fc/Gemm", "/fc_1/Gemm"]);
    assert_eq!(reached(&sample, "fc").0, ["/fc/Gemm", "/fc_1/Gemm"]);
}

#[test]
fn names_of_other_exporters_stay() {
    let name = "StatefulPartitionedCall/model/dense/MatMul";
    let sample = Chain::new()
        .constant("StatefulPartitionedCall/model/dense/kernel:0", &[4, 4])
        .constant("fc.weight", &[4, 4])
        .legacy(
            name,
            "MatMul",
            &["StatefulPartitionedCall/model/dense/kernel:0"],
        )
        .legacy("Gemm_7", "Gemm", &["fc.weight"])
        .sample();
    assert_eq!(sample.linear_names(), [name, "fc"]);
}

#[test]
fn a_name_wins_over_its_reading_as_a_glob() {
    let sample = Chain::new()
        .constant("w", &[4, 4])
        .legacy("fc[0]", "MatMul", &["w"])
        .legacy("fc0", "MatMul", &["w"])
        .legacy("fc[1", "MatMul", &["w"])
        .sample();
    for (name, wanted) in [
        ("fc[0]", vec!["fc[0]"]),
        ("fc[1", vec!["fc[1"]),
        ("fc[0-9]", vec!["fc0"]),
        ("fc*", vec!["fc[0]", "fc0", "fc[1"]),
    ] {
        assert_eq!(reached(&sample, name).0, wanted, "{name}");
    }
    let scale = [("fc[0].mul", SettingValue::FixedScale(0.5))];
    assert_eq!(resolve(&sample, &scale).unwrap().slots.len(), 1);
    let error = resolve(&sample, &[("fc[2", SPLIT)])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("fc[2") && error.contains("no valid glob"),
        "{error}"
    );
}

#[test]
fn a_name_wins_over_the_alias_of_another() {
    // The exporter's numbers are names of others' modules.
    let sample = Chain::new()
        .constant("w", &[4, 4])
        .legacy("v2", "MatMul", &["w"])
        .legacy("b", "MatMul", &["w"])
        .legacy("v4", "MatMul", &["w"])
        .sample();
    assert_eq!(sample.linear_names(), ["v2", "b", "v4"]);
    assert_eq!(reached(&sample, "v2").0, ["v2"]);
    assert_eq!(reached(&sample, "v3").0, ["v4"]);
    assert_eq!(reached(&sample, "v*").0, ["v2", "v4"]);
}

#[test]
fn an_unknown_name_is_told_the_nearest_of_all() {
    let sample = legacy();
    for (name, near) in [
        ("blocks.1.fc2", "blocks.1.fc1"),
        (
            "/blocks.0/fc1/MatMull",
            "/blocks.0/fc1/MatMul (blocks.0.fc1)",
        ),
    ] {
        let error = resolve(&sample, &[(name, SPLIT)]).unwrap_err();
        assert!(matches!(error, Error::UnknownName { .. }));
        assert!(error.to_string().contains(near), "{error}");
    }
}
