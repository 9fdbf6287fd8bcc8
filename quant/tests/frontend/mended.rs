//! What a remedy is worth where it is needed: one operation in integers, plain and mended.

use std::collections::BTreeMap;

use dual16_nash::Toolchain;
use dual16_quant::{
    batch::Batch,
    exec::{Carried, Converted, Flow, Integers, Machine, Prepared, Validation, walk},
    fit::Fits,
    graph::Graph,
    plan::{Chosen, Plan, Request, ScaleSource},
    remedy::{Places, Remedy},
    settings::Settings,
    tensor::{Datum, Tensor},
};
use ndarray::{Array2, ArrayD};

use crate::{
    remedies::observed,
    shared::{Sample, made::Made, reference},
};

/// SQNR in dB of the only output in VALIDATION and in CONVERTED, plain (no remedy) and with each remedy
/// alone; of several places of one remedy with the first.
pub fn trials(mut sample: Sample, settings: &Settings) -> BTreeMap<Option<Remedy>, [f64; 2]> {
    let plain = sample.graph.clone();
    let wanted = reference::run(&sample)[&plain.outputs[0]].clone();
    let request = Request::resolve(&plain, settings, false).unwrap();
    let calibration = observed(&sample);
    let places = Places::of(&ScaleSource {
        graph: &plain,
        settings,
        request: &request,
        calibration: &calibration,
    });
    sample.graph = places.extended.all();
    let calibration = observed(&sample);
    let mut trials = BTreeMap::new();
    let chosen = places.places.iter().rev();
    let chosen = chosen.map(|place| (Some(place.remedy), vec![place.alternative]));
    for (remedy, alternatives) in chosen.chain([(None, vec![])]) {
        let graph = places.extended.choose(&alternatives);
        let request = Request::resolve(&graph, settings, false).unwrap();
        let source = ScaleSource {
            graph: &graph,
            settings,
            request: &request,
            calibration: &calibration,
        };
        let linears = request.linears.iter().map(|(&id, linear)| {
            let chosen = Chosen {
                way: linear.start,
                fit: None,
                requested: linear.requested.to_string(),
                reason: String::new(),
            };
            (id, chosen)
        });
        let (plan, _) = Plan::build(&source, &linears.collect()).unwrap();
        let prepared = Prepared::new(&graph, &plan, &Fits::new(), settings).unwrap();
        let db = [
            run(
                &sample,
                &graph,
                Validation::new(&graph, &plan, &prepared),
                Tensor::clone,
            ),
            run(
                &sample,
                &graph,
                Converted::new(&graph, &plan, &prepared),
                Flow::to_float,
            ),
        ]
        .map(|made| sqnr_db(&wanted, &made));
        trials.insert(remedy, db);
    }
    trials
}

fn run<M: Machine>(
    sample: &Sample,
    graph: &Graph,
    mut machine: M,
    to_float: impl Fn(&M::Value) -> Tensor,
) -> Tensor {
    let (float, probe) = (&sample.float, &sample.probe);
    let mut output = None;
    walk(
        graph,
        float,
        probe,
        Integers::Frozen,
        &mut machine,
        |id, value| {
            if let (true, Carried::Value(value)) = (id == graph.outputs[0], value) {
                output = Some(to_float(value));
            }
            Ok(())
        },
    )
    .unwrap();
    output.unwrap()
}

fn sqnr_db(wanted: &ArrayD<f64>, made: &Tensor) -> f64 {
    let signal: f64 = wanted.iter().map(|x| x * x).sum();
    let pairs = wanted.iter().zip(made);
    let noise: f64 = pairs.map(|(x, y)| (x - f64::from(*y)).powi(2)).sum();
    10.0 * (signal / noise).log10()
}

const ROWS: usize = 16;
const WIDTH: usize = 64;

