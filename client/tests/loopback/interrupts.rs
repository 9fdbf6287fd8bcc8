//! What somebody's impatience and a full disk leave behind.
#![cfg(unix)]

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use dual16_proto::v1::JobState;

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
