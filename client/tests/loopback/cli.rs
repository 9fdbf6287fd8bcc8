//! The program as it is run: arguments in; stdout, stderr, files and an exit code out.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use dual16_proto::v1::{
    AttemptError, JobError, JobState, LayerMeasured, Metrics, Notice, OutputMeasured, StageStarted,
    TaskDone, WayMeasured, event_detail::Detail,
};

use crate::fake::{Fake, JOB};

const RESULT: &str = "{\n  \"job\": \"x\"\n}\n";

/// The program with a clean environment.
pub(crate) fn dual16(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dual16"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DUAL16_")) {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

pub(crate) async fn run(mut command: Command) -> (i32, String, String) {
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    texts(&output)
}

pub(crate) fn texts(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code().unwrap_or(-1),
        text(&output.stdout),
        text(&output.stderr),
    )
}

pub(crate) fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/data/smallmodel")
        .join(path)
}

/// quantize of the small model on `fake`, into `out`.
pub(crate) fn quantize(fake: &Fake, out: &Path, more: &[&str]) -> Command {
    let mut command = dual16(&["quantize", "--server", &fake.url()]);
    command
        .arg(data("model.onnx"))
        .arg("--calib")
        .arg(data("calib"))
        .arg("--out")
        .arg(out);
    command.args(more);
    command
}

fn measured(way: &str, db: f64) -> WayMeasured {
    WayMeasured {
        way: way.to_owned(),
        legal: true,
        metrics: Some(Metrics {
            sqnr_db: Some(db),
            ..Metrics::default()
        }),
        ..WayMeasured::default()
    }
}

/// A fake with a job that went well.
pub(crate) async fn succeeded() -> Fake {
    let fake = Fake::start().await;
    fake.add_artifact("result.json", RESULT.as_bytes());
    fake.add_artifact("converted.safetensors", &[7; 3000]);
    let layer = LayerMeasured {
        layer: "linear2".to_owned(),
        op: "Linear".to_owned(),
        requested: "a16w8".to_owned(),
        effective: "split".to_owned(),
        reason: "13.4 dB is below 30 dB".to_owned(),
        ways: vec![measured("a16w8", 13.42), measured("split", 48.66)],
    };
    let island = Notice {
        code: "FLOAT_ISLAND".to_owned(),
        subject: "resize".to_owned(),
        message: "runs in float".to_owned(),
        ..Notice::default()
    };
    let output = OutputMeasured {
        output: "y".to_owned(),
        ..OutputMeasured::default()
    };
    let stage = StageStarted {
        stage: "observe".to_owned(),
        tasks: 8,
    };
    let done = TaskDone {
        stage: "observe".to_owned(),
        done: 3,
        tasks: 8,
    };
    fake.script(
        vec![
            Detail::StageStarted(stage),
            Detail::TaskDone(done),
            Detail::LayerMeasured(layer),
            Detail::Notice(island),
            Detail::OutputMeasured(Box::new(output)),
        ],
        JobState::Succeeded,
    );
    fake
}

#[tokio::test]
async fn quantize_brings_tables_progress_and_files() {
    let fake = succeeded().await;
    let out = tempfile::tempdir().unwrap();
    let (code, stdout, stderr) = run(quantize(&fake, out.path(), &[])).await;
    assert_eq!(code, 0, "{stderr}");
    for part in [
        "linear2",
        "48.7",
        "resize: runs in float",
        "converted.safetensors",
    ] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
    assert!(
        !stdout.contains('\u{1b}') && !stderr.contains('\u{1b}'),
        "no colours in a pipe"
    );
    assert!(stderr.lines().any(|line| line == "observe 3/8"), "{stderr}");
    assert!(stderr.contains("a16w8 13.4  split 48.7"), "{stderr}");
    assert_eq!(
        fs::read_to_string(out.path().join("result.json")).unwrap(),
        RESULT
    );
    assert_eq!(
        fs::read(out.path().join("converted.safetensors")).unwrap(),
        [7; 3000]
    );
    // The model and eight batches, each once.
    assert_eq!(fake.state().uploads.len(), 9);
}

