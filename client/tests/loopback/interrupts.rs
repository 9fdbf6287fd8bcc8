//! What somebody's impatience leaves behind.
#![cfg(unix)]

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use dual16_proto::v1::JobState;

#[cfg(feature = "local")]
use crate::cli::data;
use crate::{
    cli::{dual16, quantize, run, texts},
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

/// Quantizes the small model on this machine.
#[cfg(feature = "local")]
fn local(out: &std::path::Path, flags: &[&str]) -> Command {
    let mut command = dual16(&["quantize"]);
    command.args(flags).arg("--out").arg(out);
    command.arg(data("model.onnx"));
    command.arg("--calib").arg(data("calib"));
    command
}

/// Interrupts that once calibration runs; false when it was faster than the signal.
#[cfg(feature = "local")]
fn interrupt_local(out: &std::path::Path) -> bool {
    use std::io::{BufRead as _, BufReader};

    let mut command = local(out, &["--workers", "1"]);
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
async fn the_state_of_another_run_stays_and_that_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let outs = (0..10).map(|index| folder.path().join(index.to_string()));
    let out = outs.into_iter().find(|out| interrupt_local(out)).unwrap();

    let state = out.join(".dual16");
    let mut jobs = dual16(&["jobs", "--data"]);
    jobs.arg(&state);
    let (code, stdout, stderr) = run(jobs).await;
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("cancelled"), "{stdout}");
    let other = local(&out, &["--template", "a8w8"]);
    let (code, _, stderr) = run(other).await;

    assert_eq!(code, 0, "{stderr}");
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
    let mut command = local(&out, &[]);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let code = tokio::task::spawn_blocking(move || child.wait().unwrap().code());
    assert_eq!(code.await.unwrap(), Some(0));
    assert!(out.join("result.json").is_file() && !out.join(".dual16").exists());
}
