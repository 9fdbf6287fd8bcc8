//! The image, built from its Dockerfile with the programs of the tests, and run as a cluster would run it: with a
//! file system that is read-only, as nobody, without a capability. It serves a job.
//!
//! Needs root, buildah, podman, crun, and the base that `./test` makes. Where one is missing, or the machine runs no
//! containers, the test says so and why.

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::Write as _,
    net::TcpListener,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Command, id},
    thread,
    time::{Duration, Instant},
};

use dual16_tests::{
    Dual16, Process, Results,
    data::{repository, smallmodel},
    programs::program,
    tools::{find, folder},
};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);
const USER: u32 = 10001;
const BASE: &str = "localhost/dual16-base";
const IMAGE: &str = "localhost/dual16-test";
/// How a cluster confines a container.
const CONFINED: [&str; 14] = [
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    "--tmpfs=/scratch",
    "--env=TMPDIR=/scratch",
    // The machine's own loopback is all that the test needs.
    "--network=host",
    "--cgroups=disabled",
    // Who may not raise a limit may not set those that are podman's own choice.
    "--ulimit=nofile=4096:4096",
    "--ulimit=nproc=4096:4096",
    "--runtime=crun",
    "--pull=never",
    "--rm",
    "--log-driver=none",
];

/// crun refuses a machine that has both generations of control groups, so it is shown the old one alone.
const PODMAN: &str = "umount /sys/fs/cgroup/unified 2>/dev/null; exec podman \"$@\"";

/// What builds and runs images, and where they are kept from one run to the next.
struct Engine {
    driver: &'static str,
    storage: PathBuf,
    /// What is mounted now: a short path, since podman takes no long one.
    state: PathBuf,
}

impl Engine {
    /// One that works here, with the base in its storage; else why there is none.
    fn find() -> Result<Self, String> {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        if !status.lines().any(|line| line.starts_with("Uid:\t0\t")) {
            return Err("it needs root".into());
        }
        for name in ["buildah", "podman", "crun", "unshare"] {
            find(name).ok_or(format!("{name} is not installed"))?;
        }
        let base = folder().join("base.tar");
        if !base.is_file() {
            return Err(format!("{} has not been made by ./test", base.display()));
        }
        // The second needs nothing of the file system below it, and copies whole images.
        Self::with("overlay", &base).or_else(|error| {
            let other = Self::with("vfs", &base);
            other.map_err(|other| format!("{error}; {other}"))
        })
    }

    fn with(driver: &'static str, base: &Path) -> Result<Self, String> {
        let storage = folder().join("containers").join(driver);
        let mut hasher = DefaultHasher::new();
        storage.hash(&mut hasher);
        let engine = Self {
            driver,
            state: format!("/run/dual16-{:016x}", hasher.finish()).into(),
            storage,
        };
        engine.take_base(base)?;
        let mut trial = engine.podman("run");
        trial.args(CONFINED).args([BASE, "true"]);
        said(trial).map_err(|error| format!("this machine runs no containers: {error}"))?;
        Ok(engine)
    }

    fn stored(&self, command: &mut Command) {
        command.arg("--root").arg(&self.storage);
        command.arg("--runroot").arg(&self.state);
        command.arg(format!("--storage-driver={}", self.driver));
    }

    fn podman(&self, verb: &str) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", PODMAN, "podman"]);
        self.stored(&mut command);
        command.arg("--cgroup-manager=cgroupfs").arg(verb);
        command
    }

    fn build(&self) -> Command {
        let mut command = Command::new("buildah");
        self.stored(&mut command);
        command.args(["build", "--isolation=chroot", "--pull-never"]);
        command
    }

    /// Makes an image of the base, unless it is there.
    fn take_base(&self, base: &Path) -> Result<(), String> {
        let mut look = self.podman("image");
        look.args(["exists", BASE]);
        if said(look).is_ok() {
            return Ok(());
        }
        let context = tempfile::tempdir().unwrap();
        fs::copy(base, context.path().join("base.tar")).unwrap();
        let file = context.path().join("Dockerfile");
        // A step that runs, to see whether one can.
        fs::write(&file, "FROM scratch\nADD base.tar /\nRUN true\n").unwrap();
        let mut build = self.build();
        build.args(["--tag", BASE]).arg(context.path());
        said(build).map_err(|error| format!("this machine builds no images: {error}"))?;
        Ok(())
    }
}

/// Runs a command to its end; what it wrote to stdout, or to stderr where it failed.
fn said(mut command: Command) -> Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("{command:?}: {}", text(&output.stderr)))
    }
}

