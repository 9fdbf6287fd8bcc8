//! The command line: arguments, and a file for each command; `job` has those on one job.
//!
//! A command gets a [`Context`] and ends in `Ok` or an [`Error`]; it never exits the process and
//! never touches stdout but through [`Terminal`].

mod analyze;
mod args;
mod completion;
mod doctor;
mod fetch;
mod find;
mod follow;
mod info;
mod job;
mod jobs;
#[cfg(feature = "local")]
mod local_server;
mod man;
mod plan;
mod quantize;
mod quantize_args;
mod report;
mod rescale;
mod session;
mod signals;
mod submit;
mod values;
mod watch;
mod ways;

pub(crate) use args::command;
pub use args::{
    AnalyzeArgs, CheckArgs, Cli, ColorWhen, Command, CompletionArgs, DoctorArgs, ExactRows,
    FetchArgs, GlobalArgs, JobArgs, JobsArgs, ManArgs, OutputFormat, PlanArgs, QuantizeArgs,
    QuantizeCommandArgs, ReportArgs, TableArgs, WatchArgs,
};
pub use quantize_args::{InputArgs, SettingArgs};
pub use signals::{Signal, Signals};
pub use values::{
    Dtype, March, Merge, Metric, Observer, Rounding, ScaleRule, Template, Toolchain, Way,
};

use crate::{
    error::Error,
    render::{Progress, Terminal},
};

/// What every command has.
struct Context<'a> {
    global: &'a GlobalArgs,
    terminal: &'a Terminal,
    progress: Progress,
    signals: Signals,
}

/// Runs a parsed command line.
///
/// # Errors
/// [`Error`]; [`Error::exit_code`] is the process's exit code.
pub async fn run(cli: Cli, terminal: &Terminal, signals: Signals) -> Result<(), Error> {
    let context = Context {
        global: &cli.global,
        terminal,
        progress: Progress::new(terminal),
        signals,
    };
    match &cli.command {
        Command::Analyze(args) => analyze::run(args, context).await,
        Command::Quantize(args) => quantize::run(args, context).await,
        Command::Plan(args) => plan::run(args, context).await,
        Command::Jobs(args) => jobs::run(args, context).await,
        Command::Show(args) => job::show(args, context).await,
        Command::Watch(args) => watch::run(args, context).await,
        Command::Fetch(args) => fetch::run(args, context).await,
        Command::Cancel(args) => job::cancel(args, context).await,
        Command::Report(args) => report::run(args, context).await,
        Command::Rescale(args) => rescale::run(args, context).await,
        Command::Retry(args) => job::retry(args, context).await,
        Command::Delete(args) => job::delete(args, context).await,
        Command::Doctor(args) => doctor::run(args, context).await,
        Command::Info => info::run(context).await,
        Command::Ways => ways::run(context),
        #[cfg(feature = "local")]
        Command::LocalServer => local_server::run(context).await,
        Command::Completion(args) => completion::run(args, context),
        Command::Man(args) => man::run(args, context),
    }
}
