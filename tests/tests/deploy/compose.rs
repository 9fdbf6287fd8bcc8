//! The compose file: the programs as they are, confined, and nothing open to a network.

use dual16_tests::{data::repository, python};
use serde_json::{Value, json};

use crate::{programs, rendered::all};

fn services() -> Value {
    let file = repository().join("deploy/compose.yaml");
    let read = python::run("yaml_json.py", &[file.to_str().unwrap()]).success();
    let mut compose: Value = serde_json::from_str(&read.stdout).unwrap();
    compose["services"].take()
}

#[test]
fn compose_starts_the_programs_with_variables_that_they_read() {
    let services = services();
    for (service, program) in [("server", "dual16-server"), ("worker", "dual16-worker")] {
        let service = &services[service];
        assert_eq!(service["command"], json!([program]));
        assert_eq!(service["image"], "dual16:0.1.0");
        let variables = service["environment"].as_object().unwrap().keys();
        let variables: Vec<_> = variables.cloned().collect();
        programs::check(program, &variables, "compose.yaml");
        assert_eq!(service["read_only"], true);
        assert_eq!(service["cap_drop"], json!(["ALL"]));
    }
}

#[test]
fn compose_opens_ports_on_loopback_only_and_waits_for_what_is_there() {
    let services = services();
    for (name, service) in services.as_object().unwrap() {
        for port in all(&service["ports"]) {
            let port = port.as_str().unwrap();
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port}");
        }
        let waits: Vec<String> = match &service["depends_on"] {
            Value::Object(map) => map.keys().cloned().collect(),
            list => all(list)
                .map(|found| found.as_str().unwrap().to_owned())
                .collect(),
        };
        for other in waits {
            assert!(!services[&other].is_null(), "{name} waits for {other}");
        }
    }
    // The server finds the others under their names.
    let environment = &services["server"]["environment"];
    for (variable, other) in [("DUAL16_STORE", "postgres"), ("AWS_ENDPOINT", "seaweedfs")] {
        let url = environment[variable].as_str().unwrap();
        assert!(url.contains(&format!("{other}:")), "{url}");
        assert!(!services[other].is_null());
    }
}
