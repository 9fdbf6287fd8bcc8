//! What tables and rescales add in CONVERTED, as rows.

use dual16_nash::{Lut, LutFunction, Scale, lut::LutSpec};
use dual16_quant::{
    exec::{Carried, Converted, Flow, Integers, Machine, Validation, walk},
    graph::{NodeId, Op},
    sensitivity::{RowKind, converted_rows, estimate, exact, rows},
    tensor::{Datum, Tensor},
};
use ndarray::{Array2, ArrayD, Axis};

use crate::{
    planned::Planned,
    shared::{
        Sample, data,
        made::{self, Made},
    },
};

const ROWS: usize = 3;
const CLASSES: usize = 5000;

/// A Softmax over many classes of which all but a few are far below the largest.
fn far_ranged() -> Planned {
    let made = Made::new(&[ROWS, CLASSES])
        .node("Softmax", &["x"], &["y"])
        .int("axis", 1);
    let mut batch = made::batch(&[ROWS, CLASSES]);
    let logits = Array2::from_shape_fn((ROWS, CLASSES), |(row, class)| match class {
        0 => 14.0 + row as f32,
        1 => 13.0,
        _ => 1.5 * ((row * CLASSES + class) as f32 * 0.7).sin(),
    });
    batch.insert("x".to_owned(), Datum::F32(logits.into_dyn()));
    Planned::new(Sample::new(made.model(), batch))
}

fn exp(planned: &Planned) -> NodeId {
    let mut nodes = planned.graph().running();
    let is_exp = |op: &Op| matches!(op, Op::Lut(LutFunction::Exp));
    nodes.find(|(_, node)| is_exp(&node.op)).unwrap().0
}

#[test]
fn a_table_alone_is_the_function_with_the_tables_error() {
    let planned = far_ranged();
    let (graph, plan) = (planned.graph(), &planned.plan);
    let id = exp(&planned);
    let node = graph.node(id);
    let table = rows(graph, plan).into_iter();
    let row = table
        .filter(|row| row.kind(graph) == RowKind::Table)
        .find(|row| row.node(graph) == Some(id))
        .unwrap();
    assert_eq!(row.name(graph), node.name);

    let analysis = planned.analysis();
    let values = planned.values(&analysis);
    let got = exact(&analysis, &values, row).unwrap()[0].metrics();

    // The same by hand: exp in float, and what the table gives beyond exp rounded.
    let x = planned.sample.probe["x"].as_f32().unwrap();
    let float = x.clone().into_dimensionality::<ndarray::Ix2>().unwrap();
    let (input, output) = (
        plan.params(node.inputs[0]).unwrap(),
        plan.params(node.outputs[0]).unwrap(),
    );
    let lut = Lut::build(&LutSpec {
        function: LutFunction::Exp,
        input: input.dtype,
        input_scale: Scale::new(input.scale).unwrap(),
        output: output.dtype,
        output_scale: Scale::new(output.scale).unwrap(),
        observed: None,
    })
    .unwrap();
    let (mut error, mut signal) = (0.0, 0.0);
    for row in float.axis_iter(Axis(0)) {
        let largest = row.iter().copied().fold(f32::MIN, f32::max);
        let shifted: Vec<f64> = row.iter().map(|x| f64::from(x - largest)).collect();
        let q: Vec<i16> = shifted
            .iter()
            .map(|x| (x / f64::from(input.scale)).round_ties_even() as i16)
            .collect();
        let mut y = vec![0i16; q.len()];
        lut.apply(&q, &mut y).unwrap();
        let step = f64::from(output.scale);
        let disturbed: Vec<f64> = shifted
            .iter()
            .zip(q.iter().zip(&y))
            .map(|(x, (&q, &y))| {
                let function = (f64::from(q) * f64::from(input.scale)).exp() / step;
                x.exp() + (f64::from(y) - function.round_ties_even().min(32767.0)) * step
            })
            .collect();
        let exact: Vec<f64> = shifted.iter().map(|x| x.exp()).collect();
        let sums = [exact.iter().sum::<f64>(), disturbed.iter().sum()];
        for (exact, disturbed) in exact.iter().zip(&disturbed) {
            signal += (exact / sums[0]).powi(2);
            error += (exact / sums[0] - disturbed / sums[1]).powi(2);
        }
    }
    let wanted = 10.0 * (signal / error).log10();
    let got = got.sqnr_db.unwrap();
    assert!(got < 40.0, "{got}");
    assert!((got - wanted).abs() < 0.2, "{got} {wanted}");

    let estimated = estimate(&analysis, &values, &[row], 64, 3).unwrap();
    let estimated = estimated.sqnr_db(0, 0).unwrap();
    assert!((estimated - got).abs() < 3.0, "{estimated} {got}");
}

/// What one kind of run makes of the model's only output.
fn run<M: Machine>(planned: &Planned, mut machine: M, of: impl Fn(&M::Value) -> Tensor) -> Tensor {
    let Sample {
        graph,
        float,
        probe,
        ..
    } = &planned.sample;
    let mut made = ArrayD::zeros(ndarray::IxDyn(&[0]));
    walk(
        graph,
        float,
        probe,
        Integers::Frozen,
        &mut machine,
        |id, value| {
            if let (true, Carried::Value(value)) = (id == graph.outputs[0], value) {
                made = of(value);
            }
            Ok(())
        },
    )
    .unwrap();
    made
}

#[test]
fn a_node_alone_adds_what_converted_is_beyond_validation() {
    let made = Made::new(&[5, 7])
        .constant("c", &[7], &[0.11, -0.7, 0.3, 0.9, -0.2, 0.05, 0.6])
        .node("Mul", &["x", "c"], &["y"]);
    let planned = Planned::new(Sample::new(made.model(), made::batch(&[5, 7])));
    let (graph, plan, prepared) = (planned.graph(), &planned.plan, &planned.prepared);
    let converted = run(
        &planned,
        Converted::new(graph, plan, prepared),
        Flow::to_float,
    );
    let validation = run(
        &planned,
        Validation::new(graph, plan, prepared),
        Tensor::clone,
    );
    let energy: f64 = converted
        .iter()
        .zip(&validation)
        .map(|(a, b)| f64::from(a - b).powi(2))
        .sum();
    assert!(energy > 0.0);
    let rows = converted_rows(graph, plan);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].kind(graph), RowKind::Rescale);
    let analysis = planned.analysis();
    let values = planned.values(&analysis);
    let got = exact(&analysis, &values, rows[0]).unwrap()[0]
        .metrics()
        .mse
        .unwrap()
        * 35.0;
    assert!((got / energy - 1.0).abs() < 0.01, "{got} {energy}");
}

#[test]
fn tables_from_int8_to_int8_are_exact_and_have_no_row() {
    let planned = Planned::of(Sample::load(&data("digits")), dual16_nash::IntDtype::Int8);
    let rows = rows(planned.graph(), &planned.plan);
    let kinds = rows.iter().map(|row| row.kind(planned.graph()));
    assert!(!kinds.into_iter().any(|kind| kind == RowKind::Table));
}
