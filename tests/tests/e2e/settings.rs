//! Every kind of setting arrives where it should, and changes what it should and no more.

use dual16_tests::{
    Dual16, Results,
    data::smallmodel,
    results::{layer, number},
};
use serde_json::Value;

fn quantize(settings: &[&str]) -> Results {
    let out = Results::new();
    Dual16::quantize(&smallmodel())
        .args(settings)
        .out(&out.path())
        .run()
        .success();
    out
}

#[test]
fn the_mse_observer_clips_where_minmax_does_not() {
    // At 8 bits: 16 leave so little to gain that the whole range wins. The outputs would want 16.
    let int8 = ["--template", "a8w8", "--min-output-sqnr", "0"];
    let minmax = quantize(&int8).plan();
    let mse = quantize(&[&int8[..], &["--observer", "mse"]].concat()).plan();
    assert_eq!(mse["request"]["observer"], "mse");
    for tensor in ["x", "linear1", "linear2"] {
        let scale = |plan: &Value| number(&plan["tensors"][tensor]["scale"]);
        assert!(
            scale(&mse) < scale(&minmax),
            "{tensor}: {} and {}",
            scale(&mse),
            scale(&minmax)
        );
    }
}

#[test]
fn an_observer_by_name_changes_only_its_tensor() {
    // What the outputs want may be int16, at which every observer takes the whole range.
    let int8 = ["--template", "a8w8", "--min-output-sqnr", "0"];
    let all = quantize(&int8).plan();
    let one = quantize(&[&int8[..], &["--layer-observer", "linear1=mse"]].concat()).plan();
    let scale = |plan: &Value, name: &str| number(&plan["tensors"][name]["scale"]);
    assert_ne!(scale(&one, "linear1"), scale(&all, "linear1"));
    for untouched in ["x", "linear2"] {
        assert_eq!(scale(&one, untouched), scale(&all, untouched));
    }
}

#[test]
fn the_template_sets_the_starting_way_and_dtype_of_everything() {
    let out = quantize(&[
        "--template",
        "a8w8",
        "--min-layer-sqnr",
        "-100",
        "--min-output-sqnr",
        "0",
    ]);
    let (plan, result) = (out.plan(), out.result());
    for name in ["linear1", "linear2", "linear3"] {
        assert_eq!(layer(&result, name)["effective"], "a8w8");
        assert_eq!(layer(&plan, name)["input"]["dtype"], "int8");
    }
    assert_eq!(plan["tensors"]["x"]["effective"], "int8");
    // Inside a LayerNorm everything stays int16.
    assert_eq!(plan["tensors"]["layernorm.rsqrt"]["effective"], "int16");

    let replaced = quantize(&["--template", "a8w8"]).result();
    let linear2 = layer(&replaced, "linear2");
    assert_eq!(
        (&linear2["requested"], &linear2["effective"]),
        (&"a8w8".into(), &"split".into())
    );
}

#[test]
fn a_fixed_scale_is_used_as_given_and_its_clipping_is_reported() {
    let out = quantize(&[
        "--linear",
        "linear2=mul_sum",
        "--fixed-scale",
        "linear2.mul=7/32767",
    ]);
    let (plan, result) = (out.plan(), out.result());
    let scale = number(&layer(&plan, "linear2")["inner_scales"]["mul"]);
    assert!((scale / (7.0 / 32767.0) - 1.0).abs() < 1e-6, "{scale}");
    assert!(
        number(&layer(&result, "linear2")["clip_fraction"]) > 0.0,
        "{result:#}"
    );

    let free = quantize(&["--linear", "linear2=mul_sum"]).plan();
    assert_ne!(
        scale,
        number(&layer(&free, "linear2")["inner_scales"]["mul"])
    );
}

#[test]
fn a_dtype_by_name_changes_only_its_tensor() {
    let plan = quantize(&["--dtype", "linear1=int8"]).plan();
    assert_eq!(plan["tensors"]["linear1"]["requested"], "int8");
    assert_eq!(plan["tensors"]["linear1"]["effective"], "int8");
    assert_eq!(plan["tensors"]["linear2"]["effective"], "int16");
    assert_eq!(layer(&plan, "linear1")["output"]["dtype"], "int8");
}

#[test]
fn a_glob_reaches_every_layer_and_a_later_setting_wins() {
    let result = quantize(&["--linear", "lin*=auto", "--linear", "linear3=mul_sum"]).result();
    for (name, requested) in [
        ("linear1", "auto"),
        ("linear2", "auto"),
        ("linear3", "mul_sum"),
    ] {
        let layer = layer(&result, name);
        assert_eq!(layer["requested"], requested);
        let tried = layer["isolated"].as_object().unwrap().len();
        assert_eq!(tried, if requested == "auto" { 5 } else { 1 }, "{name}");
    }
    assert_eq!(layer(&result, "linear3")["effective"], "mul_sum");
}

#[test]
fn plan_lists_the_names_that_settings_accept() {
    let plan = |more: &[&str]| {
        Dual16::new(["plan", "--names"])
            .arg(smallmodel().join("model.onnx"))
            .arg("--calib")
            .arg(smallmodel().join("calib"))
            .args(more)
            .run()
            .success()
            .stdout
    };
    let table = plan(&[]);
    let row = table.lines().find(|line| line.contains("linear2")).unwrap();
    for name in ["node_MatMul_3, node_linear_1", "val_5, linear_1"] {
        assert!(row.contains(name), "{name}: {table}");
    }
    let json: Value = serde_json::from_str(&plan(&["--output", "json"])).unwrap();
    let linear2 = &json["names"][1];
    assert_eq!(linear2["name"], "linear2");
    for list in ["nodes", "outputs"] {
        for alias in linear2[list].as_array().unwrap() {
            let alias = alias.as_str().unwrap();
            let result = quantize(&["--linear", &format!("{alias}=mul_sum")]).result();
            assert_eq!(layer(&result, "linear2")["effective"], "mul_sum", "{alias}");
        }
    }
}
