//! The live page of a server: who is let in, what each sees, and the page itself in a browser.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use dual16_tests::{
    Dual16, Results, ServerProcess, WorkerProcess,
    data::smallmodel,
    ops::{self, Answer},
    process::Process,
    programs::program,
    python,
    results::PAGE,
};
use serde_json::Value;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

/// A server with a live page, and tokens of two submitters and a worker.
struct Live {
    server: ServerProcess,
    page: String,
    folder: TempDir,
}

impl Live {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut entries = String::new();
        for (principal, role) in [("ann", "submit"), ("bob", "submit"), ("works", "worker")] {
            let mut command = Command::new(program("dual16-server"));
            command.args(["token", "new", "--principal", principal, "--role", role]);
            let made = Process::spawn("token new", command).wait(LIMIT).success();
            entries += &made.stderr;
            fs::write(folder.path().join(principal), made.stdout).unwrap();
        }
        let tokens = folder.path().join("tokens");
        fs::write(&tokens, entries).unwrap();
        let port = folder.path().join("page");
        let server = ServerProcess::start_with(&[
            "--tokens",
            text(&tokens),
            "--page-listen",
            "127.0.0.1:0",
            "--page-port-file",
            text(&port),
        ]);
        let page = fs::read_to_string(port).unwrap().trim().to_owned();
        Self {
            server,
            page,
            folder,
        }
    }

    fn token(&self, principal: &str) -> PathBuf {
        self.folder.path().join(principal)
    }

    fn worker(&self) -> WorkerProcess {
        let token = self.token("works");
        WorkerProcess::start_with(&self.server, "worker", &["--token-file", text(&token)])
    }

    fn submit(&self, principal: &str) -> String {
        let quantize = Dual16::quantize(&smallmodel());
        let token = self.token(principal);
        self.server.submit(quantize.arg("--token-file").arg(token))
    }

    /// What the page's port answers to whoever brings this token, if any.
    fn get(&self, path: &str, principal: Option<&str>) -> Answer {
        let token = principal.map(|principal| {
            let token = fs::read_to_string(self.token(principal)).unwrap();
            ("authorization", format!("Bearer {}", token.trim()))
        });
        ops::get_with(&self.page, path, token.as_slice())
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_job_is_followed_in_a_browser_by_whoever_has_the_token() {
    let live = Live::start();
    let job = live.submit("ann");
    live.submit("bob");
    let _worker = live.worker();
    let url = format!("http://{}/", live.page);
    let token = live.token("ann");
    python::run("live_page.py", &[&url, text(&token), &job]).success();
}

#[test]
fn a_job_that_only_planned_has_no_report() {
    let live = Live::start();
    let _worker = live.worker();
    let model = smallmodel();
    let plan = Dual16::new(["plan", "--output", "jsonl"])
        .arg(model.join("model.onnx"))
        .arg("--calib")
        .arg(model.join("calib"))
        .on(&live.server)
        .arg("--token-file")
        .arg(live.token("ann"))
        .run()
        .success();
    let submitted: Value = serde_json::from_str(plan.stdout.lines().next().unwrap()).unwrap();
    let job = submitted["submitted"]["job"].as_str().unwrap();
    let none = live.get(&format!("/api/{job}/report.html"), Some("ann"));
    assert_eq!(none.status, 404, "{}", none.body);
    assert!(none.body.contains("result.json"), "{}", none.body);
}

#[test]
fn each_sees_its_own_jobs_as_in_the_api_and_strangers_none() {
    let live = Live::start();
    let job = live.submit("ann");
    let _worker = live.worker();
    // Ends with the job.
    let events = live.get(&format!("/api/{job}/events?after=0"), Some("ann"));
    assert_eq!(events.status, 200);
    assert!(
        events.body.contains("\"state\":\"SUCCEEDED\""),
        "{}",
        events.body
    );
    let ids: Vec<u64> = events
        .body
        .lines()
        .filter_map(|line| line.strip_prefix("id: ")?.parse().ok())
        .collect();
    assert!(ids.iter().copied().eq(1..=ids.len() as u64), "{ids:?}");
    let later = live.get(&format!("/api/{job}/events?after=2"), Some("ann"));
    assert!(later.body.starts_with("id: 3\n"), "{}", later.body);

    let paths = [
        format!("/api/{job}"),
        format!("/api/{job}/events?after=0"),
        format!("/api/{job}/artifacts/result.json"),
        format!("/api/{job}/artifacts/handoff%2FREADME.md"),
        format!("/api/{job}/report.html"),
    ];
    for path in &paths {
        assert_eq!(live.get(path, Some("ann")).status, 200, "{path}");
        assert_eq!(live.get(path, Some("bob")).status, 404, "{path}");
        assert_eq!(live.get(path, Some("works")).status, 403, "{path}");
        assert_eq!(live.get(path, None).status, 401, "{path}");
    }
    let listed = |principal| {
        let answer = live.get("/api/jobs", Some(principal));
        let listed: Value = serde_json::from_str(&answer.body).unwrap();
        listed["jobs"].as_array().unwrap().len()
    };
    assert_eq!((listed("ann"), listed("bob")), (1, 0));
    let result = live.get(&paths[2], Some("ann"));
    let result: Value = serde_json::from_str(&result.body).unwrap();
    assert_eq!(result["model"], "model.onnx");
    let none = live.get(&format!("/api/{job}/artifacts/nothing"), Some("ann"));
    assert_eq!(none.status, 404, "{}", none.body);
    let report = live.get(&paths[4], Some("ann"));
    assert!(
        report.head.contains("content-disposition: attachment"),
        "{}",
        report.head
    );
    let out = Results::new();
    Dual16::new(["report", &job])
        .on(&live.server)
        .arg("--token-file")
        .arg(live.token("ann"))
        .out(&out.path())
        .run()
        .success();
    let its = fs::read_to_string(out.path().join(PAGE)).unwrap();
    assert!(report.body == its, "not what `dual16 report` makes");

    let page = live.get("/", None);
    assert_eq!(page.status, 200);
    for header in [
        "content-security-policy: default-src 'none'",
        "x-content-type-options: nosniff",
    ] {
        assert!(page.head.contains(header), "{header}: {}", page.head);
    }
}
