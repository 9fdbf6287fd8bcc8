//! Hands the commit that is built to `--version`: from git, or from `DUAL16_COMMIT` where the sources
//! come without it. It runs again when the commit changes, and not else.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=DUAL16_COMMIT");
    // Both move with a commit: HEAD names a branch or a commit, its log grows with each.
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", file]).filter(|path| exists(path)) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let given = std::env::var("DUAL16_COMMIT").ok();
    let commit = given
        .filter(|commit| !commit.is_empty())
        .or_else(|| git(&["rev-parse", "--short=10", "HEAD"]))
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=DUAL16_BUILT_FROM={commit}");
}

/// Where a file is named that is not there, cargo would run this each time.
fn exists(path: &str) -> bool {
    std::path::Path::new(path).exists()
}

/// What git says of this folder; nothing where there is no git or no repository.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}
