//! The alerts, by promtool: they are sound, and fire when they must and at no other time.

use std::{fs, path::Path, process::Command};

use dual16_tests::{data::repository, tools::tool};
use serde_json::Value;

use crate::rendered::{all, of_kind, shapes};

/// The rules as Prometheus itself reads them. JSON is YAML, too.
pub(crate) fn rules() -> Value {
    let objects = &shapes()["scaled-all"];
    let rule = of_kind(objects, "PrometheusRule").next().unwrap();
    rule["spec"].clone()
}

fn promtool(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new(tool("promtool"));
    let output = command.args(arguments).current_dir(folder).output();
    let output = output.unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{arguments:?}\n{said}");
}

#[test]
fn alerts_fire_when_they_must_and_at_no_other_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut rules = rules();
    let file = folder.path().join("rules.yaml");
    fs::write(&file, rules.to_string()).unwrap();
    promtool(folder.path(), &["check", "rules", "rules.yaml"]);
    let tests = repository().join("tests/data/prometheus/rules_test.yaml");
    let text = fs::read_to_string(&tests).unwrap();
    for rule in all(&rules["groups"][0]["rules"]) {
        let alert = rule["alert"].as_str().unwrap();
        let fires = format!("alertname: {alert}\n        exp_alerts");
        assert!(
            text.contains(&fires),
            "{alert} has no case in which it fires"
        );
        assert!(text.contains(&format!("alertname: {alert}}}")), "{alert}");
    }
    // When they fire is tested; how it is worded is not.
    for rule in rules["groups"][0]["rules"].as_array_mut().unwrap() {
        rule.as_object_mut().unwrap().remove("annotations");
    }
    fs::write(&file, rules.to_string()).unwrap();
    fs::copy(tests, folder.path().join("rules_test.yaml")).unwrap();
    promtool(folder.path(), &["test", "rules", "rules_test.yaml"]);
}
