//! Each operation and each way of writing it, lowered from a model made by hand and computed again.

use crate::shared::{
    Sample,
    made::{self, Made},
    operators::{SHAPE, TOLERANCE, operators, sample, x},
    reference,
};

#[test]
fn linear_forms() {
    let weight: Vec<f32> = (0..8).map(|i| 0.3 * i as f32 - 1.0).collect();
    let product = || {
        x().constant("w", &[4, 2], &weight)
            .constant("b", &[2], &[1.0, -2.0])
    };
    let plain = product().node("MatMul", &["x", "w"], &["y"]);
    assert_eq!(operators(plain), ["Linear"]);
    for (a, b) in [("p", "b"), ("b", "p")] {
        let made = product()
            .node("MatMul", &["x", "w"], &["p"])
            .node("Add", &[a, b], &["y"]);
        let sample = sample(made);
        assert!(reference::worst_difference(&sample) < TOLERANCE);
        // Without metadata the MatMul's own name.
        assert_eq!(sample.linear_names(), ["node_p"]);
        assert!(sample.graph.linears().next().unwrap().2.bias.is_some());
    }
    // The product is used twice, so it stays a value and the Add a node.
    let shared = product()
        .node("MatMul", &["x", "w"], &["p"])
        .node("Add", &["p", "b"], &["q"])
        .node("Mul", &["p", "q"], &["y"]);
    assert_eq!(operators(shared), ["Linear", "Add", "Mul"]);
    // A bias for each row is none.
    let rows = product()
        .constant("r", &[3, 1], &[1.0, 2.0, 3.0])
        .node("MatMul", &["x", "w"], &["p"])
        .node("Add", &["p", "r"], &["y"]);
    assert_eq!(operators(rows), ["Linear", "Add"]);
    let left = x()
        .constant("w", &[2, 3], &weight[..6])
        .node("MatMul", &["w", "x"], &["y"]);
    assert_eq!(operators(left), ["Transpose", "Linear", "Transpose"]);
}

/// Weights as exporters write them: with dimensions of one, behind nodes that move their elements, in an Einsum.
#[test]
fn a_matrix_in_any_form_is_a_linear() {
    let weight: Vec<f32> = (0..8).map(|i| 0.3 * i as f32 - 1.0).collect();
    let rows: Vec<f32> = (0..6).map(|i| 0.4 * i as f32 - 1.0).collect();
    let of = |shape: &[usize]| x().constant("w", shape, &weight);
    let moved = |op: &str, shape: &[usize], to: &[i64]| {
        of(shape).indices("to", to).node(op, &["w", "to"], &["v"])
    };
    let einsum = |equation: &str| {
        of(&[4, 2])
            .node("Einsum", &["x", "w"], &["y"])
            .text("equation", equation)
    };
    let product = |made: Made| made.node("MatMul", &["x", "v"], &["y"]);
    let forms = [
        of(&[1, 4, 2]).node("MatMul", &["x", "w"], &["y"]),
        of(&[1, 1, 1, 4, 2]).node("MatMul", &["x", "w"], &["y"]),
        product(moved("Unsqueeze", &[4, 2], &[0])),
        product(moved("Reshape", &[8], &[1, 1, 1, 4, -1])),
        product(moved("Squeeze", &[1, 4, 2], &[0])),
        x().constant("w", &[3, 2], &rows)
            .node("Transpose", &["w"], &["v"])
            .ints("perm", &[1, 0])
            .node("MatMul", &["v", "x"], &["y"]),
        x().constant("w", &[1, 1, 1, 2, 3], &rows)
            .node("MatMul", &["w", "x"], &["y"]),
        einsum("...h,hd->...d"),
        einsum("bah,hd"),
        einsum("bah,hd->bd"),
    ];
    for (number, made) in forms.into_iter().enumerate() {
        let operators = operators(made);
        let linears = operators.iter().filter(|name| name.as_str() == "Linear");
        assert_eq!(linears.count(), 1, "{number}: {operators:?}");
    }
}

