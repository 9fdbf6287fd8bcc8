//! The article's model, end to end through every stage: the figures of the specification.

use crate::support::{job, run, settings};
use dual16_nash::Way;
use dual16_quant::settings::{SettingValue, WayChoice};

/// SQNR at linear2 of the whole model, by way of linear2: VALIDATION, in dB.
const ARTICLE: [(Way, f64); 5] = [
    (Way::A16W8, 13.4),
    (Way::A8W16, 26.3),
    (Way::MulSum, 39.3),
    (Way::Split, 48.7),
    (Way::A16W16, 48.8),
];

#[test]
fn each_way_of_linear2_has_the_articles_accumulated_sqnr() {
    for (way, expected) in ARTICLE {
        let mut settings = settings(&[("linear2", SettingValue::Way(WayChoice::Fixed(way)))]);
        if way == Way::A16W16 {
            settings.toolchain = dual16_nash::Toolchain::Oe32;
        }
        let result = run(&job("smallmodel", settings)).unwrap().result();
        let layer = &result["layers"][1];
        assert_eq!(layer["name"], "linear2");
        assert_eq!(layer["way"], way.to_string());
        let accumulated = &layer["accumulated"];
        let validation = accumulated["validation"]["sqnr_db"].as_f64().unwrap();
        let converted = accumulated["converted"]["sqnr_db"].as_f64().unwrap();
        println!("{way}: validation {validation:.3} dB, converted {converted:.3} dB");
        assert!(
            (validation - expected).abs() <= 0.1,
            "{way}: {validation} dB, {expected} wanted"
        );
        assert!(
            (converted - expected).abs() <= 1.0,
            "{way}: {converted} dB, {expected} wanted"
        );
    }
}

#[test]
fn without_a_setting_linear2_and_only_linear2_is_replaced_by_split() {
    let mut job = job("smallmodel", settings(&[]));
    job.evaluation.clear();
    let finished = run(&job).unwrap();
    println!(
        "{}",
        String::from_utf8_lossy(&finished.files["result.json"])
    );
    println!(
        "{}",
        String::from_utf8_lossy(&finished.files["statistics.csv"])
    );
    println!(
        "{}",
        String::from_utf8_lossy(&finished.files["per_layer.csv"])
    );
    let result = finished.result();
    let ways: Vec<&str> = result["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l["way"].as_str().unwrap())
        .collect();
    assert_eq!(ways, ["a16w8", "split", "a16w8"]);
    let isolated = result["layers"][1]["isolated"].as_object().unwrap();
    assert_eq!(isolated.len(), 5);
    for (way, figures) in isolated {
        assert_eq!(figures["legal"], way != "a16w16", "{way}");
    }
}
