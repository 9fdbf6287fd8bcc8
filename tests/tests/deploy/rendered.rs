//! The shapes that people apply: each overlay alone, with each component, and with all.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use dual16_tests::{data::repository, python};
use serde_json::Value;

/// The oldest Kubernetes that has all that the manifests ask for, and the newest with a schema.
const VERSIONS: &str = "1.31,1.37";

/// Each shape, and what an overlay of one's own names beside an overlay of ours.
const SHAPES: &[(&str, &str, &[&str])] = &[
    ("single", "single", &[]),
    ("single-monitoring", "single", &["monitoring"]),
    ("single-all", "single", &["tls", "keda", "monitoring"]),
    ("scaled", "scaled", &[]),
    ("scaled-tls", "scaled", &["tls"]),
    ("scaled-presign", "scaled", &["presign"]),
    (
        "scaled-all",
        "scaled",
        &["tls", "keda", "monitoring", "presign"],
    ),
];

/// The objects of each shape.
pub(crate) type Shapes = BTreeMap<String, Vec<Value>>;

/// All shapes, rendered and held against the schemas of Kubernetes.
pub(crate) fn shapes() -> &'static Shapes {
    static SHAPES: OnceLock<Shapes> = OnceLock::new();
    SHAPES.get_or_init(render)
}

fn render() -> Shapes {
    let copy = tempfile::tempdir().unwrap();
    copy_folder(&repository().join("deploy"), copy.path());
    let mut arguments = vec![VERSIONS.to_owned()];
    for (name, overlay, components) in SHAPES {
        let folder = copy.path().join("overlays").join(format!("{name}.test"));
        let components = components.iter();
        let components: String = components
            .map(|component| format!("  - ../../components/{component}\n"))
            .collect();
        let kustomization = format!(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: dual16\n\
             resources:\n  - ../{overlay}\ncomponents:\n{components}images:\n  - name: dual16\n    \
             newName: registry.example/dual16\n    newTag: 1.2.3\n"
        );
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("kustomization.yaml"), kustomization).unwrap();
        arguments.push(folder.to_str().unwrap().to_owned());
    }
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let rendered = python::run("manifests.py", &arguments).success();
    let rendered: Shapes = serde_json::from_str(&rendered.stdout).unwrap();
    assert_eq!(rendered.len(), SHAPES.len());
    let named = rendered.into_iter();
    named
        .map(|(name, objects)| (name.strip_suffix(".test").unwrap().to_owned(), objects))
        .collect()
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        let copy = to.join(path.file_name().unwrap());
        if path.is_dir() {
            fs::create_dir(&copy).unwrap();
            copy_folder(&path, &copy);
        } else {
            fs::copy(&path, copy).unwrap();
        }
    }
}

/// The objects of one kind.
pub(crate) fn of_kind<'a>(objects: &'a [Value], kind: &str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

/// What the object is called.
pub(crate) fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

/// Whatever starts pods.
pub(crate) fn workloads(objects: &[Value]) -> impl Iterator<Item = &Value> {
    objects
        .iter()
        .filter(|object| !object["spec"]["template"]["spec"]["containers"].is_null())
}

/// The entries of a list; none where there is no list.
pub(crate) fn all(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// The one container of a workload.
pub(crate) fn container(workload: &Value) -> &Value {
    let containers = workload["spec"]["template"]["spec"]["containers"].as_array();
    let [container] = &containers.unwrap()[..] else {
        panic!("{}: more than one container", name(workload))
    };
    container
}

/// The variables that a workload's container gets from this shape, those of secrets left out.
pub(crate) fn environment(objects: &[Value], workload: &Value) -> BTreeMap<String, String> {
    let container = container(workload);
    let mut found = BTreeMap::new();
    for source in all(&container["envFrom"]) {
        let Some(map) = source["configMapRef"]["name"].as_str() else {
            continue;
        };
        let mut maps = of_kind(objects, "ConfigMap").filter(|object| name(object) == map);
        let data = maps.next().unwrap()["data"].as_object().unwrap();
        let pairs = data.iter();
        found.extend(pairs.map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned())));
    }
    for variable in all(&container["env"]) {
        let text = |field: &str| variable[field].as_str().unwrap().to_owned();
        found.insert(text("name"), text("value"));
    }
    found
}

#[test]
fn every_shape_renders_and_has_its_server_and_its_workers() {
    for (shape, objects) in shapes() {
        let kind = if shape.starts_with("single") {
            "StatefulSet"
        } else {
            "Deployment"
        };
        let servers: Vec<_> = workloads(objects)
            .filter(|workload| name(workload) == "dual16-server")
            .collect();
        let [server] = &servers[..] else {
            panic!("{shape}: {} servers", servers.len())
        };
        assert_eq!(server["kind"], kind, "{shape}");
        let replicas = if kind == "StatefulSet" { 1 } else { 3 };
        assert_eq!(server["spec"]["replicas"], replicas, "{shape}");
        let workers = of_kind(objects, "Deployment").find(|object| name(object) == "dual16-worker");
        // With KEDA nobody else says how many.
        let counted = workers.unwrap()["spec"]["replicas"].is_null();
        assert_eq!(counted, shape.ends_with("-all"), "{shape}");
    }
}

#[test]
fn a_field_that_is_mistyped_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let kustomization = "resources: [budget.yaml]\n";
    fs::write(folder.path().join("kustomization.yaml"), kustomization).unwrap();
    let budget = "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata:\n  name: a\nspec:\n  \
                  maxUnavailible: 1\n";
    fs::write(folder.path().join("budget.yaml"), budget).unwrap();
    let refused = python::run("manifests.py", &[VERSIONS, folder.path().to_str().unwrap()]);
    assert_eq!(refused.code(), 1, "{refused}");
    let told = refused.stderr.matches("maxUnavailible").count();
    assert_eq!(told, 2, "by the schemas of both versions: {refused}");
}
