//! Gelu, silu, LayerNorm and Softmax in every way that exporters write them, recognised and computed
//! again.

use crate::shared::{
    Sample,
    made::{self, Made},
    operators::{TOLERANCE, operators, sample, x},
    reference,
};

#[test]
fn exact_gelu_in_every_association() {
    let constants = |made: Made| {
        made.scalar("half", 0.5)
            .scalar("one", 1.0)
            .scalar("root2", std::f32::consts::SQRT_2)
            .scalar("inverse", std::f32::consts::FRAC_1_SQRT_2)
    };
    let erf = |made: Made| {
        made.node("Div", &["x", "root2"], &["u"])
            .node("Erf", &["u"], &["e"])
            .node("Add", &["e", "one"], &["s"])
    };
    let erf_by_product = |made: Made| {
        made.node("Mul", &["inverse", "x"], &["u"])
            .node("Erf", &["u"], &["e"])
            .node("Add", &["one", "e"], &["s"])
    };
    let forms = [
        erf(constants(x()))
            .node("Mul", &["half", "s"], &["h"])
            .node("Mul", &["x", "h"], &["y"]),
        erf(constants(x()))
            .node("Mul", &["x", "s"], &["h"])
            .node("Mul", &["h", "half"], &["y"]),
        erf(constants(x()))
            .node("Mul", &["x", "half"], &["h"])
            .node("Mul", &["h", "s"], &["y"]),
        erf_by_product(constants(x()))
            .node("Mul", &["s", "x"], &["h"])
            .node("Mul", &["half", "h"], &["y"]),
        erf_by_product(constants(x()))
            .node("Mul", &["half", "x"], &["h"])
            .node("Mul", &["s", "h"], &["y"]),
        erf(constants(x()).scalar("two", 2.0))
            .node("Div", &["x", "two"], &["h"])
            .node("Mul", &["s", "h"], &["y"]),
    ];
    for form in forms {
        assert_eq!(operators(form), ["gelu"]);
    }
}

#[test]
fn gelu_of_a_product() {
    let made = x()
        .scalar("three", 3.0)
        .scalar("half", 0.5)
        .scalar("one", 1.0)
        .scalar("root2", std::f32::consts::SQRT_2)
        .node("Mul", &["x", "three"], &["p"])
        .node("Div", &["p", "root2"], &["u"])
        .node("Erf", &["u"], &["e"])
        .node("Add", &["e", "one"], &["s"])
        .node("Mul", &["p", "s"], &["h"])
        .node("Mul", &["h", "half"], &["y"]);
    assert_eq!(operators(made), ["Mul", "gelu"]);
}

#[test]
fn what_only_looks_like_gelu_is_none() {
    let made = x()
        .scalar("third", 0.333)
        .scalar("one", 1.0)
        .scalar("root2", std::f32::consts::SQRT_2)
        .node("Div", &["x", "root2"], &["u"])
        .node("Erf", &["u"], &["e"])
        .node("Add", &["e", "one"], &["s"])
        .node("Mul", &["x", "s"], &["h"])
        .node("Mul", &["h", "third"], &["y"]);
    assert_eq!(operators(made), ["Mul", "erf", "Add", "Mul", "Mul"]);
}

#[test]
fn tanh_gelu_by_pow_and_by_products() {
    let start = || {
        x().scalar("half", 0.5)
            .scalar("one", 1.0)
            .scalar("three", 3.0)
            .scalar("cube", 0.044_715)
            .scalar("root", (2.0 / std::f32::consts::PI).sqrt())
    };
    let by_pow = start()
        .node("Pow", &["x", "three"], &["x3"])
        .node("Mul", &["cube", "x3"], &["c"]);
    let by_products = start()
        .node("Mul", &["x", "x"], &["x2"])
        .node("Mul", &["x2", "x"], &["x3"])
        .node("Mul", &["x3", "cube"], &["c"]);
    for made in [by_pow, by_products] {
        let made = made
            .node("Add", &["x", "c"], &["a"])
            .node("Mul", &["root", "a"], &["v"])
            .node("Tanh", &["v"], &["t"])
            .node("Add", &["one", "t"], &["s"])
            .node("Mul", &["half", "x"], &["h"])
            .node("Mul", &["h", "s"], &["y"]);
        assert_eq!(operators(made), ["gelu_tanh"]);
    }
}

