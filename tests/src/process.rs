//! A child process: its output is collected as it comes, waiting has a limit, and it dies with the
//! value that stands for it.

use std::{
    env,
    io::{BufRead as _, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

const POLL: Duration = Duration::from_millis(10);

/// A running child process; dropped, it is killed.
pub struct Process {
    name: String,
    child: Child,
    /// Lines of stdout that nobody has taken yet.
    lines: mpsc::Receiver<String>,
    /// Lines of stdout that [`Process::next_line`] has given out.
    taken: String,
    stderr: Arc<Mutex<String>>,
    stderr_reader: Option<JoinHandle<()>>,
}

/// A child process that has ended.
#[derive(Debug)]
pub struct Finished {
    /// What it is called in messages.
    pub name: String,
    /// How it ended.
    pub status: ExitStatus,
    /// All it wrote to stdout.
    pub stdout: String,
    /// All it wrote to stderr.
    pub stderr: String,
}

impl Process {
    /// Starts `command` with nothing on stdin and none of dual16's variables in its environment
    /// but those that `command` sets itself.
    pub fn spawn(name: &str, mut command: Command) -> Self {
        let own: Vec<_> = command.get_envs().map(|(key, _)| key.to_owned()).collect();
        for (key, _) in env::vars_os() {
            if key.as_encoded_bytes().starts_with(b"DUAL16_") && !own.contains(&key) {
                command.env_remove(key);
            }
        }
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        let stdout = child.stdout.take().expect("stdout is piped");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { return };
                // The test may have heard enough; the child must not block all the same.
                let _ = sender.send(line);
            }
        });
        let stderr = Arc::new(Mutex::new(String::new()));
        let pipe = child.stderr.take().expect("stderr is piped");
        let collected = Arc::clone(&stderr);
        let stderr_reader = thread::spawn(move || collect(pipe, &collected));
        Self {
            name: name.to_owned(),
            child,
            lines,
            taken: String::new(),
            stderr,
            stderr_reader: Some(stderr_reader),
        }
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr
            .lock()
            .expect("nobody panics holding it")
            .clone()
    }

    /// The next line of stdout; `None` once it is closed.
    ///
    /// # Panics
    /// After `limit` without one.
    pub fn next_line(&mut self, limit: Duration) -> Option<String> {
        match self.lines.recv_timeout(limit) {
            Ok(line) => {
                self.taken += &line;
                self.taken.push('\n');
                Some(line)
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                self.fail(&format!("wrote no line to stdout in {limit:?}"))
            }
        }
    }

    /// Reads lines of stdout up to the first that is `wanted`.
    ///
    /// # Panics
    /// After `limit` without a line, or when there was none until its end.
    pub fn read_until(&mut self, limit: Duration, wanted: impl Fn(&str) -> bool) {
        while let Some(line) = self.next_line(limit) {
            if wanted(&line) {
                return;
            }
        }
        self.fail("ended without the line that was waited for");
    }

    /// The system's number for it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("a child can be waited for")
            .is_none()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// After `limit`; the child is killed.
    pub fn wait(mut self, limit: Duration) -> Finished {
        let deadline = Instant::now() + limit;
        let status = loop {
            match self.child.try_wait().expect("a child can be waited for") {
                Some(status) => break status,
                None if Instant::now() < deadline => thread::sleep(POLL),
                None => self.fail(&format!("did not end in {limit:?}")),
            }
        };
        let mut stdout = std::mem::take(&mut self.taken);
        for line in self.lines.iter() {
            stdout += &line;
            stdout.push('\n');
        }
        if let Some(reader) = self.stderr_reader.take() {
            reader.join().expect("reading stderr does not panic");
        }
        Finished {
            name: self.name.clone(),
            status,
            stdout,
            stderr: self.stderr(),
        }
    }

    /// Ends it with SIGKILL: it has nothing to clean up with.
    pub fn kill(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.child.kill();
        self.child.wait().expect("a killed child ends");
    }

    /// Sends a signal by its name: "STOP", "CONT", "INT", "TERM".
    pub fn signal(&self, name: &str) {
        let kill = r#"kill -s "$1" "$2""#;
        let status = Command::new("sh")
            .args(["-c", kill, "sh", name, &self.child.id().to_string()])
            .status()
            .expect("sh can be started");
        assert!(status.success(), "{} cannot be sent SIG{name}", self.name);
    }

    fn fail(&mut self, problem: &str) -> ! {
        self.kill();
        panic!("{} {problem}; its stderr:\n{}", self.name, self.stderr());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprint_output(&self.name, &self.stderr());
        }
    }
}

impl Finished {
    /// The exit code; that of a signal's victim is 128 and the signal, as shells have it.
    pub fn code(&self) -> i32 {
        use std::os::unix::process::ExitStatusExt as _;
        let signal = self.status.signal().unwrap_or_default();
        self.status.code().unwrap_or(128 + signal)
    }

    /// Itself, which must have ended well.
    pub fn success(self) -> Self {
        assert!(self.status.success(), "{self}");
        self
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            name,
            status,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "{name} ended with {status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
        )
    }
}

/// Shows the output of a child that a failing test leaves behind.
#[allow(
    clippy::print_stderr,
    reason = "cargo shows it with the failed test, and only then"
)]
fn eprint_output(name: &str, stderr: &str) {
    eprintln!("--- stderr of {name}\n{stderr}");
}

fn collect(mut pipe: impl Read, into: &Mutex<String>) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = pipe.read(&mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..length]);
        into.lock()
            .expect("nobody panics holding it")
            .push_str(&text);
    }
}