#[test]
fn a_norm_of_channels_is_done_by_the_product_before_it() {
    let normalized = |made: Made, of: &str| {
        made.constant("scale", &[2], &[0.5, -3.0])
            .constant("shift", &[2], &[1.0, 0.25])
            .constant("mean", &[2], &[-0.5, 2.0])
            .constant("variance", &[2], &[4.0, 0.1])
            .node(
                "BatchNormalization",
                &[of, "scale", "shift", "mean", "variance"],
                &["y"],
            )
            .float("epsilon", 0.01)
    };
    let product = |shape: &[usize], width: usize| {
        let weight: Vec<f32> = (0..4 * width).map(|i| 0.3 * i as f32 - 1.0).collect();
        Made::new(shape)
            .constant("w", &[4, width], &weight)
            .node("MatMul", &["x", "w"], &["p"])
    };
    let added = |shape: &[usize], values: &[f32]| {
        product(&[2, 4], 2)
            .constant("b", shape, values)
            .node("Add", &["b", "p"], &["h"])
    };
    let listing = |made: Made, shape: &[usize]| {
        let sample = Sample::new(made.model(), made::batch(shape));
        assert!(reference::worst_difference(&sample) < TOLERANCE);
        sample.listing().len()
    };
    assert_eq!(listing(normalized(product(&[2, 4], 2), "p"), &[2, 4]), 1);
    for shape in [vec![2], vec![1, 2]] {
        let made = normalized(added(&shape, &[1.0, -2.0]), "h");
        assert_eq!(listing(made, &[2, 4]), 1);
    }
    // A column is added to rows; channels in the middle are none of a product's.
    let column = normalized(added(&[2, 1], &[1.0, -2.0]), "h");
    assert!(listing(column, &[2, 4]) > 1);
    let middle = normalized(product(&[3, 2, 4], 5), "p");
    assert!(listing(middle, &[3, 2, 4]) > 1);
    // What somebody else reads stays.
    let mut read = normalized(product(&[2, 4], 2), "p");
    read.graph
        .output
        .push(dual16_quant::onnx::f32_value("p", None));
    assert!(listing(read, &[2, 4]) > 1);
}

#[test]
fn gemm_with_scales_and_either_orientation() {
    let weight: Vec<f32> = (0..8).map(|i| 0.3 * i as f32 - 1.0).collect();
    for (shape, transposed) in [([4, 2], 0), ([2, 4], 1)] {
        let made = Made::new(&[3, 4])
            .constant("w", &shape, &weight)
            .constant("b", &[1, 2], &[1.0, -2.0])
            .node("Gemm", &["x", "w", "b"], &["y"])
            .int("transB", transposed)
            .float("alpha", 0.5)
            .float("beta", 2.0);
        let sample = Sample::new(made.model(), made::batch(&[3, 4]));
        assert!(reference::worst_difference(&sample) < TOLERANCE);
        let (_, _, linear) = sample.graph.linears().next().unwrap();
        assert_eq!(linear.weight.dim(), (2, 4));
        assert_eq!(linear.bias.as_ref().unwrap().to_vec(), [2.0, -4.0]);
    }
}

#[test]
fn element_by_element() {
    let constants = || x().scalar("c", 4.0).scalar("two", 2.0).scalar("zero", 0.0);
    let cases = [
        (constants().node("Div", &["x", "c"], &["y"]), "Mul"),
        (constants().node("Pow", &["x", "two"], &["y"]), "Mul"),
        (constants().node("Sub", &["c", "x"], &["y"]), "Sub"),
        (constants().node("Relu", &["x"], &["y"]), "Relu"),
        (constants().node("Clip", &["x", "zero"], &["y"]), "Relu"),
        (
            constants().node("Clip", &["x", "zero", "c"], &["y"]),
            "island Clip",
        ),
        (
            constants().node("Div", &["x", "zero"], &["y"]),
            "island Div",
        ),
        (
            constants().node("Softsign", &["x"], &["y"]),
            "island Softsign",
        ),
    ];
    for (made, wanted) in cases {
        let sample = sample(made);
        assert_eq!(sample.listing(), [format!("node_y {wanted}")]);
        if !wanted.contains("Div") {
            assert!(reference::worst_difference(&sample) < TOLERANCE, "{wanted}");
        }
    }
}

#[test]
fn moves_and_reductions() {
    let cases = [
        (
            x().indices("s", &[6, 4])
                .node("Reshape", &["x", "s"], &["y"]),
            "Reshape",
        ),
        (
            x().indices("s", &[0])
                .node("Unsqueeze", &["x", "s"], &["y"]),
            "Reshape",
        ),
        (x().node("Flatten", &["x"], &["y"]), "Reshape"),
        (x().node("Identity", &["x"], &["y"]), "Reshape"),
        (x().node("Cast", &["x"], &["y"]).int("to", 1), "Reshape"),
        (x().node("Transpose", &["x"], &["y"]), "Transpose"),
        (
            x().node("Transpose", &["x"], &["y"])
                .ints("perm", &[1, 0, 2]),
            "Transpose",
        ),
        (
            x().indices("s", &[-2])
                .indices("e", &[i64::MAX])
                .indices("a", &[-1])
                .node("Slice", &["x", "s", "e", "a"], &["y"]),
            "Slice",
        ),
        (
            x().indices("i", &[-1, 0])
                .node("Gather", &["x", "i"], &["y"])
                .int("axis", 2),
            "Gather",
        ),
        (
            x().indices("s", &[5, 2, 3, 4])
                .node("Expand", &["x", "s"], &["y"]),
            "Expand",
        ),
        (
            x().node("Concat", &["x", "x"], &["y"]).int("axis", -1),
            "Concat",
        ),
        (
            x().indices("a", &[1])
                .node("ReduceMean", &["x", "a"], &["y"])
                .int("keepdims", 0),
            "Mean",
        ),
        (x().node("ReduceMax", &["x"], &["y"]), "Max"),
        (
            x().indices("a", &[0, -1])
                .node("ReduceSum", &["x", "a"], &["y"]),
            "Sum",
        ),
        (x().node("GlobalAveragePool", &["x"], &["y"]), "Mean"),
        (
            x().opset(11)
                .node("ReduceMean", &["x"], &["y"])
                .ints("axes", &[2]),
            "Mean",
        ),
    ];
    for (made, wanted) in cases {
        assert_eq!(operators(made), [wanted]);
    }
}