/// The programs of the tests, without what only a debugger reads, as the target `prebuilt` wants them.
fn build(engine: &Engine) {
    let context = tempfile::tempdir().unwrap();
    let license = repository().join("LICENSE");
    fs::copy(license, context.path().join("LICENSE")).unwrap();
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let programs = context.path().join(architecture);
    fs::create_dir(&programs).unwrap();
    for name in ["dual16", "dual16-server", "dual16-worker"] {
        let mut strip = Command::new("strip");
        strip.arg(program(name)).arg("-o").arg(programs.join(name));
        said(strip).unwrap();
    }
    let mut build = engine.build();
    build.args(["--target=prebuilt", "--tag", IMAGE]);
    build.arg(format!("--build-arg=BASE={BASE}"));
    build.arg(format!("--build-arg=TARGETARCH={architecture}"));
    build
        .arg("--file")
        .arg(repository().join("deploy/Dockerfile"));
    build.arg(context.path());
    said(build).unwrap();
    // Those of runs before, which have no name any more.
    let mut prune = engine.podman("image");
    prune.args(["prune", "--force"]);
    said(prune).unwrap();
}

/// A container in the foreground; removed with the value that stands for it.
struct Container<'a> {
    engine: &'a Engine,
    name: String,
    process: Option<Process>,
}

impl<'a> Container<'a> {
    fn start(engine: &'a Engine, name: &str, options: &[String], command: &[&str]) -> Self {
        let name = format!("dual16-test-{}-{name}", id());
        let mut run = engine.podman("run");
        run.args(CONFINED).args(["--name", &name]).args(options);
        run.arg(IMAGE).args(command);
        Self {
            process: Some(Process::spawn(&name, run)),
            engine,
            name,
        }
    }

    /// SIGTERM, as a cluster sends it, and an end in good time and order.
    fn stop(mut self) {
        let process = self.process.take().unwrap();
        process.signal("TERM");
        process.wait(Duration::from_secs(45)).success();
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let mut remove = self.engine.podman("rm");
        remove.args(["--force", "--time=0", &self.name]);
        // It may be gone by itself.
        let _ = said(remove);
    }
}

#[test]
fn the_image_serves_a_job_read_only_as_nobody_and_without_a_capability() {
    let engine = match Engine::find() {
        Ok(engine) => engine,
        Err(reason) => {
            // Past the harness, which shows nothing of a test that passes.
            writeln!(
                std::io::stderr(),
                "NOT RUN: the image was not built and run, because {reason}"
            )
            .unwrap();
            return;
        }
    };
    build(&engine);
    let mut inspect = engine.podman("image");
    inspect.args(["inspect", IMAGE]);
    let image: Value = serde_json::from_str(&said(inspect).unwrap()).unwrap();
    assert_eq!(image[0]["Config"]["User"], "10001:10001");

    // What a program in it may do, as the kernel says it.
    let mut look = engine.podman("run");
    look.args(CONFINED).arg(IMAGE).args(["sh", "-c"]);
    look.arg(
        "grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs):' /proc/self/status; test -s /etc/ssl/certs/ca-certificates.crt \
         && echo authorities; touch /etc/probe /data/probe /cache/probe 2>&1; dual16 --version",
    );
    let look = said(look).unwrap();
    for line in [
        "Uid:\t10001\t10001\t10001\t10001",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "authorities",
    ] {
        assert!(
            look.lines().any(|found| found == line),
            "no {line} in\n{look}"
        );
    }
    assert_eq!(look.matches("Read-only file system").count(), 3, "{look}");
    assert!(look.contains("dual16 0.1.0"), "{look}");

    let state = tempfile::tempdir().unwrap();
    let mount = |name: &str| {
        let folder = state.path().join(name);
        fs::create_dir(&folder).unwrap();
        chown(&folder, Some(USER), Some(USER)).unwrap();
        format!("--volume={}:/{name}", folder.display())
    };
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let url = format!("http://{address}");
    let listen = format!("--env=DUAL16_LISTEN={address}");
    // Without a command the image is a server.
    let server = Container::start(&engine, "server", &[mount("data"), listen], &[]);
    let deadline = Instant::now() + LIMIT;
    while std::net::TcpStream::connect(&address).is_err() {
        assert!(Instant::now() < deadline, "the server does not listen");
        thread::sleep(Duration::from_millis(50));
    }
    let at = format!("--env=DUAL16_SERVER={url}");
    let worker = Container::start(&engine, "worker", &[mount("cache"), at], &["dual16-worker"]);
    let results = Results::new();
    Dual16::quantize(&smallmodel())
        .out(&results.path())
        .args(["--server", &url])
        .run()
        .success();
    assert!(results.path().join("result.json").is_file());
    worker.stop();
    server.stop();
}
