//! A SeaweedFS server of a test's own, one process with a bucket, to be killed and started again. It is
//! among the Python packages that `./test` installs.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{process::Process, python};

const START_LIMIT: Duration = Duration::from_secs(60);
const BUCKET: &str = "blobs";

/// A running S3 server on loopback; dropped, it is killed.
pub struct S3 {
    process: Process,
    ports: [u16; 8],
    folder: TempDir,
}

impl S3 {
    /// Starts a server, and makes its bucket.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Held together, so that each is another's.
        let held = [(); 8].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = [0, 1, 2, 3, 4, 5, 6, 7].map(|i: usize| held[i].local_addr().unwrap().port());
        drop(held);
        let process = run(&folder, &ports);
        let server = Self {
            process,
            ports,
            folder,
        };
        server.wait();
        server
    }

    /// The URL of its bucket, as `--blobs` takes it.
    pub fn url(&self) -> String {
        format!("s3://{BUCKET}/dual16")
    }

    /// The variables by which a program finds it.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT", format!("http://127.0.0.1:{}", self.port())),
            ("AWS_ALLOW_HTTP", "true".into()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_ACCESS_KEY_ID", "test".into()),
            ("AWS_SECRET_ACCESS_KEY", "test".into()),
        ]
    }

    /// Ends it with SIGKILL and starts it again with what it had.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = run(&self.folder, &self.ports);
        self.wait();
    }

    fn port(&self) -> u16 {
        self.ports[0]
    }

    /// Waits until an object can be written; the bucket is made on the way.
    fn wait(&self) {
        let deadline = Instant::now() + START_LIMIT;
        let put = |path: &str| self.put(path).is_ok_and(|answer| answer.contains(" 200 "));
        while !(put(&format!("/{BUCKET}")) || put(&format!("/{BUCKET}/probe")))
            || !put(&format!("/{BUCKET}/probe"))
        {
            assert!(Instant::now() < deadline, "the S3 server does not start");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// The status line of the answer to an empty PUT.
    fn put(&self, path: &str) -> std::io::Result<String> {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port()))?;
        connection.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(
            connection,
            "PUT {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer.lines().next().unwrap_or_default().to_owned())
    }
}

fn run(folder: &TempDir, ports: &[u16; 8]) -> Process {
    let mut command = Command::new(python::interpreter().with_file_name("weed"));
    command.args(["server", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]);
    command.args([
        "-master.telemetry=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]);
    command.arg("-master.volumeSizeLimitMB=64");
    command.arg(format!("-dir={}", folder.path().display()));
    let names = [
        "s3.port",
        "s3.port.grpc",
        "master.port",
        "master.port.grpc",
        "volume.port",
        "volume.port.grpc",
        "filer.port",
        "filer.port.grpc",
    ];
    for (name, port) in names.iter().zip(ports) {
        command.arg(format!("-{name}={port}"));
    }
    command.current_dir(folder.path());
    Process::spawn("weed", command)
}