#[test]
fn all_parts_of_a_split_keep_their_place() {
    let made = x()
        .indices("sizes", &[1, 3])
        .node("Split", &["x", "sizes"], &["a", "y"])
        .int("axis", 2)
        .scope("cut", "split");
    let sample = sample(made);
    assert!(reference::worst_difference(&sample) < TOLERANCE);
    let names: Vec<&str> = sample.graph.nodes[0]
        .outputs
        .iter()
        .map(|&id| sample.graph.value(id).name.as_str())
        .collect();
    assert_eq!(names, ["cut.0", "cut.1"]);
}

#[test]
fn constants_are_folded_and_shapes_are_not_part_of_the_graph() {
    let made = x()
        .scalar("a", 2.0)
        .scalar("b", 3.0)
        .node("Mul", &["a", "b"], &["six"])
        .node("Shape", &["x"], &["shape"])
        .node("Mul", &["x", "six"], &["p"])
        .node("Reshape", &["p", "shape"], &["y"])
        .node("Exp", &["x"], &["unused"]);
    let sample = sample(made);
    assert_eq!(sample.listing(), ["node_p Mul", "node_y Reshape"]);
    assert!(reference::worst_difference(&sample) < TOLERANCE);
}

#[test]
fn an_island_is_fed_the_booleans_that_flow() {
    let made = x()
        .scalar("zero", 0.0)
        .node("Greater", &["x", "zero"], &["mask"])
        .node("Exp", &["x"], &["e"])
        .node("Where", &["mask", "e", "zero"], &["y"]);
    let sample = sample(made);
    let wanted = [
        "node_mask island Greater",
        "node_e exp",
        "node_y island Where",
    ];
    assert_eq!(sample.listing(), wanted);
    let dual16_quant::graph::Op::Island(island) = &sample.graph.nodes[2].op else {
        panic!()
    };
    // The mask is of this graph, so it is what the values that run make it.
    assert!(island.from_float_run.is_empty());
    assert!(reference::worst_difference(&sample) < TOLERANCE);
}

#[test]
fn an_output_that_is_also_consumed_stays_both_and_argmax_is_an_island() {
    let mut made = x().node("Relu", &["x"], &["r"]).node("Exp", &["r"], &["y"]);
    made.graph
        .output
        .push(dual16_quant::onnx::f32_value("r", None));
    let sample = Sample::new(made.model(), made::batch(&SHAPE));
    let names: Vec<&str> = sample
        .graph
        .outputs
        .iter()
        .map(|&id| sample.graph.value(id).name.as_str())
        .collect();
    assert_eq!(names, ["node_y", "node_r"]);

    let made = x()
        .node("Relu", &["x"], &["r"])
        .node("ArgMax", &["r"], &["y"]);
    assert_eq!(operators(made), ["Relu", "island ArgMax"]);

    // Integers are calculated with as they are, whatever has a kernel for floats.
    for op in ["Add", "Sub", "Mul", "Concat"] {
        let made = x()
            .node("ArgMax", &["x"], &["most"])
            .node("ArgMin", &["x"], &["least"])
            .node(op, &["most", "least"], &["y"]);
        let made = if op == "Concat" {
            made.int("axis", 1)
        } else {
            made
        };
        let wanted = ["island ArgMax", "island ArgMin", &format!("island {op}")];
        assert_eq!(operators(made), wanted);
    }
}

#[test]
fn an_infinite_scalar_that_would_be_quantized_is_an_error() {
    let made = x()
        .scalar("inf", f32::NEG_INFINITY)
        .node("Add", &["x", "inf"], &["y"]);
    let model = made.model();
    let float = dual16_quant::float::FloatModel::load(&model, 1).unwrap();
    let probe = float.probe(&made::batch(&SHAPE)).unwrap();
    let error = dual16_quant::graph::lower(&model, &probe).unwrap_err();
    assert_eq!(error.code(), "NON_FINITE");
    assert!(
        error
            .to_string()
            .starts_with("made.onnx: tensor 'inf' has -inf"),
        "{error}"
    );
}
