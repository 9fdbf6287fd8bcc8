//! A remedy is another way to compute the same: in exact arithmetic nothing changes.

use std::collections::{BTreeMap, BTreeSet};

use dual16_quant::{
    graph::ValueId,
    observe::{MergeMode, Sketch, Statistics, Wants},
    plan::{Calibration, Key, Request, ScaleSource},
    remedy::{Places, Remedy},
    settings::Settings,
};

use crate::shared::{Sample, data, reference};

/// What calibration would have seen of every value in one batch.
fn observed(sample: &Sample) -> Calibration {
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
    }
}

#[test]
fn every_remedy_is_exact_in_real_arithmetic() {
    let mut seen = BTreeSet::new();
    for model in ["smallmodel", "digits"] {
        let mut sample = Sample::load(&data(model));
        let settings = Settings::default();
        let calibration = observed(&sample);
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
            let of = |id: ValueId| &values[&id];
            let (plain, made) = (of(alternative.replaces), of(alternative.made));
            assert_eq!(plain.shape(), made.shape());
            let largest = plain
                .iter()
                .fold(0.0, |largest: f64, x| largest.max(x.abs()));
            for (plain, made) in plain.iter().zip(made) {
                let name = &sample.graph.value(alternative.made).name;
                assert!(
                    (plain - made).abs() <= 1e-12 * largest,
                    "{name}: {plain} {made}"
                );
            }
            seen.insert(place.remedy);
        }
    }
    assert_eq!(
        seen,
        BTreeSet::from(Remedy::ALL),
        "a remedy that no model has a place for"
    );
}
