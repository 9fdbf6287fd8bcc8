//! A PostgreSQL cluster of a test's own, to be killed and started again.

use std::{
    env, fs,
    net::TcpListener,
    os::unix::fs::{MetadataExt as _, chown},
    path::PathBuf,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

const START_LIMIT: Duration = Duration::from_secs(30);

/// A running cluster on loopback, with everything durable; dropped, it is killed.
pub struct Postgres {
    programs: PathBuf,
    port: u16,
    folder: TempDir,
}

impl Postgres {
    /// Makes a cluster and starts it.
    ///
    /// # Panics
    /// Where `DUAL16_POSTGRES_BIN` does not name the folder of initdb: `./test` sets it.
    pub fn start() -> Self {
        let programs = env::var_os("DUAL16_POSTGRES_BIN")
            .map(PathBuf::from)
            .expect(
                "DUAL16_POSTGRES_BIN must be the folder of PostgreSQL's programs; ./test sets it",
            );
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        // It refuses root.
        if let Some((user, group)) = other_user() {
            chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let cluster = Self {
            programs,
            port,
            folder,
        };
        cluster.run("initdb", &["-A", "trust", "-U", "postgres", "-E", "UTF8"]);
        cluster.begin();
        cluster
    }

    /// The URL of its database.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Ends it with SIGKILL, every session with it, and starts it again: it recovers from its log.
    pub fn crash(&self) {
        self.kill();
        self.begin();
    }

    /// Cuts every connection to it.
    pub fn cut(&self) {
        let cut =
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()";
        let psql = Command::new(self.programs.join("psql"))
            .args(["-X", "-q", "-o", "/dev/null", "-c", cut])
            .arg(self.url())
            .output()
            .unwrap();
        assert!(psql.status.success(), "{psql:?}");
    }

    fn begin(&self) {
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c max_connections=200",
            self.port,
            self.folder.path().display()
        );
        let log = self.folder.path().join("log");
        let log = log.to_str().unwrap();
        // What is left of a killed one goes when it sees that.
        let deadline = Instant::now() + START_LIMIT;
        while let Err(output) = self.try_run("pg_ctl", &["start", "-w", "-l", log, "-o", &options])
        {
            assert!(Instant::now() < deadline, "{output:?}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Kills the postmaster; the others see it and end.
    fn kill(&self) {
        let pid = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        if let Some(pid) = pid.lines().next() {
            Command::new("kill").args(["-KILL", pid]).output().unwrap();
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        self.try_run(program, arguments).unwrap();
    }

    fn try_run(&self, program: &str, arguments: &[&str]) -> Result<(), Output> {
        let program = self.programs.join(program);
        let mut command = match other_user() {
            Some(_) => {
                let mut command = Command::new("setpriv");
                command
                    .args(["--reuid=postgres", "--regid=postgres", "--init-groups"])
                    .arg(program);
                command
            }
            None => Command::new(program),
        };
        let output = command
            .arg("-D")
            .arg(self.data())
            .args(arguments)
            .stdout(Stdio::null())
            .output()
            .unwrap();
        output.status.success().then_some(()).ok_or(output)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

/// User and group to run as, where this is root: those of the package.
fn other_user() -> Option<(u32, u32)> {
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let line = passwd.lines().find(|line| line.starts_with("postgres:"))?;
    let mut numbers = line.split(':').skip(2).map_while(|part| part.parse().ok());
    let ids = (numbers.next()?, numbers.next()?);
    root.then_some(ids)
}