#[tokio::test]
async fn what_a_model_is_called_is_shown_and_not_obeyed() {
    let fake = succeeded().await;
    let evil = "fc\u{1b}]52;c;aGk=\u{7}\u{1b}[2J\u{9b}1";
    let notice = Notice {
        code: "FLOAT_ISLAND".to_owned(),
        subject: evil.to_owned(),
        message: "runs in float".to_owned(),
        ..Notice::default()
    };
    let layer = LayerMeasured {
        layer: evil.to_owned(),
        effective: "split".to_owned(),
        ways: vec![measured("split", 48.66)],
        ..LayerMeasured::default()
    };
    let told = vec![Detail::Notice(notice), Detail::LayerMeasured(layer)];
    fake.script(told, JobState::Failed);
    let error = JobError {
        message: format!("no Linear is named {evil}"),
        ..JobError::default()
    };
    fake.state().job.error = Some(error);
    fake.state().job.display_name = evil.to_owned();
    for arguments in [
        &["watch", "1"][..],
        &["watch", "1", "--color", "always"],
        &["watch", "1", "--output", "jsonl"],
        &["jobs"],
        &["show", "1"],
    ] {
        let url = fake.url();
        let arguments = [arguments, &["--server", &url]].concat();
        let (_, stdout, stderr) = run(dual16(&arguments)).await;
        let told = stdout + &stderr;
        assert!(told.contains("\\u001b]52"), "{arguments:?}: {told}");
        for order in ["\u{1b}]", "\u{1b}[2J", "\u{7}", "\u{9b}"] {
            assert!(!told.contains(order), "{arguments:?}: {told:?}");
        }
    }
}

#[tokio::test]
async fn json_is_the_result_and_jsonl_every_event() {
    let fake = succeeded().await;
    let out = tempfile::tempdir().unwrap();
    let (code, stdout, _) = run(quantize(&fake, out.path(), &["--output", "json"])).await;
    assert_eq!((code, stdout.as_str()), (0, RESULT));

    let (code, stdout, _) = run(quantize(&fake, out.path(), &["--output", "jsonl"])).await;
    assert_eq!(code, 0);
    let lines = stdout
        .lines()
        .map(serde_json::from_str::<serde_json::Value>);
    let events: Vec<_> = lines.collect::<Result<_, _>>().unwrap();
    assert_eq!(events.len(), 7);
    assert_eq!(events[0]["submitted"]["job"], "jobs/1");
    assert_eq!(events[3]["layer_measured"]["layer"], "linear2");
    assert_eq!(events[6]["state_changed"]["state"], "SUCCEEDED");
}

#[tokio::test]
async fn the_name_of_a_job_on_a_server_is_told_before_anything_of_it() {
    let fake = succeeded().await;
    let out = tempfile::tempdir().unwrap();
    let (_, _, stderr) = run(quantize(&fake, out.path(), &[])).await;
    let told = stderr.find("submitted jobs/1").unwrap();
    assert!(told < stderr.find("observe 3/8").unwrap(), "{stderr}");
}

#[tokio::test]
async fn programs_are_told_of_errors_where_they_read() {
    let fake = succeeded().await;
    fake.script(Vec::new(), JobState::Failed);
    fake.state().job.error = Some(JobError {
        code: "UNKNOWN_NAME".to_owned(),
        message: "no Linear layer is named 'nope'".to_owned(),
        ..JobError::default()
    });
    let url = fake.url();
    for (arguments, code, exit) in [
        (&["watch", "1", "--server", &url][..], "UNKNOWN_NAME", 2),
        (&["show", "2", "--server", &url], "USAGE", 2),
        (&["quantize"], "USAGE", 2),
        (&["quantize", "--linear", "nope"], "USAGE", 2),
        (
            &["show", "1", "--config", "nowhere.toml"],
            "INVALID_CONFIG",
            2,
        ),
    ] {
        let (status, stdout, stderr) =
            run(dual16(&[arguments, &["--output", "json"]].concat())).await;
        assert_eq!(status, exit, "{arguments:?}: {stderr}");
        let told: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(told["error"]["code"], code, "{arguments:?}: {stdout}");
        assert_eq!(told["error"]["exit_code"], exit);
        assert!(told["error"]["message"].is_string() && !stderr.is_empty());
    }
}

