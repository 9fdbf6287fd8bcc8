//! A full disk under `--out`: the error names the file, and nothing half-written stays.

use std::{
    fs,
    process::{Command, Stdio},
};

use dual16_tests::{Dual16, Finished, Results, ServerProcess, WorkerProcess, data::smallmodel};

/// Mounts a disk of 64 KiB on $0, runs the rest on it, and lists what is left there.
const SMALL_DISK: &str = r#"
mkdir -p "$0" && mount -t tmpfs -o size=64k tmpfs "$0" || exit 99
"$@"; code=$?
echo "left: [$(ls -A "$0")]"
exit $code"#;

/// The same where namespaces are not to be had: no file may be longer than 16 KiB.
const SHORT_FILES: &str = r#"
trap '' XFSZ; ulimit -f 16
"$@"; code=$?
echo "left: [$(ls -A "$0")]"
exit $code"#;

#[test]
fn a_full_disk_is_named_and_left_clean_and_the_results_can_still_be_fetched() {
    // A server of its own, so that only the client meets the full disk.
    let server = ServerProcess::start();
    let _worker = WorkerProcess::start(&server, "worker", 1);
    let out = Results::new();

    let full = on_a_full_disk(&out, &server);
    assert_eq!(full.code(), 1, "{full}");
    assert!(full.stderr.contains("converted.safetensors"), "{full}");
    assert!(full.stdout.contains("left: []"), "{full}");
    assert!(!full.stderr.contains("panicked"), "{full}");

    let job = server.ask(&["jobs"])["jobs"][0].clone();
    assert_eq!(job["state"], "SUCCEEDED", "{job:#}");
    let elsewhere = Results::new();
    let name = job["name"].as_str().unwrap();
    Dual16::new(["fetch", name])
        .on(&server)
        .out(&elsewhere.path())
        .run()
        .success();
    assert!(
        fs::metadata(elsewhere.path().join("converted.safetensors"))
            .unwrap()
            .len()
            > 65_536
    );
}

fn on_a_full_disk(out: &Results, server: &ServerProcess) -> Finished {
    let mut shell = match can_mount() {
        true => {
            let mut command = Command::new("unshare");
            command.args(["-rm", "sh", "-c", SMALL_DISK]);
            command
        }
        false => {
            let mut command = Command::new("sh");
            command.args(["-c", SHORT_FILES]);
            command
        }
    };
    shell.arg(out.path());
    Dual16::quantize(&smallmodel())
        .on(server)
        .out(&out.path())
        .inside(shell)
        .run()
}

fn can_mount() -> bool {
    let folder = tempfile::tempdir().unwrap();
    let probe = Command::new("unshare")
        .args(["-rm", "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs"])
        .arg(folder.path())
        .stderr(Stdio::null())
        .status();
    probe.is_ok_and(|status| status.success())
}
