//! What runs in the pods, and as whom: probes, time to end in, rights, one image, what they mount and what they use.

use std::fs;

use dual16_tests::data::repository;
use serde_json::{Value, json};

use crate::rendered::{all, container, environment, name, of_kind, shapes, workloads};

/// Seconds that a server may take to close its store after the drain, and a worker to give tasks back.
const CLOSING: u64 = 5;

#[test]
fn a_pod_has_longer_to_end_than_its_program_takes() {
    for (shape, objects) in shapes() {
        for workload in workloads(objects) {
            let variable = match name(workload) {
                "dual16-server" => "DUAL16_DRAIN_DEADLINE",
                _ => "DUAL16_DRAIN_SECONDS",
            };
            let drain: u64 = environment(objects, workload)[variable].parse().unwrap();
            let before = &container(workload)["lifecycle"]["preStop"]["sleep"]["seconds"];
            let before = before.as_u64().unwrap_or_default();
            let pod = &workload["spec"]["template"]["spec"];
            let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
            assert!(
                grace > before + drain + CLOSING,
                "{shape}: {}: {grace} s for {before} + {drain} + {CLOSING}",
                name(workload)
            );
            // Connections are sent elsewhere before a server stops to take them.
            assert!(name(workload) != "dual16-server" || before > 0, "{shape}");
        }
    }
}

#[test]
fn probes_ask_the_ops_port_for_what_it_answers() {
    for (shape, objects) in shapes() {
        for workload in workloads(objects) {
            let container = container(workload);
            let listen = &environment(objects, workload)["DUAL16_OPS_LISTEN"];
            let ops = all(&container["ports"]).find(|port| port["name"] == "ops");
            let port = ops.unwrap()["containerPort"].to_string();
            assert_eq!(*listen, format!("0.0.0.0:{port}"), "{shape}");
            let path = |probe: &str| {
                let get = &container[probe]["httpGet"];
                assert_eq!(get["port"], "ops", "{shape}: {}: {probe}", name(workload));
                get["path"].as_str().unwrap()
            };
            assert_eq!(path("readinessProbe"), "/readyz");
            assert_eq!(path("livenessProbe"), "/livez");
            // Only a server has something to open before it answers.
            if name(workload) == "dual16-server" {
                assert_eq!(path("startupProbe"), "/readyz");
            }
        }
    }
}

#[test]
fn pods_have_no_right_that_they_do_not_need() {
    for (shape, objects) in shapes() {
        let namespace = of_kind(objects, "Namespace").next().unwrap();
        let labels = &namespace["metadata"]["labels"];
        assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");
        for workload in workloads(objects) {
            let pod = &workload["spec"]["template"]["spec"];
            let who = format!("{shape}: {}", name(workload));
            assert_eq!(pod["automountServiceAccountToken"], false, "{who}");
            assert_eq!(pod["enableServiceLinks"], false, "{who}");
            let security = &pod["securityContext"];
            assert_eq!(security["runAsNonRoot"], true, "{who}");
            assert_eq!(security["runAsUser"], 10001, "{who}");
            assert_eq!(
                security["seccompProfile"]["type"], "RuntimeDefault",
                "{who}"
            );
            let expected = json!({
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            });
            assert_eq!(container(workload)["securityContext"], expected, "{who}");
        }
    }
}

#[test]
fn one_image_is_everywhere_and_an_overlay_of_ones_own_names_it() {
    for (shape, objects) in shapes() {
        for workload in workloads(objects) {
            let image = &container(workload)["image"];
            assert_eq!(image, "registry.example/dual16:1.2.3", "{shape}");
        }
    }
}

#[test]
fn the_version_of_the_programs_is_the_tag_wherever_one_is_named() {
    let version = env!("CARGO_PKG_VERSION");
    for (file, line) in [
        (
            "overlays/single/kustomization.yaml",
            format!("newTag: {version}"),
        ),
        (
            "overlays/scaled/kustomization.yaml",
            format!("newTag: {version}"),
        ),
        ("compose.yaml", format!("image: dual16:{version}")),
        ("Dockerfile", format!("ARG VERSION={version}")),
    ] {
        let text = fs::read_to_string(repository().join("deploy").join(file)).unwrap();
        assert!(
            text.lines().any(|found| found.trim() == line),
            "{file}: {line}"
        );
    }
}

#[test]
fn what_is_mounted_is_there_and_what_is_set_points_into_it() {
    for (shape, objects) in shapes() {
        for workload in workloads(objects) {
            let pod = &workload["spec"]["template"]["spec"];
            let claims = all(&workload["spec"]["volumeClaimTemplates"]);
            let volumes: Vec<&Value> = all(&pod["volumes"])
                .map(|volume| &volume["name"])
                .chain(claims.map(|claim| &claim["metadata"]["name"]))
                .collect();
            let mounts: Vec<&Value> = all(&container(workload)["volumeMounts"]).collect();
            let used: Vec<&Value> = mounts.iter().map(|mount| &mount["name"]).collect();
            for volume in &volumes {
                assert!(used.contains(volume), "{shape}: {volume} is not mounted");
            }
            assert_eq!(used.len(), volumes.len(), "{shape}: {used:?} {volumes:?}");
            let paths: Vec<_> = mounts
                .iter()
                .map(|mount| mount["mountPath"].as_str().unwrap())
                .collect();
            // The rest of the file system is read-only, and has no secrets.
            for (variable, value) in environment(objects, workload) {
                let path = value.starts_with('/');
                assert!(
                    !path || paths.iter().any(|mounted| value.starts_with(mounted)),
                    "{shape}: {variable}={value} lies in none of {paths:?}"
                );
            }
        }
    }
}

#[test]
fn the_quota_has_room_for_all_pods_and_one_more_of_each() {
    for (shape, objects) in shapes() {
        let quota = of_kind(objects, "ResourceQuota").next().unwrap();
        let hard = &quota["spec"]["hard"];
        let scaled = of_kind(objects, "ScaledObject").next();
        let most = |workload: &Value| {
            let scaled = scaled.filter(|scaled| {
                scaled["spec"]["scaleTargetRef"]["name"] == workload["metadata"]["name"]
            });
            let fixed = &workload["spec"]["replicas"];
            let replicas = scaled.map_or(fixed, |scaled| &scaled["spec"]["maxReplicaCount"]);
            // A rollout has one more.
            replicas.as_f64().unwrap() + 1.0
        };
        let sum = |list: &str, resource: &str| {
            let each = workloads(objects).map(|workload| {
                let amount = &container(workload)["resources"][list][resource];
                most(workload) * quantity(amount)
            });
            each.sum::<f64>()
        };
        assert!(
            sum("requests", "cpu") <= quantity(&hard["requests.cpu"]),
            "{shape}"
        );
        for list in ["requests", "limits"] {
            let allowed = quantity(&hard[format!("{list}.memory")]);
            assert!(sum(list, "memory") <= allowed, "{shape}: {list}");
        }
        let pods: f64 = workloads(objects).map(most).sum();
        assert!(pods <= quantity(&hard["pods"]), "{shape}");
    }
}

/// A quantity as a number: "250m", "8Gi", "32".
fn quantity(text: &Value) -> f64 {
    let text = text.as_str().unwrap();
    let digits = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" => 1.0,
        "m" => 0.001,
        "Mi" => f64::from(1 << 20),
        "Gi" => f64::from(1 << 30),
        other => panic!("{text}: the unit {other} is new"),
    };
    digits.parse::<f64>().unwrap() * unit
}
