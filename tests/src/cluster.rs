//! A server and its workers as processes on loopback, with their state in temporary folders.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    cli::Dual16,
    process::{Finished, Process},
    programs::program,
};

const START_LIMIT: Duration = Duration::from_secs(60);

/// Seconds after which the tasks of a silent worker go to others: short, so that a test need not
/// wait for long, and long enough for a worker on a busy machine.
const LEASE_SECONDS: &str = "5";

/// A `dual16-server`.
pub struct ServerProcess {
    process: Process,
    address: String,
    flags: Vec<String>,
    data: TempDir,
}

impl ServerProcess {
    /// Starts a server on a free port with nothing in its state.
    pub fn start() -> Self {
        Self::start_with("127.0.0.1:0", &["--lease-ttl", LEASE_SECONDS])
    }

    /// Starts a server that listens on `address` with nothing in its state, and with these flags.
    pub fn start_with(address: &str, flags: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let (process, address) = serve(&data, address, &flags);
        Self {
            process,
            address,
            flags,
            data,
        }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// "HOST:PORT".
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same port with the same state.
    pub fn restart(&mut self) {
        self.process.kill();
        (self.process, self.address) = serve(&self.data, &self.address, &self.flags);
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Where it keeps its state.
    pub fn state(&self) -> PathBuf {
        self.data.path().join("state")
    }

    /// What `dual16 COMMAND --output json` prints about it.
    pub fn ask(&self, command: &[&str]) -> Value {
        let answer = Dual16::new(command)
            .args(["--output", "json"])
            .on(self)
            .run()
            .success();
        serde_json::from_str(&answer.stdout)
            .unwrap_or_else(|error| panic!("{command:?} printed no JSON ({error}): {answer}"))
    }

    /// Submits a job and leaves it to the server; returns its name.
    pub fn submit(&self, quantize: Dual16) -> String {
        let answer = quantize.arg("--detach").on(self).run().success();
        answer.stdout.trim().to_owned()
    }

    /// Waits until `dual16 show JOB` satisfies `done`.
    ///
    /// # Panics
    /// After `limit`, with the job as it was last.
    pub fn wait_for(&self, job: &str, limit: Duration, done: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + limit;
        loop {
            let shown = self.ask(&["show", job]);
            if done(&shown) {
                return shown;
            }
            assert!(
                Instant::now() < deadline,
                "{job} did not come so far in {limit:?}: {shown:#}"
            );
            thread::sleep(Duration::from_millis(100));
        }
    }
}

fn serve(data: &TempDir, listen: &str, flags: &[String]) -> (Process, String) {
    let port_file = data.path().join("port");
    // One that a killed server left would name the port before the new server listens.
    let _ = fs::remove_file(&port_file);
    let mut command = Command::new(program("dual16-server"));
    command.args(["--listen", listen]).args(flags);
    command.arg("--port-file").arg(&port_file);
    command.arg("--data").arg(data.path().join("state"));
    let mut process = Process::spawn("dual16-server", command);
    let deadline = Instant::now() + START_LIMIT;
    loop {
        if let Ok(address) = fs::read_to_string(&port_file) {
            return (process, address.trim().to_owned());
        }
        let alive = process.is_running() && Instant::now() < deadline;
        assert!(alive, "dual16-server does not listen on {listen}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A `dual16-worker`.
pub struct WorkerProcess {
    process: Process,
    _cache: TempDir,
}

impl WorkerProcess {
    /// Starts a worker with one thread that runs `slots` tasks at a time.
    pub fn start(server: &ServerProcess, name: &str, slots: u32) -> Self {
        Self::start_with(server, name, &["--workers", &slots.to_string()])
    }

    /// Starts a worker with one thread and more arguments.
    pub fn start_with(server: &ServerProcess, name: &str, arguments: &[&str]) -> Self {
        Self::serve(&server.url(), name, arguments)
    }

    /// As [`Self::start`], for a server that is reached at `url`.
    pub fn start_at(url: &str, name: &str, slots: u32) -> Self {
        Self::serve(url, name, &["--workers", &slots.to_string()])
    }

    fn serve(url: &str, name: &str, arguments: &[&str]) -> Self {
        let cache = tempfile::tempdir().unwrap();
        let mut command = Command::new(program("dual16-worker"));
        command.args(["--server", url, "--name", name, "--threads", "1"]);
        command.args(arguments);
        command.arg("--cache").arg(cache.path().join("blobs"));
        Self {
            process: Process::spawn(name, command),
            _cache: cache,
        }
    }

    /// Runs a worker whose arguments must make it end at once.
    pub fn refused(arguments: &[&str]) -> Finished {
        let mut command = Command::new(program("dual16-worker"));
        command.args(arguments);
        Process::spawn("dual16-worker", command).wait(START_LIMIT)
    }

    /// The most memory it has had in use so far, in MiB.
    pub fn peak_mib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.unwrap().trim().strip_suffix("kB").unwrap();
        kib.trim().parse::<u64>().unwrap().div_ceil(1024)
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Sends a signal by its name: "STOP", "CONT", "TERM".
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Asks it to drain and waits for its end.
    pub fn drain(self) -> Finished {
        self.process.signal("TERM");
        self.process.wait(START_LIMIT)
    }
}

/// A folder that does not exist yet, and the one it will be in.
pub fn new_folder(name: &str) -> (TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join(name);
    (parent, path)
}
