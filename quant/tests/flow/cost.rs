//! What a plan costs, as a job's files tell it.

use crate::support::{Finished, job, run, settings};
use dual16_nash::{Toolchain, Way};
use dual16_quant::{
    job::JobKind,
    settings::{SettingValue, WayChoice},
};
use serde_json::Value;

/// linear2 of the article's model: 200 rows of 256, 60 outputs.
const LINEAR2_MACS: u64 = 200 * 256 * 60;

fn finished(way: Way, plan_only: bool) -> Finished {
    let fixed = SettingValue::Way(WayChoice::Fixed(way));
    let mut settings = settings(&[("linear2", fixed)]);
    settings.toolchain = Toolchain::Oe32;
    let mut job = job("smallmodel", settings);
    if plan_only {
        job.kind = JobKind::Plan;
    }
    run(&job).unwrap()
}

fn plan(way: Way) -> Value {
    serde_json::from_slice(&finished(way, true).files["plan.json"]).unwrap()
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn the_articles_order_of_ways_follows_for_the_layer_and_for_the_model() {
    for of in ["layer", "model"] {
        let us = |way| {
            let plan = plan(way);
            let estimate = match of {
                "layer" => &plan["layers"][1]["estimate"],
                _ => &plan["estimate"],
            };
            println!("{of} {way}: {}", estimate["latency_us"]);
            number(&estimate["latency_us"])
        };
        let [a16w8, a8w16, mul_sum] = [Way::A16W8, Way::A8W16, Way::MulSum].map(us);
        assert!(a16w8 < a8w16 && a8w16 < mul_sum, "{of}");
        let [split, a16w16] = [Way::Split, Way::A16W16].map(us);
        assert!(a16w8 < a16w16 && a16w16 < split && split < mul_sum, "{of}");
    }
}

#[test]
fn a_plan_before_any_data_costs_what_the_final_plan_costs() {
    for way in Way::FIVE {
        let result = finished(way, false).result();
        let (before, after) = (&plan(way)["estimate"], &result["estimate"]);
        for key in [
            "latency_us",
            "macs",
            "vector_elements",
            "loaded_bytes",
            "requantized_bytes",
        ] {
            assert_eq!(before[key], after[key], "{way} {key}");
        }
        let linear2 = &result["layers"][1];
        let alone = &linear2["isolated"][way.to_string()]["estimate"];
        assert_eq!(&linear2["estimate"], alone, "{way}");
    }
}

#[test]
fn totals_are_the_sums_of_the_operators_and_every_parameter_has_a_source() {
    let result = finished(Way::Split, false).result();
    let estimate = &result["estimate"];
    let operators = estimate["operators"].as_array().unwrap();
    let sum = |key: &str| operators.iter().map(|own| number(&own[key])).sum::<f64>();
    for key in [
        "latency_us",
        "compute_us",
        "loaded_bytes",
        "stored_bytes",
        "moved_bytes",
    ] {
        let total = number(&estimate[key]);
        assert!((sum(key) - total).abs() <= 1e-9 * total, "{key}");
    }
    let bucket = "feature int16 weight int8 macs";
    let linear2 = operators
        .iter()
        .find(|own| own["name"] == "linear2")
        .unwrap();
    assert_eq!(linear2["macs"][bucket], 2 * LINEAR2_MACS);
    let all = 200 * 256 * 256 + 2 * LINEAR2_MACS + 200 * 60 * 60;
    assert_eq!(estimate["macs"][bucket], all);
    // The LayerNorm's parts are there, on the vector unit and through a table.
    let rsqrt = operators
        .iter()
        .find(|own| own["name"] == "layernorm.rsqrt")
        .unwrap();
    assert_eq!(
        (&rsqrt["op"], &rsqrt["lut_elements"]["int16"]),
        (&"rsqrt".into(), &200.into())
    );
    let square = operators
        .iter()
        .find(|own| own["name"] == "layernorm.mul")
        .unwrap();
    assert_eq!(square["vector_elements"]["int16"], 200 * 256);
    for (key, parameter) in estimate["parameters"].as_object().unwrap() {
        let source = parameter["source"].as_str().unwrap();
        assert!(
            source.starts_with("public") || source.starts_with("assumption"),
            "{key}"
        );
    }
    assert!(estimate["note"].as_str().unwrap().contains("estimate"));
}

#[test]
fn an_int8_way_in_an_int16_model_pays_for_the_requantization() {
    let estimate = &plan(Way::A8W16)["estimate"];
    assert_eq!(estimate["requantized_bytes"], 200 * 256 * 3);
    assert_eq!(
        estimate["macs"]["feature int8 weight int16 macs"],
        LINEAR2_MACS
    );
    assert_eq!(plan(Way::A16W8)["estimate"]["requantized_bytes"], 0);
}

#[test]
fn ways_have_the_estimate_of_every_way_tried() {
    let mut job = job("smallmodel", settings(&[]));
    job.digest += " cost";
    let finished = run(&job).unwrap();
    let text = String::from_utf8(finished.files["ways.csv"].clone()).unwrap();
    let header: Vec<&str> = text.lines().next().unwrap().split(',').collect();
    let column = header
        .iter()
        .position(|name| *name == "estimate_us")
        .unwrap();
    let linear2 = text.lines().filter(|line| line.starts_with("linear2,"));
    let us: Vec<f64> = linear2
        .map(|line| line.split(',').nth(column).unwrap().parse().unwrap())
        .collect();
    let fits = text.lines().filter(|line| line.starts_with("linear2,"));
    let fits = fits.filter(|line| line.split(',').nth(4).unwrap().contains('+'));
    assert_eq!(us.len() - fits.count(), 5);
    assert!(us.iter().all(|&us| us > 0.0));
}
