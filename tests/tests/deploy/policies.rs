//! Labels, selectors and ports: whatever points at something points at something that is there.

use serde_json::Value;

use crate::rendered::{all, container, name, of_kind, shapes, workloads};

/// Whether a selector of labels means pods of this workload.
fn selects(labels: &Value, workload: &Value) -> bool {
    let have = &workload["spec"]["template"]["metadata"]["labels"];
    let wanted = labels.as_object().into_iter().flatten();
    wanted.fold(true, |all, (key, value)| all && have[key] == *value)
}

fn ports(workload: &Value) -> Vec<&Value> {
    all(&container(workload)["ports"]).collect()
}

#[test]
fn selectors_match_pods_and_ports_exist() {
    for (shape, objects) in shapes() {
        for workload in workloads(objects) {
            let labels = &workload["spec"]["selector"]["matchLabels"];
            assert!(selects(labels, workload), "{shape}: {}", name(workload));
            let pod = &workload["spec"]["template"]["spec"];
            for spread in all(&pod["topologySpreadConstraints"]) {
                let labels = &spread["labelSelector"]["matchLabels"];
                assert!(selects(labels, workload), "{shape}: {}", name(workload));
            }
        }
        for service in of_kind(objects, "Service") {
            let selector = &service["spec"]["selector"];
            let selected: Vec<_> = workloads(objects)
                .filter(|workload| selects(selector, workload))
                .collect();
            assert_eq!(selected.len(), 1, "{shape}: {}", name(service));
            for port in all(&service["spec"]["ports"]) {
                let mut named = ports(selected[0]).into_iter();
                assert!(named.any(|found| found["name"] == port["targetPort"]));
            }
        }
        for budget in of_kind(objects, "PodDisruptionBudget") {
            let labels = &budget["spec"]["selector"]["matchLabels"];
            let mut selected = workloads(objects).filter(|workload| selects(labels, workload));
            assert_eq!(name(selected.next().unwrap()), name(budget), "{shape}");
            assert!(selected.next().is_none(), "{shape}: {}", name(budget));
        }
    }
}

#[test]
fn nobody_talks_to_anybody_but_where_it_is_allowed() {
    for (shape, objects) in shapes() {
        let deny = of_kind(objects, "NetworkPolicy").find(|found| name(found) == "default-deny");
        let deny = &deny.unwrap()["spec"];
        assert_eq!(deny["podSelector"], serde_json::json!({}), "{shape}");
        assert_eq!(
            deny["policyTypes"],
            serde_json::json!(["Ingress", "Egress"])
        );
        assert!(deny["ingress"].is_null() && deny["egress"].is_null());
        for policy in
            of_kind(objects, "NetworkPolicy").filter(|found| name(found) != "default-deny")
        {
            let labels = &policy["spec"]["podSelector"]["matchLabels"];
            let selected: Vec<_> = workloads(objects)
                .filter(|workload| selects(labels, workload))
                .collect();
            assert_eq!(selected.len(), 1, "{shape}: {}", name(policy));
            for rule in all(&policy["spec"]["ingress"]) {
                assert!(
                    !rule["from"].is_null(),
                    "{shape}: {} lets all in",
                    name(policy)
                );
                for port in all(&rule["ports"]) {
                    let mut open = ports(selected[0]).into_iter();
                    assert!(open.any(|found| found["containerPort"] == port["port"]));
                }
            }
            for rule in all(&policy["spec"]["egress"]) {
                assert!(
                    !rule["to"].is_null(),
                    "{shape}: {} goes anywhere",
                    name(policy)
                );
                // Where ours call ours, the port is one that is listened on.
                for peer in all(&rule["to"]).filter(|peer| !peer["podSelector"].is_null()) {
                    let called = &peer["podSelector"]["matchLabels"];
                    let mut called = workloads(objects).filter(|found| selects(called, found));
                    let called = ports(called.next().unwrap());
                    for port in all(&rule["ports"]) {
                        assert!(
                            called
                                .iter()
                                .any(|found| found["containerPort"] == port["port"])
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn prometheus_scrapes_a_port_that_every_pod_has() {
    for (shape, objects) in shapes() {
        for monitor in of_kind(objects, "PodMonitor") {
            let labels = &monitor["spec"]["selector"]["matchLabels"];
            let port = &monitor["spec"]["podMetricsEndpoints"][0]["port"];
            for workload in workloads(objects) {
                assert!(selects(labels, workload), "{shape}: {}", name(workload));
                let mut named = ports(workload).into_iter();
                assert!(named.any(|found| found["name"] == *port), "{shape}");
            }
        }
        for workload in workloads(objects) {
            let annotations = &workload["spec"]["template"]["metadata"]["annotations"];
            let port = annotations["prometheus.io/port"].as_str().unwrap();
            let port = port.parse().ok();
            let mut open = ports(workload).into_iter();
            assert!(open.any(|found| found["containerPort"].as_u64() == port));
        }
    }
}
