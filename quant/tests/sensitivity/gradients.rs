//! Every operation passes back what central differences in f64 say.

use std::collections::HashMap;

use dual16_quant::{
    graph::{Graph, Move, NodeId, Op, ValueId, ValueKind},
    sensitivity::gradients,
    tensor::Tensor,
};
use ndarray::ArrayD;
use proptest::prelude::*;

use crate::{
    planned::Planned,
    shared::{
        Sample,
        made::{self, Made},
        reference,
    },
};

/// Of a gradient against the differences, relative to the largest of its tensor.
const TOLERANCE: f64 = 2e-4;
/// Where all of a tensor's derivatives cancel, as before a LayerNorm, f32 leaves what is relative to
/// the terms of the sum.
const SMALLEST: f64 = 0.1;
/// Where islands take part, which are f32.
const ISLAND_TOLERANCE: f64 = 5e-3;

/// Weights of the output's elements, none of them alike.
fn cotangent(shape: &[usize], seed: f32) -> Tensor {
    let mut index = seed;
    ArrayD::from_shape_simple_fn(shape, || {
        index += 1.0;
        (1.3 * index).cos() + 0.2
    })
}

/// Compares the gradient at the input and every float constant that is no weight of a Linear.
pub fn check(made: Made, shape: &[usize], seed: f32) -> usize {
    let mut batch = made::batch(shape);
    for datum in batch.values_mut() {
        if let dual16_quant::tensor::Datum::F32(x) = datum {
            x.mapv_inplace(|x| x + 0.37 * (seed * (1.0 + x)).sin());
        }
    }
    check_sample(Sample::new(made.model(), batch), seed)
}

fn check_sample(sample: Sample, seed: f32) -> usize {
    let planned = Planned::new(sample);
    let analysis = planned.analysis();
    let values = planned.values(&analysis);
    let graph = planned.graph();
    let island = graph
        .nodes
        .iter()
        .any(|node| matches!(node.op, dual16_quant::graph::Op::Island(_)));
    let (tolerance, step) = match island {
        true => (ISLAND_TOLERANCE, 1.0 / 128.0),
        false => (TOLERANCE, 1e-5),
    };
    let output = graph.outputs[0];
    let cotangent = cotangent(&graph.value(output).shape, seed);
    let got = gradients(&analysis, &values, output, &cotangent).unwrap();
    let float = reference::run(&planned.sample);
    let wide = cotangent.mapv(f64::from);
    let product = |id: ValueId, x: ArrayD<f64>| -> f64 {
        let run = reference::run_with(&planned.sample, &HashMap::from([(id, x)]));
        (&run[&output] * &wide).sum()
    };
    let mut compared = 0;
    for (index, value) in graph.values.iter().enumerate() {
        let id = ValueId(index);
        let leaf = matches!(value.kind, ValueKind::Input | ValueKind::Constant(_));
        let Some(gradient) = got.get(&id).filter(|_| leaf) else {
            continue;
        };
        let x = &float[&id];
        let wanted: Vec<f64> = (0..x.len())
            .map(|element| {
                let moved = |by: f64| {
                    let mut x = x.as_standard_layout().into_owned();
                    x.as_slice_mut().unwrap()[element] += by;
                    product(id, x)
                };
                (moved(step) - moved(-step)) / (2.0 * step)
            })
            .collect();
        let largest = wanted.iter().fold(SMALLEST, |amax, g| amax.max(g.abs()));
        for (element, (&got, wanted)) in gradient.iter().zip(&wanted).enumerate() {
            let error = (f64::from(got) - wanted).abs() / largest;
            assert!(
                error < tolerance,
                "{} [{element}]: {got}, finite differences {wanted}, {error:.1e} apart",
                value.name
            );
        }
        compared += gradient.len();
    }
    compared
}

const SHAPE: [usize; 3] = [2, 3, 4];

fn x() -> Made {
    Made::new(&SHAPE)
}

fn curve(count: usize) -> Vec<f32> {
    made::curve(&[count]).into_iter().map(|x| 0.4 * x).collect()
}

