//! A real Prometheus scrapes a real server and a real worker: every panel of the dashboard shows something, every rule
//! is evaluated, and every metric that either names is there.

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use dual16_tests::{
    Dual16, Process, ServerProcess, WorkerProcess,
    data::{repository, smallmodel},
    ops::get,
    tools::tool,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{rendered::all, rules};

const LIMIT: Duration = Duration::from_secs(120);
/// What Grafana would put for its variable, with a scrape a second.
const INTERVAL: &str = "30s";

struct Prometheus {
    address: String,
    _process: Process,
    _folder: TempDir,
}

impl Prometheus {
    /// Scrapes each of these addresses every second, with the labels that a PodMonitor gives.
    fn start(scraped: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let rules = folder.path().join("rules.yaml");
        fs::write(&rules, rules::rules().to_string()).unwrap();
        let targets: Vec<_> = scraped
            .iter()
            .map(|(container, address)| {
                let labels = json!({"container": container, "pod": format!("{container}-0")});
                json!({"targets": [address], "labels": labels})
            })
            .collect();
        let config = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [rules],
            "scrape_configs": [{"job_name": "dual16", "static_configs": targets}],
        });
        let file = folder.path().join("prometheus.yaml");
        fs::write(&file, config.to_string()).unwrap();
        // It does not tell which port it has got where it may choose.
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let mut command = Command::new(tool("prometheus"));
        command.arg(format!("--config.file={}", file.display()));
        let data = folder.path().join("data");
        command.arg(format!("--storage.tsdb.path={}", data.display()));
        command.arg(format!("--web.listen-address={address}"));
        let mut process = Process::spawn("prometheus", command);
        let deadline = Instant::now() + LIMIT;
        while std::net::TcpStream::connect(&address).is_err()
            || get(&address, "/-/ready").status != 200
        {
            assert!(process.is_running(), "{}", process.stderr());
            assert!(Instant::now() < deadline, "{}", process.stderr());
            thread::sleep(Duration::from_millis(50));
        }
        Self {
            address,
            _process: process,
            _folder: folder,
        }
    }

    fn ask(&self, path: &str) -> Value {
        let answer = get(&self.address, path);
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(body["status"], "success", "{path}: {body}");
        body["data"].clone()
    }

    /// The series that an expression gives now.
    fn query(&self, expression: &str) -> Vec<Value> {
        let encoded = expression.bytes().map(|byte| format!("%{byte:02X}"));
        let path = format!("/api/v1/query?query={}", encoded.collect::<String>());
        let found = self.ask(&path);
        found["result"].as_array().unwrap().clone()
    }

    /// Waits until an expression gives something.
    fn wait_for(&self, expression: &str) {
        let deadline = Instant::now() + LIMIT;
        while self.query(expression).is_empty() {
            assert!(Instant::now() < deadline, "no {expression}");
            thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Each panel's title and its expressions, as Grafana would send them.
fn panels() -> Vec<(String, String)> {
    let file = repository().join("deploy/components/monitoring/dual16.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let mut expressions = Vec::new();
    for panel in all(&dashboard["panels"]) {
        let title = panel["title"].as_str().unwrap();
        for target in all(&panel["targets"]) {
            let expression = target["expr"].as_str().unwrap();
            let expression = expression.replace("$__rate_interval", INTERVAL);
            assert!(!expression.contains('$'), "{title}: {expression}");
            expressions.push((title.to_owned(), expression));
        }
    }
    expressions
}

/// The metrics that an expression names.
fn metrics(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("dual16_"))
}

#[test]
fn every_panel_and_every_rule_is_about_metrics_that_are_there() {
    let server = ServerProcess::start();
    let worker = WorkerProcess::start(&server, "worker", 2);
    let ops = worker.ops();
    let prometheus = Prometheus::start(&[("server", server.ops()), ("worker", &ops)]);
    prometheus.wait_for("dual16_server_reachable == 1");
    prometheus.wait_for("dual16_open_jobs == 0");
    // A job that measures every way and succeeds, and a call that fails.
    let job = server.submit(Dual16::quantize(&smallmodel()).args(["--linear", "*=auto"]));
    let unknown = ["show", "jobs/00000000-0000-7000-8000-000000000000"];
    let refused = Dual16::new(unknown).on(&server).run();
    assert!(!refused.status.success());
    server.wait_for(&job, LIMIT, |job| job["state"] == "SUCCEEDED");
    prometheus.wait_for(r#"dual16_jobs_total{state="succeeded"} == 1"#);
    prometheus.wait_for(r#"count_over_time(dual16_jobs_total{state="succeeded"}[30s]) > 1"#);

    let panels = panels();
    assert!(panels.len() > 20, "{panels:?}");
    for (title, expression) in &panels {
        let shown = prometheus.query(expression);
        assert!(!shown.is_empty(), "{title} shows nothing: {expression}");
    }
    let loaded = prometheus.ask("/api/v1/rules");
    let loaded: Vec<Value> = all(&loaded["groups"])
        .flat_map(|group| all(&group["rules"]).cloned())
        .collect();
    let spec = rules::rules();
    assert_eq!(loaded.len(), all(&spec["groups"][0]["rules"]).count());
    for rule in &loaded {
        assert_eq!(rule["health"], "ok", "{rule}");
        assert_eq!(rule["state"], "inactive", "nothing is wrong: {rule}");
    }
    let rules = loaded.iter().map(|rule| rule["query"].as_str().unwrap());
    let expressions = panels.iter().map(|(_, expression)| expression.as_str());
    let named: BTreeSet<&str> = expressions.chain(rules).flat_map(metrics).collect();
    assert!(named.len() > 20, "{named:?}");
    for metric in named {
        let series = prometheus.query(&format!("count({metric})"));
        assert!(!series.is_empty(), "there is no metric {metric}");
    }
}
