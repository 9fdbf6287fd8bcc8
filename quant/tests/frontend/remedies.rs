//! A remedy is another way to compute the same: in exact arithmetic nothing changes.

use std::collections::{BTreeMap, BTreeSet};

use dual16_nash::Toolchain;
use dual16_quant::{
    batch::Batch,
    graph::{NodeId, ValueId},
    observe::{MergeMode, Sketch, Statistics, Wants},
    plan::{Calibration, Key, Request, ScaleSource},
    remedy::{Places, Remedy},
    settings::Settings,
    tensor::Datum,
};

use crate::shared::{Sample, data, made::Made, reference};

/// What calibration would have seen of every value in one batch.
pub fn observed(sample: &Sample) -> Calibration {
    let values = reference::run(sample);
    let statistics = values.iter().map(|(id, value)| {
        let floats: Vec<f32> = value.iter().map(|&x| x as f32).collect();
        let sketch = Sketch::of(&floats, value.shape(), Wants::default());
        (
            Key::Value(id.0),
            Statistics::fold([sketch], MergeMode::Exact),
        )
    });
    Calibration {
        statistics: statistics.collect(),
        floors: BTreeMap::new(),
        columns: Vec::new(),
    }
}

/// The input is divided by the factors, and the Linear makes what it made.
fn check_equalized(
    mut sample: Sample,
    places: &Places,
    alternative: usize,
    (linear, factors): (NodeId, &[f64]),
) {
    let before = reference::run(&sample);
    let plain_input = sample.graph.node(linear).inputs[0];
    sample.graph = places.extended.choose(&[alternative]);
    let after = reference::run(&sample);
    let node = sample.graph.node(linear);
    assert_ne!(node.inputs[0], plain_input);
    let (plain, divided) = (&before[&plain_input], &after[&node.inputs[0]]);
    for (at, (plain, divided)) in plain.iter().zip(divided).enumerate() {
        let expected = plain / factors[at % factors.len()];
        assert!(
            (divided - expected).abs() <= 1e-12 * expected.abs().max(1.0),
            "{}",
            node.name
        );
    }
    let (plain, made) = (&before[&node.outputs[0]], &after[&node.outputs[0]]);
    let largest = plain
        .iter()
        .fold(0.0, |largest: f64, x| largest.max(x.abs()));
    for (plain, made) in plain.iter().zip(made) {
        assert!(
            (plain - made).abs() <= 1e-12 * largest,
            "{}: {plain} {made}",
            node.name
        );
    }
}

/// A Softmax of which most is far below the largest.
fn many_classes() -> Sample {
    let made = Made::new(&[2, 300])
        .node("Softmax", &["x"], &["y"])
        .int("axis", 1);
    let class = |i: usize| {
        if i.is_multiple_of(300) {
            9.0
        } else {
            (i as f32 * 0.7).sin()
        }
    };
    let x = ndarray::Array2::from_shape_fn((2, 300), |(row, i)| class(300 * row + i));
    let batch = Batch::from([("x".to_owned(), Datum::F32(x.into_dyn()))]);
    Sample::new(made.model(), batch)
}

/// A LayerNorm that three Linears read.
fn three_readers() -> Sample {
    let weight: Vec<f32> = (0..8 * 5).map(|i| (0.7 * i as f32).sin()).collect();
    let gamma: Vec<f32> = (0..8).map(|i| 0.5 + i as f32).collect();
    let made = Made::new(&[4, 8])
        .opset(17)
        .constant("gamma", &[8], &gamma)
        .node("LayerNormalization", &["x", "gamma"], &["normal"]);
    let made = ["q", "k", "v"].into_iter().fold(made, |made, name| {
        let weight_name = format!("{name}.weight");
        made.constant(&weight_name, &[8, 5], &weight).node(
            "MatMul",
            &["normal", &weight_name],
            &[name],
        )
    });
    let made = made
        .node("Add", &["q", "k"], &["qk"])
        .node("Add", &["qk", "v"], &["y"]);
    let x = ndarray::Array2::from_shape_fn((4, 8), |(row, i)| (1.3 * (8 * row + i) as f32).sin());
    let batch = Batch::from([("x".to_owned(), Datum::F32(x.into_dyn()))]);
    Sample::new(made.model(), batch)
}

#[test]
fn every_remedy_is_exact_in_real_arithmetic() {
    let mut seen = BTreeSet::new();
    let mut most_readers = 0;
    let mut above_linears = 0;
    let models: [fn() -> Sample; 4] = [
        || Sample::load(&data("smallmodel")),
        || Sample::load(&data("digits")),
        many_classes,
        three_readers,
    ];
    let toolchains = [Toolchain::Oe31, Toolchain::Oe32];
    let cases = models
        .into_iter()
        .flat_map(|load| toolchains.map(|of| (load, of)));
    for (load, toolchain) in cases {
        let mut sample = load();
        let settings = Settings {
            toolchain,
            allow_fp16: true,
            ..Settings::default()
        };
        let mut calibration = observed(&sample);
        // Powers of two, by which an f32 is divided exactly.
        calibration.columns = sample
            .graph
            .linears()
            .map(|(id, _, linear)| {
                let factor = |column: usize| [0.25, 1.0, 8.0, 2.0, 0.5][column % 5];
                (id.0, (0..linear.weight.ncols()).map(factor).collect())
            })
            .collect();
        let request = Request::resolve(&sample.graph, &settings, false).unwrap();
        let places = Places::of(&ScaleSource {
            graph: &sample.graph,
            settings: &settings,
            request: &request,
            calibration: &calibration,
        });
        sample.graph = places.extended.all();
        let values = reference::run(&sample);
        for place in &places.places {
            let alternative = &places.extended.alternatives()[place.alternative];
            if let Some(divided) = &alternative.divided {
                assert_eq!(
                    (place.remedy, Some(&place.node)),
                    (Remedy::Equalize, divided.readers.first())
                );
                for linear in &divided.readers {
                    let reader = (*linear, divided.factors.as_slice());
                    check_equalized(load(), &places, place.alternative, reader);
                }
                most_readers = most_readers.max(divided.readers.len());
                above_linears += usize::from(divided.below.is_some());
                seen.insert(place.remedy);
                continue;
            }
            let of = |id: ValueId| &values[&id];
            let (plain, made) = (of(alternative.replaces), of(alternative.made));
            assert_eq!(plain.shape(), made.shape());
            let largest = plain
                .iter()
                .fold(0.0, |largest: f64, x| largest.max(x.abs()));
            // Where two constants belong together, both are rounded to f32.
            let tolerance = match place.remedy {
                Remedy::TwoTables => 1e-8,
                _ => 1e-12,
            };
            for (plain, made) in plain.iter().zip(made) {
                let name = &sample.graph.value(alternative.made).name;
                assert!(
                    (plain - made).abs() <= tolerance * largest,
                    "{name}: {plain} {made}"
                );
            }
            seen.insert(place.remedy);
        }
    }
    assert!(
        above_linears > 0,
        "a Linear takes in the factors of the one above it"
    );
    assert_eq!(
        most_readers, 3,
        "three Linears of one input take one set of factors"
    );
    assert_eq!(
        seen,
        BTreeSet::from(Remedy::ALL),
        "a remedy that no model has a place for"
    );
}