fn unary(op: &str) -> Made {
    x().node(op, &["x"], &["y"])
}

/// A function whose domain is above 0.
fn above_zero(op: &str) -> Made {
    x().node("Mul", &["x", "x"], &["square"])
        .scalar("half", 0.5)
        .node("Add", &["square", "half"], &["positive"])
        .node(op, &["positive"], &["y"])
}

/// A model for every operation of the graph, each way in which its operands can lie.
fn operations() -> Vec<(&'static str, Made)> {
    vec![
        (
            "linear",
            x().constant("w", &[4, 5], &curve(20))
                .constant("b", &[5], &curve(5))
                .node("MatMul", &["x", "w"], &["p"])
                .node("Add", &["p", "b"], &["y"]),
        ),
        (
            "matmul of two activations",
            x().node("Transpose", &["x"], &["t"])
                .ints("perm", &[0, 2, 1])
                .node("Tanh", &["t"], &["u"])
                .node("MatMul", &["x", "u"], &["y"]),
        ),
        (
            "matmul, first operand broadcast",
            x().node("ReduceSum", &["x", "zero"], &["row"])
                .int("keepdims", 0)
                .indices("zero", &[0])
                .node("Transpose", &["x"], &["t"])
                .ints("perm", &[0, 2, 1])
                .node("MatMul", &["row", "t"], &["y"]),
        ),
        (
            "matmul, second operand broadcast",
            x().indices("zero", &[0])
                .node("ReduceSum", &["x", "zero"], &["sum"])
                .int("keepdims", 0)
                .node("Transpose", &["sum"], &["t"])
                .ints("perm", &[1, 0])
                .node("MatMul", &["x", "t"], &["y"]),
        ),
        (
            "add, broadcast both ways",
            x().indices("one", &[1])
                .indices("two", &[2])
                .node("ReduceMean", &["x", "one"], &["a"])
                .node("ReduceMean", &["x", "two"], &["b"])
                .node("Add", &["a", "b"], &["y"]),
        ),
        (
            "add of a constant",
            x().constant("c", &[3, 1], &curve(3))
                .node("Tanh", &["x"], &["t"])
                .node("Add", &["t", "c"], &["y"]),
        ),
        (
            "sub, broadcast second",
            x().indices("two", &[2])
                .node("ReduceMean", &["x", "two"], &["m"])
                .node("Sub", &["x", "m"], &["y"]),
        ),
        (
            "sub from a constant",
            x().constant("c", &[4], &curve(4))
                .node("Sub", &["c", "x"], &["y"]),
        ),
        ("mul of itself", x().node("Mul", &["x", "x"], &["y"])),
        (
            "mul, broadcast",
            x().indices("two", &[2])
                .node("ReduceMean", &["x", "two"], &["m"])
                .node("Mul", &["m", "x"], &["y"]),
        ),
        (
            "mul by a constant",
            x().constant("c", &[4], &curve(4))
                .node("Mul", &["x", "c"], &["y"]),
        ),
        (
            "concat",
            x().node("Tanh", &["x"], &["t"])
                .node("Concat", &["x", "t", "x"], &["y"])
                .int("axis", 1),
        ),
        (
            "reduce sum",
            x().indices("axes", &[0, 2])
                .node("ReduceSum", &["x", "axes"], &["y"])
                .int("keepdims", 0),
        ),
        (
            "reduce mean",
            x().indices("axes", &[-1])
                .node("ReduceMean", &["x", "axes"], &["y"]),
        ),
        (
            "reduce max",
            x().indices("axes", &[1])
                .node("ReduceMax", &["x", "axes"], &["y"])
                .int("keepdims", 0),
        ),
        ("relu", unary("Relu")),
        ("sigmoid", unary("Sigmoid")),
        ("tanh", unary("Tanh")),
        ("exp", unary("Exp")),
        ("erf", unary("Erf")),
        ("softplus", unary("Softplus")),
        ("sqrt", above_zero("Sqrt")),
        ("log", above_zero("Log")),
        ("reciprocal", above_zero("Reciprocal")),
        ("gelu", unary("Gelu").opset(20)),
        (
            "gelu by tanh",
            unary("Gelu").text("approximate", "tanh").opset(20),
        ),
        (
            "silu",
            x().node("Sigmoid", &["x"], &["s"])
                .node("Mul", &["x", "s"], &["y"]),
        ),
        ("softmax", unary("Softmax").int("axis", -1)),
        (
            "layer norm",
            x().constant("g", &[4], &curve(4))
                .constant("b", &[4], &curve(4))
                .node("LayerNormalization", &["x", "g", "b"], &["y"]),
        ),
        (
            "reshape",
            x().indices("to", &[4, 6])
                .node("Reshape", &["x", "to"], &["r"])
                .node("Tanh", &["r"], &["y"]),
        ),
        (
            "transpose",
            x().node("Transpose", &["x"], &["t"])
                .ints("perm", &[2, 0, 1])
                .node("Tanh", &["t"], &["y"]),
        ),
        (
            "slice",
            x().indices("from", &[1])
                .indices("to", &[9])
                .indices("axis", &[2])
                .indices("step", &[2])
                .node("Slice", &["x", "from", "to", "axis", "step"], &["y"]),
        ),
        (
            "gather twice",
            x().indices("at", &[2, 0, 2])
                .node("Gather", &["x", "at"], &["y"])
                .int("axis", 1),
        ),
        (
            "expand",
            x().indices("axis", &[1])
                .indices("to", &[2, 3, 4])
                .node("ReduceMean", &["x", "axis"], &["m"])
                .node("Expand", &["m", "to"], &["e"])
                .node("Tanh", &["e"], &["y"]),
        ),
        (
            "split",
            x().indices("sizes", &[1, 3])
                .node("Split", &["x", "sizes"], &["a", "b"])
                .int("axis", 2)
                .node("Tanh", &["a"], &["t"])
                .node("Add", &["t", "b"], &["y"]),
        ),
    ]
}