#[tokio::test]
async fn all_that_is_missing_is_told_at_once_and_how_it_goes() {
    let (code, _, stderr) = run(dual16(&["quantize"])).await;
    assert_eq!(code, 2);
    for part in [
        "not given: MODEL.onnx, --calib DIR, --out DIR",
        "dual16 quantize MODEL.onnx --calib DIR --out DIR",
    ] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
}

#[tokio::test]
async fn a_mistyped_variable_is_told_and_that_of_another_program_is_not() {
    let mut command = dual16(&["ways"]);
    command.env("DUAL16_TEMPALTE", "a8w8");
    command.env("DUAL16_DATA", "d").env("DUAL16_WORKERS", "2");
    let (code, _, stderr) = run(command).await;
    assert_eq!(code, 0);
    assert_eq!(
        stderr,
        "warning: the variable DUAL16_TEMPALTE means nothing here, is it DUAL16_TEMPLATE?\n"
    );
}

#[tokio::test]
async fn completion_manual_and_version_are_there() {
    let (_, bash, _) = run(dual16(&["completion", "bash"])).await;
    assert!(
        bash.contains("--fixed-scale") && bash.contains("complete -F"),
        "{bash}"
    );
    let (_, page, _) = run(dual16(&["man"])).await;
    assert!(
        page.contains(".TH dual16 1") && page.contains("EXIT CODES"),
        "{page}"
    );
    let (_, page, _) = run(dual16(&["man", "quantize"])).await;
    assert!(
        page.contains(".TH dual16-quantize 1") && page.contains("layer\\-observer"),
        "{page}"
    );
    let (code, _, _) = run(dual16(&["man", "nope"])).await;
    assert_eq!(code, 2);
    let (_, version, _) = run(dual16(&["--version"])).await;
    assert!(version.starts_with("dual16 0.1.0 (commit "), "{version}");
}

#[tokio::test]
async fn detach_prints_the_job_and_leaves() {
    let fake = succeeded().await;
    let mut command = dual16(&["quantize", "--server", &fake.url(), "--detach"]);
    command
        .arg(data("model.onnx"))
        .arg("--calib")
        .arg(data("calib"));
    let (code, stdout, _) = run(command).await;
    assert_eq!((code, stdout.as_str()), (0, "jobs/1\n"));
    assert!(fake.state().watches.is_empty());

    let mut local = dual16(&["quantize", "--detach", "--out", "nowhere"]);
    local
        .arg(data("model.onnx"))
        .arg("--calib")
        .arg(data("calib"));
    let (code, _, stderr) = run(local).await;
    assert!(
        code == 2 && stderr.contains("--detach needs a server"),
        "{code} {stderr}"
    );
}

#[tokio::test]
async fn a_failed_job_tells_everything_and_a_cancelled_one_has_its_own_code() {
    let fake = succeeded().await;
    fake.script(Vec::new(), JobState::Failed);
    fake.state().job.error = Some(JobError {
        code: "INVALID_BATCH".to_owned(),
        message: "calib/003.safetensors: tensor \"x\": nan at [0, 7]".to_owned(),
        task: "jobs/1/tasks/1-3".to_owned(),
        attempts: vec![AttemptError {
            attempt: 1,
            worker: "worker-a".to_owned(),
            message: "nan".to_owned(),
            time: None,
        }],
    });
    let out = tempfile::tempdir().unwrap();
    let (code, _, stderr) = run(quantize(&fake, out.path(), &[])).await;
    assert_eq!(code, 2, "a job's bad input is bad input");
    for part in [
        "INVALID_BATCH",
        "calib/003.safetensors",
        "jobs/1/tasks/1-3",
        "worker-a",
    ] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    let names: Vec<_> = fs::read_dir(out.path()).unwrap().collect();
    assert!(names.is_empty(), "{names:?}");

    fake.script(Vec::new(), JobState::Cancelled);
    let (code, _, stderr) = run(dual16(&["watch", "1", "--server", &fake.url()])).await;
    assert_eq!(
        (code, stderr.as_str()),
        (4, "error: jobs/1 was cancelled\n")
    );
}

