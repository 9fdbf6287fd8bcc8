//! Resources of other projects: no field that their definitions do not have.

use std::fs;

use dual16_tests::data::repository;
use serde_json::Value;

use crate::rendered::{all, name, of_kind, shapes, workloads};

/// The schema of an object's kind, from tests/data/crds; none for a kind of Kubernetes itself.
fn schema(object: &Value) -> Option<Value> {
    let (group, version) = object["apiVersion"].as_str().unwrap().split_once('/')?;
    let group = group.split('.').next().unwrap();
    let kind = object["kind"].as_str().unwrap().to_lowercase();
    let file = format!("tests/data/crds/{kind}-{group}-{version}.json");
    let text = fs::read_to_string(repository().join(file)).ok()?;
    Some(serde_json::from_str(&text).unwrap())
}

fn broken(schema: &Value, object: &Value) -> Vec<String> {
    let validator = jsonschema::validator_for(schema).unwrap();
    let errors = validator.iter_errors(object);
    errors
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

#[test]
fn custom_resources_have_no_field_that_is_unknown() {
    let mut kinds = std::collections::BTreeSet::new();
    for (shape, objects) in shapes() {
        for object in objects {
            let Some(schema) = schema(object) else {
                continue;
            };
            kinds.insert(object["kind"].as_str().unwrap());
            let broken = broken(&schema, object);
            assert!(broken.is_empty(), "{shape}: {}: {broken:?}", name(object));
        }
    }
    let kinds: Vec<_> = kinds.into_iter().collect();
    let known = [
        "Certificate",
        "Issuer",
        "PodMonitor",
        "PrometheusRule",
        "ScaledObject",
        "TriggerAuthentication",
    ];
    assert_eq!(kinds, known, "each has a schema, and is in some shape");
}

#[test]
fn the_schemas_refuse_a_field_that_is_mistyped() {
    let objects = &shapes()["scaled-all"];
    let scaled = of_kind(objects, "ScaledObject").next().unwrap();
    let mut mistyped = scaled.clone();
    mistyped["spec"]["cooldownSeconds"] = 300.into();
    assert!(!broken(&schema(scaled).unwrap(), &mistyped).is_empty());
}

#[test]
fn keda_scales_the_workers_and_asks_the_server_as_it_is_let_in() {
    let objects = &shapes()["scaled-all"];
    let scaled = of_kind(objects, "ScaledObject").next().unwrap();
    let spec = &scaled["spec"];
    let target = spec["scaleTargetRef"]["name"].as_str().unwrap();
    let worker = of_kind(objects, "Deployment").find(|found| name(found) == target);
    assert_eq!(spec["minReplicaCount"], 0);
    let trigger = &spec["triggers"][0];
    let metadata = &trigger["metadata"];
    let address = metadata["scalerAddress"].as_str().unwrap();
    let (host, port) = address.split_once(':').unwrap();
    let service = host.split('.').next().unwrap();
    let service = of_kind(objects, "Service").find(|found| name(found) == service);
    let ports = &service.unwrap()["spec"]["ports"];
    assert!(all(ports).any(|found| found["port"].as_u64() == port.parse().ok()));
    // The name that the certificate must have: KEDA holds it against the address.
    let server = of_kind(objects, "Certificate").find(|found| name(found) == "dual16-server");
    assert!(all(&server.unwrap()["spec"]["dnsNames"]).any(|found| *found == host));
    let container = crate::rendered::container(worker.unwrap());
    let cores = &container["resources"]["limits"]["cpu"];
    assert_eq!(
        metadata["tasksPerWorker"], *cores,
        "as many as a worker takes"
    );

    let named = &trigger["authenticationRef"]["name"];
    let authentication = of_kind(objects, "TriggerAuthentication").next().unwrap();
    assert_eq!(authentication["metadata"]["name"], *named);
    let made: Vec<_> = of_kind(objects, "Certificate")
        .map(|found| &found["spec"]["secretName"])
        .collect();
    for reference in all(&authentication["spec"]["secretTargetRef"]) {
        assert!(made.contains(&&reference["name"]), "{reference}");
    }
}

#[test]
fn every_secret_of_a_certificate_is_one_that_a_pod_or_keda_reads() {
    for (shape, objects) in shapes() {
        let read: Vec<_> = workloads(objects)
            .flat_map(|workload| all(&workload["spec"]["template"]["spec"]["volumes"]))
            .map(|volume| &volume["secret"]["secretName"])
            .collect();
        for certificate in of_kind(objects, "Certificate") {
            let secret = &certificate["spec"]["secretName"];
            let other = ["dual16-authority", "dual16-keda-tls"];
            let known = other.iter().any(|other| secret == other);
            assert!(known || read.contains(&secret), "{shape}: {secret}");
            let issuer = &certificate["spec"]["issuerRef"]["name"];
            let issuers = of_kind(objects, "Issuer");
            let mut issuers = issuers.filter(|found| found["metadata"]["name"] == *issuer);
            assert!(issuers.next().is_some(), "{shape}: {issuer}");
        }
    }
}