#[test]
fn functions_of_one_variable() {
    let table = [
        ("Sigmoid", "sigmoid"),
        ("Tanh", "tanh"),
        ("Exp", "exp"),
        ("Erf", "erf"),
    ];
    for (op, name) in table {
        assert_eq!(operators(x().node(op, &["x"], &["y"])), [name]);
    }
    // These need a positive argument.
    for (op, name) in [
        ("Sqrt", "sqrt"),
        ("Log", "log"),
        ("Reciprocal", "reciprocal"),
    ] {
        let made = x().node("Exp", &["x"], &["p"]).node(op, &["p"], &["y"]);
        assert_eq!(operators(made), ["exp", name]);
    }
    let silu = x()
        .node("Sigmoid", &["x"], &["g"])
        .node("Mul", &["g", "x"], &["y"]);
    assert_eq!(operators(silu), ["silu"]);
    assert_eq!(
        operators(x().opset(20).node("Gelu", &["x"], &["y"])),
        ["gelu"]
    );
    let by_tanh = x()
        .opset(20)
        .node("Gelu", &["x"], &["y"])
        .text("approximate", "tanh");
    assert_eq!(operators(by_tanh), ["gelu_tanh"]);
}

#[test]
fn axes_of_a_mean_that_are_named_more_than_once_are_one() {
    // Three axes of two, were each counted: that is no range of the last ones, nor a panic.
    let made = Made::new(&[2, 4])
        .scalar("c", 2.0)
        .indices("axes", &[1, 1, 1])
        .node("ReduceMean", &["x", "axes"], &["m"])
        .node("Sub", &["x", "m"], &["d"])
        .node("Div", &["d", "c"], &["y"]);
    let thrice = Sample::new(made.model(), made::batch(&[2, 4]));
    assert!(reference::worst_difference(&thrice) < TOLERANCE);
    assert_eq!(thrice.listing().len(), 3);

    let norm = x()
        .scalar("eps", 1e-5)
        .indices("axes", &[2, -1])
        .indices("again", &[-1, 2, -1])
        .node("ReduceMean", &["x", "axes"], &["m"])
        .node("Sub", &["x", "m"], &["d"])
        .node("Mul", &["d", "d"], &["d2"])
        .node("ReduceMean", &["d2", "again"], &["v"])
        .node("Add", &["v", "eps"], &["ve"])
        .node("Sqrt", &["ve"], &["s"])
        .node("Div", &["d", "s"], &["y"])
        .scope("norm", "layer_norm");
    let sample = sample(norm);
    assert!(reference::worst_difference(&sample) < TOLERANCE);
    assert_eq!(sample.listing()[0], "norm.input_mean.pre_mean Mean");
}

#[test]
fn layer_norm_as_older_exports_write_it() {
    let norm = |square: &str| {
        let made = x()
            .scalar("two", 2.0)
            .scalar("eps", 1e-5)
            .constant("weight", &[4], &[1.0, 2.0, 0.5, -1.0])
            .constant("bias", &[4], &[0.0, 1.0, -1.0, 0.5])
            .indices("axes", &[-1])
            .node("ReduceMean", &["x", "axes"], &["m"])
            .node("Sub", &["x", "m"], &["d"]);
        let made = match square {
            "Pow" => made.node("Pow", &["d", "two"], &["d2"]),
            _ => made.node("Mul", &["d", "d"], &["d2"]),
        };
        made.node("ReduceMean", &["d2", "axes"], &["v"])
            .node("Add", &["v", "eps"], &["ve"])
            .node("Sqrt", &["ve"], &["s"])
            .node("Div", &["d", "s"], &["n"])
            .node("Mul", &["n", "weight"], &["w"])
            .node("Add", &["w", "bias"], &["y"])
            .scope("norm", "layer_norm")
    };
    for square in ["Pow", "Mul"] {
        let sample = sample(norm(square));
        assert!(reference::worst_difference(&sample) < TOLERANCE);
        let listing = sample.listing();
        assert_eq!(listing.len(), 8);
        assert_eq!(listing[0], "norm.input_mean.pre_mean Mean");
        assert_eq!(listing[7], "norm.bias_add Add");
    }
}

#[test]
fn layer_norm_without_bias_and_over_two_axes() {
    let weight: Vec<f32> = (0..12).map(|i| 0.1 * i as f32).collect();
    let made = x()
        .constant("weight", &[3, 4], &weight)
        .node("LayerNormalization", &["x", "weight"], &["y"])
        .int("axis", 1)
        .scope("norm", "layer_norm");
    let sample = sample(made);
    assert!(reference::worst_difference(&sample) < TOLERANCE);
    assert_eq!(sample.listing().last().unwrap(), "norm.weight_mul Mul");
    assert_eq!(sample.graph.value(sample.graph.outputs[0]).name, "norm");
}

#[test]
fn softmax_along_any_axis() {
    for axis in [-1, 0, 1] {
        let made = x().node("Softmax", &["x"], &["y"]).int("axis", axis);
        assert_eq!(
            operators(made),
            ["Max", "Sub", "exp", "Sum", "reciprocal", "Mul"]
        );
    }
}
