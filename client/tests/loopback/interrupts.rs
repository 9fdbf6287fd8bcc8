//! What somebody's impatience and a full disk leave behind.
#![cfg(unix)]

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use dual16_proto::v1::JobState;

#[cfg(feature = "local")]
use crate::cli::data;
use crate::{
    cli::{dual16, quantize, run, succeeded, texts},
    fake::Fake,
};

#[tokio::test]
async fn a_signal_leaves_a_remote_job_running_and_says_how_to_return() {
    let fake = Fake::start().await;
    fake.script(Vec::new(), JobState::Running);
    fake.state().job_goes_on = true;
    let out = tempfile::tempdir().unwrap();
    let mut command = quantize(&fake, out.path(), &[]);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while fake.state().watches.is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let kill = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(kill.success());

    let output = tokio::task::spawn_blocking(|| child.wait_with_output())
        .await
        .unwrap()
        .unwrap();

    let (code, _, stderr) = texts(&output);
    assert_eq!(code, 130, "{stderr}");
    for part in [
        "goes on running",
        "dual16 watch 1 --server http://",
        "dual16 cancel 1",
    ] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    assert!(!fake.state().cancelled);
}

#[tokio::test]
async fn a_disk_that_takes_no_more_is_named_and_left_clean() {
    let fake = succeeded().await;
    let out = tempfile::tempdir().unwrap();
    // The shell's limit of one block stands for a full disk: a write fails in mid-file.
    let program = dual16(&[]).get_program().to_owned();
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg("trap '' XFSZ; ulimit -f 1; exec \"$@\"")
        .arg("sh")
        .arg(program);
    command
        .args(["fetch", "1", "--server", &fake.url(), "--out"])
        .arg(out.path());
    let (code, _, stderr) = run(command).await;
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("converted.safetensors"), "{stderr}");
    assert!(stderr.contains("nothing half-written was left"), "{stderr}");
    let left: Vec<_> = fs::read_dir(out.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Runs the small model on this machine and interrupts it once calibration runs; false when it was
/// faster than the signal.
#[cfg(feature = "local")]
fn interrupt_local(out: &std::path::Path) -> bool {
    use std::io::{BufRead as _, BufReader};

    let mut command = dual16(&["quantize", "--workers", "1", "--out"]);
    command
        .arg(out)
        .arg(data("model.onnx"))
        .arg("--calib")
        .arg(data("calib"));
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    lines
        .by_ref()
        .find(|line| line.as_ref().unwrap().starts_with("observe 1/"))
        .unwrap()
        .unwrap();
    Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    let rest: Vec<_> = lines.map(Result::unwrap).collect();
    match child.wait().unwrap().code() {
        Some(130) => {
            let told = rest.last().unwrap();
            assert!(
                told.contains("the same command goes on from there"),
                "{told}"
            );
            true
        }
        code => {
            assert_eq!(code, Some(0), "{rest:?}");
            false
        }
    }
}

#[cfg(feature = "local")]
#[tokio::test]
async fn an_interrupted_local_job_goes_on_and_then_cleans_up() {
    let folder = tempfile::tempdir().unwrap();
    let outs = (0..10).map(|index| folder.path().join(index.to_string()));
    let out = outs.into_iter().find(|out| interrupt_local(out)).unwrap();
    let state = out.join(".dual16");

    let mut jobs = dual16(&["jobs", "--data"]);
    jobs.arg(&state);
    let (code, stdout, stderr) = run(jobs).await;
    assert!(
        code == 0 && stdout.contains("cancelled"),
        "{stdout} {stderr}"
    );

    let mut again = dual16(&["quantize", "--out"]);
    again
        .arg(&out)
        .arg(data("model.onnx"))
        .arg("--calib")
        .arg(data("calib"));
    let (code, _, stderr) = run(again).await;

    assert_eq!(code, 0, "{stderr}");
    assert!(
        stderr.contains("going on with what an earlier run"),
        "{stderr}"
    );
    assert!(out.join("result.json").is_file() && !state.exists());
}

#[cfg(feature = "local")]
#[tokio::test]
async fn the_state_of_another_run_stays_and_that_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let outs = (0..10).map(|index| folder.path().join(index.to_string()));
    let out = outs.into_iter().find(|out| interrupt_local(out)).unwrap();

    let mut other = dual16(&["quantize", "--template", "a8w8", "--out"]);
    other
        .arg(&out)
        .arg(data("model.onnx"))
        .arg("--calib")
        .arg(data("calib"));
    let (code, _, stderr) = run(other).await;

    assert_eq!(code, 0, "{stderr}");
    let state = out.join(".dual16");
    let said = format!("{} (", state.display());
    assert!(
        state.is_dir() && stderr.contains(&said) && stderr.contains(" stays: "),
        "{stderr}"
    );
}

#[cfg(feature = "local")]
#[tokio::test]
async fn a_reader_that_goes_away_leaves_no_state_behind() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let mut command = dual16(&["quantize", "--out"]);
    command
        .arg(&out)
        .arg(data("model.onnx"))
        .arg("--calib")
        .arg(data("calib"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let code = tokio::task::spawn_blocking(move || child.wait().unwrap().code());
    assert_eq!(code.await.unwrap(), Some(0));
    assert!(out.join("result.json").is_file() && !out.join(".dual16").exists());
}
