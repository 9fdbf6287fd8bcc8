//! The Kubernetes manifests: what kustomize makes of them, where kubectl is there to do it.

use std::{fs, process::Command};

use dual16_tests::data::repository;

#[test]
fn the_overlay_single_is_one_server_and_workers_that_scale() {
    let overlay = repository().join("deploy/overlays/single");
    assert!(
        overlay.join("kustomization.yaml").is_file(),
        "{}",
        overlay.display()
    );
    let rendered = Command::new("kubectl")
        .arg("kustomize")
        .arg(&overlay)
        .output();
    let rendered = match rendered {
        Ok(output) => {
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{stderr}");
            String::from_utf8(output.stdout).unwrap()
        }
        Err(_) => {
            println!("kubectl is not installed: the manifests are read but not rendered");
            manifests()
        }
    };
    for kind in ["StatefulSet", "Deployment", "Service"] {
        let line = format!("kind: {kind}");
        let count = rendered.lines().filter(|found| **found == line).count();
        assert!(count >= 1, "no {kind} in\n{rendered}");
    }
    for part in [
        "dual16-server",
        "dual16-worker",
        "readinessProbe",
        "resources:",
        "runAsNonRoot",
        "secretName: dual16-server-tls",
        "secretName: dual16-server-tokens",
        "secretName: dual16-worker-access",
        "name: default-deny",
        "kind: ResourceQuota",
    ] {
        assert!(rendered.contains(part), "no {part} in\n{rendered}");
    }
}

/// Every YAML file under deploy/, one after the other.
fn manifests() -> String {
    let mut folders = vec![repository().join("deploy")];
    let mut text = String::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "yaml")
            {
                text += &fs::read_to_string(&path).unwrap();
            }
        }
    }
    text
}