#[test]
fn every_operation_passes_back_what_finite_differences_say() {
    for (name, made) in operations() {
        let compared = check(made, &SHAPE, 0.0);
        println!("{name}: {compared} derivatives");
        assert!(compared >= 24, "{name}: {compared}");
    }
}

/// One of a chain's links: from a value `[2, 3, 4]` to another.
fn link(made: Made, number: usize, kind: u8, from: &str) -> (Made, String) {
    let name = |part: &str| format!("{part}{number}");
    let (to, a, b) = (name("v"), name("a"), name("b"));
    let made = match kind {
        0 => made
            .constant(&a, &[4, 4], &curve(16))
            .node("MatMul", &[from, &a], &[&to]),
        1 => made
            .node("Transpose", &[from], &[&a])
            .ints("perm", &[0, 2, 1])
            .node("MatMul", &[from, &a], &[&b])
            .node("MatMul", &[&b, from], &[&name("c")])
            .scalar(&name("s"), 0.1)
            .node("Mul", &[&name("c"), &name("s")], &[&to]),
        2 => made
            .node("Softmax", &[from], &[&a])
            .int("axis", -1)
            .node("Add", &[&a, from], &[&to]),
        3 => made
            .constant(&a, &[4], &curve(4))
            .constant(&b, &[4], &curve(4))
            .node("LayerNormalization", &[from, &a, &b], &[&to]),
        4 => made
            .node("Sigmoid", &[from], &[&a])
            .node("Mul", &[&a, from], &[&to]),
        5 => made
            .indices(&a, &[1, 3])
            .node("Split", &[from, &a], &[&b, &name("c")])
            .int("axis", 2)
            .node("Concat", &[&name("c"), &b], &[&to])
            .int("axis", 2),
        6 => made
            .indices(&a, &[1])
            .node("ReduceMean", &[from, &a], &[&b])
            .node("Sub", &[from, &b], &[&to]),
        _ => made
            .node("Tanh", &[from], &[&a])
            .node("Add", &[&a, from], &[&to]),
    };
    (made, to)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Values that several operations read gather what each passes back.
    #[test]
    fn chains_of_operations_pass_back_what_finite_differences_say(
        kinds in prop::collection::vec(0u8..8, 1..5),
        skips in prop::collection::vec(0usize..5, 5),
        seed in 0.0f32..6.0,
    ) {
        let (mut made, mut names) = (x(), vec!["x".to_owned()]);
        for (number, &kind) in kinds.iter().enumerate() {
            let from = names[skips[number].min(number)].clone();
            let (longer, to) = link(made, number, kind, &from);
            made = longer;
            names.push(to);
        }
        let last = names.len() - 1;
        let made = made.node("Add", &[&names[last], &names[last - 1]], &["y"]);
        check(made, &SHAPE, seed);
    }
}