#[tokio::test]
async fn commands_on_jobs_answer_in_tables_and_json() {
    let fake = succeeded().await;
    let url = fake.url();
    for (arguments, expected) in [
        (&["jobs"][..], "succeeded"),
        (&["show", "1"], "converted.safetensors"),
        (
            &["show", "jobs/1", "--output", "json"],
            "\"state\":\"SUCCEEDED\"",
        ),
        (&["jobs", "--output", "jsonl"], "\"name\":\"jobs/1\""),
        (&["watch", "1"], "linear2"),
        (&["retry", "1"], "jobs/1 is queued again"),
        (&["delete", "1"], "jobs/1 is deleted"),
        (&["info"], "9.9.9"),
        (&["cancel", "1"], "jobs/1 is cancelled"),
    ] {
        let (code, stdout, stderr) = run(dual16(&[arguments, &["--server", &url]].concat())).await;
        assert_eq!(code, 0, "{arguments:?}: {stderr}");
        assert!(stdout.contains(expected), "{arguments:?}: {stdout}");
    }
    let (code, _, stderr) = run(dual16(&["show", "2", "--server", &url])).await;
    assert!(
        code == 2 && stderr.contains("jobs/2 does not exist"),
        "{code} {stderr}"
    );
    assert_eq!(JOB, "jobs/1");
}

#[tokio::test]
async fn bad_input_is_told_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::create_dir(path("empty")).unwrap();
    let model = data("model.onnx").display().to_string();
    let calib = data("calib").display().to_string();
    let whole = fs::read(&model).unwrap();
    fs::write(path("cut.onnx"), &whole[..whole.len() / 2]).unwrap();
    let out = path("out");
    for (arguments, expected) in [
        (vec![&model, "--calib", &path("empty")], "no batches"),
        (
            vec![&model, "--calib", &path("nowhere")],
            "no such file or folder",
        ),
        (vec![&path("no.onnx"), "--calib", &calib], "no.onnx"),
        (
            vec![&path("cut.onnx"), "--calib", &calib],
            "not a whole ONNX model",
        ),
        (vec![&model], "not given: --calib DIR; the usage is"),
        (
            vec!["--calib", &calib],
            "not given: MODEL.onnx; the usage is",
        ),
        (
            vec![&model, "--calib", &calib, "--weights", &model],
            "both a model and --weights",
        ),
        (
            vec![&model, "--calib", &calib, "--linear", "linear2=int4"],
            "a16w16, auto",
        ),
        (
            vec![&model, "--calib", &calib, "--fixed-scale", "mul=0"],
            "must be finite and > 0",
        ),
        (
            vec![&model, "--calib", &calib, "--observer", "max"],
            "minmax, mse, percentile, kl",
        ),
        (
            vec![&model, "--calib", &calib, "--percentile", "101"],
            "(0, 100]",
        ),
        (
            vec![&model, "--calib", &calib, "--server", "ftp://h:1"],
            "http or https",
        ),
    ] {
        let mut command = dual16(&["quantize", "--out", &out]);
        command.args(&arguments);
        let (code, stdout, stderr) = run(command).await;
        assert_eq!((code, stdout.as_str()), (2, ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
    let (code, _, stderr) = run(dual16(&["jobs"])).await;
    assert!(
        code == 2 && stderr.contains("--server URL"),
        "{code} {stderr}"
    );
}

#[tokio::test]
async fn an_unreachable_server_is_named_soon() {
    // A port that was just free.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let began = std::time::Instant::now();
    let (code, _, stderr) = run(dual16(&["jobs", "--server", &url])).await;
    assert_eq!(code, 3, "{stderr}");
    assert!(
        stderr.contains(&url) && stderr.contains("dual16-server"),
        "{stderr}"
    );
    assert!(began.elapsed().as_secs() < 15, "{:?}", began.elapsed());
}

#[tokio::test]
async fn help_teaches_the_ways_and_the_exit_codes() {
    for (arguments, expected) in [
        (&["--help"][..], "EXIT CODES"),
        (&["help", "ways"], "mul_sum"),
        (&["ways"], "two int8 halves"),
        (&["quantize", "--help"], "DUAL16_FIXED_SCALE"),
    ] {
        let (code, stdout, _) = run(dual16(arguments)).await;
        assert_eq!(code, 0);
        assert!(stdout.contains(expected), "{arguments:?}: {stdout}");
    }
}
