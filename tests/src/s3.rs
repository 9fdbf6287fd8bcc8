//! An S3 server of a test's own with a bucket, to be killed and started again.

use tempfile::TempDir;

use crate::{process::Process, python};

const SCRIPT: &str = "s3_server.py";

/// A running S3 server on loopback; dropped, it is killed.
pub struct S3 {
    process: Process,
    endpoint: String,
    folder: TempDir,
}

impl S3 {
    /// Starts a server, and makes its bucket.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (process, endpoint) = run(&folder);
        Self {
            process,
            endpoint,
            folder,
        }
    }

    /// The URL of a place in its bucket, as `--blobs` takes it.
    pub fn url(&self) -> String {
        "s3://dual16-test/blobs".to_owned()
    }

    /// The variables by which a program finds it.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT", self.endpoint.clone()),
            ("AWS_ALLOW_HTTP", "true".into()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_ACCESS_KEY_ID", "dual16".into()),
            ("AWS_SECRET_ACCESS_KEY", "dual16-secret".into()),
        ]
    }

    /// Flips a bit of the blob that is called `sha256:HEX` and lies below [`S3::url`].
    pub fn flip(&self, digest: &str) {
        let hex = digest.trim_start_matches("sha256:");
        let key = format!("blobs/sha256/{}/{hex}", &hex[..2]);
        python::run(SCRIPT, &["flip", &self.endpoint, &key]).success();
    }

    /// Ends it with SIGKILL and starts it again with what it had, at the same address.
    pub fn restart(&mut self) {
        self.process.kill();
        (self.process, self.endpoint) = run(&self.folder);
    }
}

fn run(folder: &TempDir) -> (Process, String) {
    let folder = folder.path().to_str().unwrap();
    let process = python::start(SCRIPT, &["run", folder]);
    let ready = python::run(SCRIPT, &["wait", folder]).success();
    (process, ready.stdout.trim().to_owned())
}
