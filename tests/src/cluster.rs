//! A server and its workers as processes on loopback, with their state in temporary folders.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    cli::Dual16,
    power::Disk,
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
    ops: String,
    /// What it was started with, for the next start.
    flags: Vec<String>,
    /// Variables of its environment.
    environment: Vec<(&'static str, String)>,
    /// Where its state is on a disk that can lose power.
    disk: Option<Disk>,
    data: TempDir,
}

impl ServerProcess {
    /// Starts a server on a free port with nothing in its state.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same, with further arguments.
    pub fn start_with(arguments: &[&str]) -> Self {
        let flags = [&["--lease-ttl", LEASE_SECONDS], arguments].concat();
        Self::start_on("127.0.0.1:0", &flags)
    }

    /// Starts a server that listens on `address` with nothing in its state, and with these flags.
    pub fn start_on(address: &str, flags: &[&str]) -> Self {
        Self::start_on_disk(address, flags, None)
    }

    /// The same, with these variables in its environment.
    pub fn start_in(
        environment: Vec<(&'static str, String)>,
        address: &str,
        flags: &[&str],
    ) -> Self {
        Self::start_anywhere(environment, address, flags, None)
    }

    /// The same, with its state on a disk that can lose power.
    pub fn start_on_disk(address: &str, flags: &[&str], disk: Option<Disk>) -> Self {
        Self::start_anywhere(Vec::new(), address, flags, disk)
    }

    fn start_anywhere(
        environment: Vec<(&'static str, String)>,
        address: &str,
        flags: &[&str],
        disk: Option<Disk>,
    ) -> Self {
        let data = tempfile::tempdir().unwrap();
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let (process, address) = serve(&data, address, &flags, &environment, disk.as_ref());
        Self {
            process,
            address,
            ops: ops_address(&data.path().join("ops")),
            flags,
            environment,
            disk,
            data,
        }
    }

    /// "HOST:PORT" of its ops port.
    pub fn ops(&self) -> &str {
        &self.ops
    }

    /// Its data directory.
    pub fn state(&self) -> PathBuf {
        self.data.path().join("state")
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        self.process.stderr()
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// "HOST:PORT".
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Asks it to shut down and waits for its end.
    pub fn stop(self) -> Finished {
        self.process.signal("TERM");
        self.process.wait(START_LIMIT)
    }

    /// Starts it again on the same port with the same state.
    pub fn restart(&mut self) {
        self.process.kill();
        let disk = self.disk.as_ref();
        let environment = &self.environment;
        (self.process, self.address) =
            serve(&self.data, &self.address, &self.flags, environment, disk);
        self.ops = ops_address(&self.data.path().join("ops"));
    }

    /// Starts it again on the same port with what it has synced of its state. Returns how many files
    /// lost something.
    ///
    /// # Panics
    /// If its disk is not one that can lose power.
    pub fn lose_power(&mut self) -> usize {
        self.process.kill();
        let disk = self.disk.as_ref().expect("started on a disk");
        let lost = disk.cut_power(&self.state());
        self.restart();
        lost
    }

    /// The same, with these further arguments instead of those that it had.
    pub fn restart_with(&mut self, arguments: &[&str]) {
        let flags = [&["--lease-ttl", LEASE_SECONDS], arguments].concat();
        self.flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        self.restart();
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
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
    pub fn wait_for(
        &self,
        job: &str,
        limit: Duration,
        mut done: impl FnMut(&Value) -> bool,
    ) -> Value {
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

fn serve(
    data: &TempDir,
    listen: &str,
    flags: &[String],
    environment: &[(&'static str, String)],
    disk: Option<&Disk>,
) -> (Process, String) {
    let port_file = data.path().join("port");
    // One that a killed server left would name the port before the new server listens.
    let _ = fs::remove_file(&port_file);
    let _ = fs::remove_file(data.path().join("ops"));
    let mut command = Command::new(program("dual16-server"));
    command.args(["--listen", listen]).args(flags);
    command.arg("--port-file").arg(&port_file);
    command.arg("--data").arg(data.path().join("state"));
    command.args(["--ops-listen", "127.0.0.1:0"]);
    command.arg("--ops-port-file").arg(data.path().join("ops"));
    command.envs(environment.iter().cloned());
    if let Some(disk) = disk {
        command.envs(disk.environment(&data.path().join("state")));
    }
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
    cache: TempDir,
}

impl WorkerProcess {
    /// Starts a worker with one thread that runs `slots` tasks at a time.
    pub fn start(server: &ServerProcess, name: &str, slots: u32) -> Self {
        Self::start_with(server, name, &["--workers", &slots.to_string()])
    }

    /// Starts a worker with one thread and more arguments.
    pub fn start_with(server: &ServerProcess, name: &str, arguments: &[&str]) -> Self {
        Self::start_at(&server.url(), name, arguments)
    }

    /// The same for the server at a URL, whether or not there is one.
    pub fn start_at(url: &str, name: &str, arguments: &[&str]) -> Self {
        let cache = tempfile::tempdir().unwrap();
        let mut command = Command::new(program("dual16-worker"));
        command.args(["--server", url, "--name", name, "--threads", "1"]);
        command.arg("--cache").arg(cache.path().join("blobs"));
        command.args(["--ops-listen", "127.0.0.1:0"]);
        command.arg("--ops-port-file").arg(cache.path().join("ops"));
        command.args(arguments);
        Self {
            process: Process::spawn(name, command),
            cache,
        }
    }

    /// "HOST:PORT" of its ops port, as soon as it listens.
    pub fn ops(&self) -> String {
        ops_address(&self.cache.path().join("ops"))
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        self.process.stderr()
    }

    /// The folder of its cache.
    pub fn cache(&self) -> PathBuf {
        self.cache.path().join("blobs")
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

    /// The processes that run its jobs' tasks, by the system's numbers.
    pub fn children(&self) -> Vec<u32> {
        let parent = format!("PPid:\t{}", self.process.id());
        let is_child = |id: &u32| {
            let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
            status.lines().any(|line| line == parent) && !status.contains("State:\tZ")
        };
        let all = fs::read_dir("/proc").unwrap();
        let numbers = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        numbers.filter(is_child).collect()
    }

    /// Ends it with SIGKILL.
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

/// What a program has written to its `--ops-port-file`, as soon as it has.
fn ops_address(file: &Path) -> String {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        if let Ok(address) = fs::read_to_string(file) {
            return address.trim().to_owned();
        }
        assert!(Instant::now() < deadline, "no {}", file.display());
        thread::sleep(Duration::from_millis(10));
    }
}

/// A folder that does not exist yet, and the one it will be in.
pub fn new_folder(name: &str) -> (TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join(name);
    (parent, path)
}
