//! The tasks of a job in a process of their own, so that one job can neither hold nor harm another: a
//! model can loop for ever, ask for a terabyte or crash what runs it, and the worker ends that one
//! process. The worker's own process, the supervisor, computes nothing.
//!
//! - `runner`: the [`TaskRunner`](crate::TaskRunner) of the supervisor; what a task asks for is done here.
//! - `keeper`: starts the processes, watches over them and ends them; `health`: what it finds.
//! - `process`: one of them, as the supervisor holds it; `command`: how it is started; `death`: how it ended, and whose fault that is.
//! - `shares`: the memory of the worker, lent to its processes, and what the kernel lets each have.
//! - `serve`: the other end: what runs in such a process; `spans`: what it tells for traces.
//! - `wire`: what the two say to each other; `place`: where a task is, in memory that outlives it.
//!
//! Linux only, where a child can be bound to its parent's life and to an amount of memory from
//! outside. Elsewhere tasks are threads of the worker.

#[cfg(target_os = "linux")]
mod command;
#[cfg(target_os = "linux")]
mod death;
mod health;
#[cfg(target_os = "linux")]
mod keeper;
#[cfg(target_os = "linux")]
mod place;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod runner;
#[cfg(target_os = "linux")]
mod serve;
#[cfg(target_os = "linux")]
mod shares;
#[cfg(target_os = "linux")]
mod spans;
#[cfg(target_os = "linux")]
mod wire;

use std::{ffi::OsString, path::PathBuf, process::ExitCode, sync::OnceLock};

pub(crate) use health::Health;
#[cfg(target_os = "linux")]
pub(crate) use {
    keeper::{Keeper, Settings},
    runner::ProcessRunner,
    shares::Shares,
};

/// The first argument of a process that runs tasks. No one types it.
const ARGUMENT: &str = "__task-process";

/// The program of this process, once it has said that it can run tasks when started so.
static THIS: OnceLock<ChildProgram> = OnceLock::new();

/// What is started to run the tasks of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildProgram {
    /// The program; it calls [`enter`](Self::enter) first.
    pub program: PathBuf,
    /// Arguments before anything else.
    pub args: Vec<OsString>,
}

impl ChildProgram {
    /// A program that calls [`enter`](Self::enter) first.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: vec![ARGUMENT.into()],
        }
    }

    /// To be called first by a program that starts workers. Where this process was started to run the
    /// tasks of a job it does that, and returns what to exit with once the worker wants it no more.
    /// Otherwise the program is noted as one that can be started so.
    pub fn enter() -> Option<ExitCode> {
        if !cfg!(target_os = "linux") {
            return None;
        }
        if std::env::args_os()
            .nth(1)
            .is_some_and(|first| first == ARGUMENT)
        {
            return Some(serve::serve());
        }
        // Also once the file has been replaced by another version's.
        let _ = THIS.set(Self::new("/proc/self/exe"));
        None
    }

    /// The program of this process, where it has called [`enter`](Self::enter).
    pub fn this() -> Option<Self> {
        THIS.get().cloned()
    }
}
