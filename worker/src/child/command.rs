//! How a process of a job's tasks is started: with next to nothing of what surrounds the worker.

use std::{
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
};

use super::ChildProgram;

/// What of the environment a process gets: no token, nothing that a result could depend on, and no wish
/// for backtraces, in which its last words would drown.
const ENVIRONMENT: [&str; 4] = [
    "PATH",
    "LD_LIBRARY_PATH",
    "LLVM_PROFILE_FILE",
    "RUST_MIN_STACK",
];

/// glibc: what is at least so large is given back to the system as soon as it is freed. By default the
/// bound grows with what is freed, and a model's weights stay in the heap. Of what is smaller 32 MiB are
/// kept: to give back less and ask for it again cost a job of 0.7 s a twentieth of its time.
const ALLOCATOR: [(&str, &str); 3] = [
    ("MALLOC_MMAP_THRESHOLD_", "1000000"),
    ("MALLOC_TRIM_THRESHOLD_", "33554432"),
    ("MALLOC_ARENA_MAX", "2"),
];

/// The command, without its stdin and stdout. Temporary files go to `folder`.
pub(super) fn command(program: &ChildProgram, job: &str, folder: &Path) -> Command {
    let kept = ENVIRONMENT.iter();
    let kept = kept.filter_map(|&name| Some((name, std::env::var_os(name)?)));
    let mut command = Command::new(&program.program);
    command
        .arg0(format!("dual16 tasks of {job}"))
        .args(&program.args)
        .env_clear()
        .envs(kept)
        .envs(ALLOCATOR)
        .env("TMPDIR", folder)
        .stderr(Stdio::piped())
        // Ctrl-C at a terminal is the worker's to hear.
        .process_group(0);
    command
}