/// A LayerNorm of rows of about 1, of which one has a massive activation.
fn outlier(largest: f32) -> Sample {
    let made = Made::new(&[ROWS, WIDTH])
        .opset(17)
        .constant("gamma", &[WIDTH], &[1.0; WIDTH])
        .node("LayerNormalization", &["x", "gamma"], &["y"])
        .scope("norm", "layer_norm");
    let mut x = Array2::from_shape_fn((ROWS, WIDTH), |(row, i)| {
        let size = 0.3 + 0.1 * row as f32;
        size * ((0.7 * (row * WIDTH + i) as f32).sin() + (1.9 * i as f32).cos())
    });
    x[[0, 5]] = largest;
    let batch = Batch::from([("x".to_owned(), Datum::F32(x.into_dyn()))]);
    Sample::new(made.model(), batch)
}

fn on(toolchain: Toolchain) -> Settings {
    Settings {
        toolchain,
        allow_fp16: true,
        ..Settings::default()
    }
}

#[test]
fn products_of_rows_with_themselves_lose_no_square() {
    for toolchain in [Toolchain::Oe31, Toolchain::Oe32] {
        let trials = trials(outlier(200.0), &on(toolchain));
        println!("{toolchain}: {trials:.1?}");
        let [plain, dot] = [None, Some(Remedy::Dot)].map(|remedy| trials[&remedy]);
        for (plain, dot) in plain.into_iter().zip(dot) {
            assert!(dot > plain + 10.0 && dot > 35.0, "{toolchain}: {trials:?}");
        }
    }
}

/// A float has a step of its own for each number, and an end: the square of 300 is beyond it.
#[test]
fn fp16_holds_far_apart_rows_and_no_large_squares() {
    let settings = on(Toolchain::Oe31);
    let fp16 = |largest| trials(outlier(largest), &settings)[&Some(Remedy::Fp16)];
    let [validation, converted] = fp16(200.0);
    println!("{validation:.1} {converted:.1}");
    // What is left is the step of its input.
    assert!(
        validation > 50.0 && converted > 50.0,
        "{validation} {converted}"
    );
    let [_, beyond] = fp16(300.0);
    assert!(beyond < 20.0, "{beyond}");
    let not_asked = Settings {
        allow_fp16: false,
        ..settings
    };
    assert!(!trials(outlier(200.0), &not_asked).contains_key(&Some(Remedy::Fp16)));
}

/// Scores of attention, the second operand with an outlier.
fn scores() -> Sample {
    let made = Made::new(&[2, 24, 16])
        .node("Relu", &["x"], &["r"])
        .node("Transpose", &["r"], &["t"])
        .ints("perm", &[0, 2, 1])
        .node("MatMul", &["x", "t"], &["y"]);
    let mut x = ndarray::Array3::from_shape_fn((2, 24, 16), |(batch, row, i)| {
        (0.7 * (batch * 384 + row * 16 + i) as f32).sin() + (1.9 * i as f32).cos()
    });
    x[[1, 3, 5]] = 60.0;
    let batch = Batch::from([("x".to_owned(), Datum::F32(x.into_dyn()))]);
    Sample::new(made.model(), batch)
}

#[test]
fn products_on_the_vector_unit_keep_both_operands() {
    let trials = trials(scores(), &on(Toolchain::Oe31));
    println!("{trials:.1?}");
    let of = |remedy| trials[&remedy][1];
    let [plain, split, mul_sum] = [None, Some(Remedy::SplitOperand), Some(Remedy::MulSum)].map(of);
    assert!(mul_sum > plain + 6.0, "{trials:?}");
    assert!(
        split > mul_sum,
        "one scale for the sum, none for each product: {trials:?}"
    );
    // A GEMM that takes both as they are needs neither.
    let native = self::trials(scores(), &on(Toolchain::Oe32));
    assert_eq!(native.keys().collect::<Vec<_>>(), [&None]);
    // Nor is it offered where its products do not stay on the chip.
    let small = Settings {
        chip_toml: "[nash-m]\non_chip_mib = 0.01\n".to_owned(),
        ..on(Toolchain::Oe31)
    };
    assert!(!self::trials(scores(), &small).contains_key(&Some(Remedy::MulSum)));
}
