//! One `dual16` command, as typed.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    cluster::ServerProcess,
    process::{Finished, Process},
    programs::program,
    schema,
};

/// Far beyond what any command of the tests takes, also on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);

/// A `dual16` command that is being put together.
#[derive(Debug)]
pub struct Dual16 {
    command: Command,
    /// The folder for its results.
    out: Option<PathBuf>,
}

impl Dual16 {
    /// `dual16 ARGUMENTS`.
    pub fn new<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Self {
        let mut command = Command::new(program("dual16"));
        command.args(arguments);
        Self { command, out: None }
    }

    /// `dual16 quantize` of the model in the folder `model`, with its calibration batches.
    pub fn quantize(model: &Path) -> Self {
        Self::new(["quantize"])
            .arg(model.join("model.onnx"))
            .arg("--calib")
            .arg(model.join("calib"))
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, variable: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(variable, value);
        self
    }

    /// Runs in this folder.
    #[must_use]
    pub fn within(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Names the folder for the results.
    #[must_use]
    pub fn out(mut self, folder: &Path) -> Self {
        self.out = Some(folder.to_owned());
        self.arg("--out").arg(folder)
    }

    /// Uses a server rather than this machine.
    #[must_use]
    pub fn on(self, server: &ServerProcess) -> Self {
        self.arg("--server").arg(server.url())
    }

    /// Runs inside another program that takes a command line as its last arguments.
    #[must_use]
    pub fn inside(self, mut outer: Command) -> Self {
        outer
            .arg(self.command.get_program())
            .args(self.command.get_args());
        Self {
            command: outer,
            ..self
        }
    }

    /// Runs to its end.
    ///
    /// # Panics
    /// Where what it leaves or prints for programs breaks its schema.
    pub fn run(self) -> Finished {
        let out = self.out.clone();
        let mut arguments = self.command.get_args();
        let printed = arguments.any(|argument| argument == "json" || argument == "jsonl");
        let finished = self.spawn().wait(LIMIT);
        out.as_deref().map(schema::check_folder);
        if printed {
            schema::check_printed(&finished.stdout);
        }
        finished
    }

    /// Starts it.
    pub fn spawn(self) -> Process {
        let shown = |argument: &OsStr| argument.to_string_lossy().into_owned();
        let arguments: Vec<_> = self.command.get_args().map(shown).collect();
        Process::spawn(&format!("dual16 {}", arguments.join(" ")), self.command)
    }
}