/// A graph whose nodes were changed.
fn without_dead(sample: &Sample) -> Graph {
    sample.graph.clone().extended().finish().choose(&[])
}

/// A LayerNorm in one piece and a new axis stand in no model as they are.
#[test]
fn a_layer_norm_and_a_new_axis_pass_back_what_they_are_given() {
    for (axes, first) in [(1, 2), (2, 1)] {
        let made = x()
            .opset(17)
            .constant(
                "gamma",
                &SHAPE[first..],
                &curve(SHAPE[first..].iter().product()),
            )
            .node("LayerNormalization", &["x", "gamma"], &["normal"])
            .int("axis", first as i64)
            .indices("at", &[1])
            .node("Unsqueeze", &["normal", "at"], &["y"]);
        let mut sample = Sample::new(made.model(), made::batch(&SHAPE));
        let input = sample.graph.inputs[0];
        for node in &mut sample.graph.nodes {
            if node.name.ends_with("out_mul") {
                node.op = Op::LayerNormFp16 { axes, eps: 1e-5 };
                node.inputs = vec![input];
            }
            if matches!(node.op, Op::Move(_)) {
                node.op = Op::Move(Move::Unsqueeze { axis: 1 });
            }
        }
        sample.graph = without_dead(&sample);
        let kinds = sample
            .graph
            .running()
            .map(|(_, node)| reference::kind(&node.op));
        let kinds: Vec<String> = kinds.collect();
        assert_eq!(kinds, ["LayerNormFp16", "Mul", "Unsqueeze"]);
        assert!(check_sample(sample, 1.0) > 24);
    }
}

/// A sum of products over some axes stands in no model as it is.
#[test]
fn sums_of_products_pass_back_the_other_factor() {
    for mean in [false, true] {
        for (axes, keepdims) in [(vec![2], true), (vec![1], false), (vec![0, 2], false)] {
            let reduce = if mean { "ReduceMean" } else { "ReduceSum" };
            let list: Vec<i64> = axes.iter().map(|&axis| axis as i64).collect();
            let made = x()
                .constant("c", &SHAPE, &curve(24))
                .node("Add", &["x", "c"], &["a"])
                .node("Mul", &["x", "a"], &["product"])
                .node(reduce, &["product"], &["y"])
                .ints("axes", &list)
                .int("keepdims", keepdims.into())
                .opset(11);
            let mut sample = Sample::new(made.model(), made::batch(&SHAPE));
            let graph = &mut sample.graph;
            let ids: Vec<NodeId> = graph.running().map(|(id, _)| id).collect();
            let [.., product, sum] = ids.as_slice() else {
                panic!("{ids:?}")
            };
            let factors = graph.node(*product).inputs.clone();
            let sum = &mut graph.nodes[sum.0];
            assert!(matches!(sum.op, Op::Reduce { .. }), "{:?}", sum.op);
            sum.op = Op::Dot {
                mean,
                axes,
                keepdims,
            };
            sum.inputs = factors;
            sample.graph = without_dead(&sample);
            assert_eq!(sample.graph.running().count(), 2);
            assert!(check_sample(sample, 1.0) >= 48);
        }
    }
}
