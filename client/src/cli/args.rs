//! The command line: what there is to type, and the help that teaches it.

use std::path::PathBuf;

use clap::{
    Args, CommandFactory as _, Parser, Subcommand, ValueEnum,
    builder::{BoolishValueParser, PossibleValuesParser, TypedValueParser},
};
use clap_complete::Shell;
use dual16_proto::v1::JobState;
use dual16_rpc::credentials::AccessArgs;
use terminal_size::{Width, terminal_size};

use super::{
    quantize_args::{InputArgs, SettingArgs},
    rescale::RescaleArgs,
    values::Metric,
};
use crate::{
    api::JobName,
    render::{Terminal, wrapped},
};

const LONG_ABOUT: &str = "\
Quantizes the Linear layers of a float model for Horizon J6E/M (NASH_M), each in the way that costs \
it least accuracy, and reports the error of every layer.

Without --server everything runs on this machine; with it, on a dual16-server and its workers.";

const AFTER_HELP: &str = "\
EXAMPLES
  A model, its calibration batches, results in out/:
    dual16 quantize model.onnx --calib calib/ --out out/
  One layer by a chosen way, every attention layer by the best one:
    dual16 quantize model.onnx --calib calib/ --out out/ \\
      --linear head=split --linear '*.attn.*=auto'
  What costs the outputs most, whatever the layers' own errors:
    dual16 analyze model.onnx --calib calib/ --out analysis/
  What would be done, without doing it, and what each layer can be called:
    dual16 plan model.onnx --calib calib/
    dual16 plan model.onnx --calib calib/ --names
  On a server: submit, leave, come back:
    export DUAL16_SERVER=https://quant.example:7016
    export DUAL16_TOKEN_FILE=~/.dual16-token
    dual16 quantize model.onnx --calib calib/ --detach
    dual16 watch JOB
    dual16 fetch JOB --out out/

SETTINGS
  Every flag is also an environment variable, which its help names (--fixed-scale is DUAL16_FIXED_SCALE; several values are separated by ';'), and a key of the file --config names (fixed-scale = [\"mul=7/32767\"]). A flag wins over the environment, the environment over the file.

JOBS
  A JOB is named by its id or by any beginning of it that no other job has.

EXIT CODES
    0  done
    1  the job or a check failed
    2  wrong usage or bad input
    3  the server could not be reached
    4  the job was cancelled
    5  an output is below --fail-under
  130  interrupted

`dual16 help ways` explains the five ways of a Linear, `dual16 completion SHELL` completes this command line, `dual16 man` is its manual page.";

/// The five ways, for someone who has never seen them. A line a paragraph, for whatever width.
const WAYS: &str = "\
A Linear multiplies an activation x by a weight W and adds a bias. The chip multiplies int8 by int8 \
cheaply; where that loses too much, a layer can run in one of these ways:

  a16w8    int16 activation, int8 weight, one matrix product. Right where the activation has outliers: int16 steps are 256 times finer. The usual start.
  a8w16    int8 activation, int16 weight, one matrix product. Right where the weight is the difficult half.
  mul_sum  both int16, but as a multiplication followed by a sum, on the vector unit. Works on every toolchain; slow, and where products are small against the largest one, many round to 0.
  split    the int16 weight as two int8 halves (W = 256 hi + lo): two matrix products and an addition. As exact as a16w16 in practice, on every toolchain, at twice the product's cost.
  a16w16   both int16, one matrix product. Only toolchains from OE 3.2 on can compile it.

Without --linear, a layer keeps its template's way while its error alone stays above \
--min-layer-sqnr (30 dB); below that, every way is measured and the best legal one is taken. Within \
0.5 dB that is one on the matrix unit, then the one with fewer multiplications. --linear NAME=auto \
does so for a layer in any case, --linear NAME=WAY decides. A way that the toolchain cannot compile is \
an error when asked for by name; everywhere else it is measured, shown and marked as not legal.

The integers of a way of one matrix product can be fitted to the inputs that the layer has in \
calibration, at the same cost or little more: --linear NAME=a16w8+gptq. What can stand after a '+':

  bc         the bias takes away the mean of the error that rounding the weight makes. Part of every fit.
  scale      the scale of each output channel by the error at the output, not by the range.
  gptq       weights rounded one after the other, each taking over what those before it did to the output.
  eq         input columns equalized: what makes the input (the weight and bias of a LayerNorm, through a ReLU) is divided by factors that the weight is multiplied by. For a Linear that alone reads its input.
  lowrank=N  a second, narrow branch for what rounding left: two int8 products through N values, and an addition.
  clip       an int8 input clipped to a share of its range (a8w16+clip).

Half of the calibration batches are fitted to, the others held out; a fit that is not better there is \
refused, and the layer runs the plain way. Where a plain way is below --min-layer-sqnr, fits are tried \
and shown beside the ways; they run where they are asked for, or where the outputs need mending.";

/// Columns of prose, where the terminal has more.
const READABLE: usize = 100;

/// The command line with its long texts laid out for the terminal: clap's own wrapping would lose their
/// indentation.
pub(crate) fn command() -> clap::Command {
    Cli::command()
        .after_long_help(prose(AFTER_HELP))
        .mut_subcommand("ways", |ways| ways.long_about(ways_text()))
}

/// What `dual16 ways` prints.
pub(super) fn ways_text() -> String {
    prose(WAYS)
}

/// In the width that clap takes as well: that of whichever stream is a terminal.
fn prose(text: &str) -> String {
    let width = terminal_size().map_or(READABLE, |(Width(width), _)| usize::from(width));
    wrapped(text, Some(width.min(READABLE)), 0)
}

/// Quantization as a service for Linear layers on Horizon J6E/M
#[derive(Debug, Clone, Parser)]
#[command(name = "dual16", version = version(), long_about = LONG_ABOUT)]
#[command(propagate_version = false, max_term_width = 110)]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What --version prints behind the name: whence this program is, and what its figures can be compared
/// with.
fn version() -> String {
    let (version, commit) = (env!("CARGO_PKG_VERSION"), env!("DUAL16_BUILT_FROM"));
    #[cfg(feature = "local")]
    let numerics = format!("numerics {}", dual16_worker::NUMERICS_VERSION);
    #[cfg(not(feature = "local"))]
    let numerics = "no numerics: a client alone";
    format!("{version} (commit {commit}, {numerics})")
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct GlobalArgs {
    /// Server to use; "local" = this machine [default: local]
    #[arg(long, global = true, env = "DUAL16_SERVER", value_name = "URL")]
    pub server: Option<String>,
    /// State of local jobs; kept [default: OUT/.dual16, removed once no job in it is unfinished]
    #[arg(long, global = true, env = "DUAL16_LOCAL_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Tasks that run at the same time on this machine [default: its cores]
    #[arg(long, global = true, env = "DUAL16_LOCAL_WORKERS", value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub workers: Option<u32>,
    /// What to print on stdout
    #[arg(long, global = true, env = "DUAL16_OUTPUT", value_enum, default_value_t = OutputFormat::Table)]
    pub output: OutputFormat,
    /// Whether to colour
    #[arg(long, global = true, env = "DUAL16_COLOR", value_enum, default_value_t = ColorWhen::Auto)]
    pub color: ColorWhen,
    /// TOML file with a key for each flag
    #[arg(long, global = true, env = "DUAL16_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Seconds to go on trying when the server goes away
    #[arg(long, global = true, env = "DUAL16_RECONNECT_TIMEOUT", value_name = "SECONDS",
          default_value_t = 60, value_parser = clap::value_parser!(u64).range(..=86_400))]
    pub reconnect_timeout: u64,
    /// How to prove who is calling.
    #[command(flatten)]
    pub access: AccessArgs,
}

/// What stdout carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// Tables for people.
    Table,
    /// One JSON document at the end.
    Json,
    /// One JSON object a line: every event as it happens, or every job.
    Jsonl,
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    /// On terminals, unless NO_COLOR is set.
    Auto,
    /// In any case.
    Always,
    /// Not at all.
    Never,
}

/// What there is to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Quantize a model and write the results
    Quantize(QuantizeCommandArgs),
    /// Find what each fake quant alone costs the model's outputs, the worst first
    Analyze(AnalyzeArgs),
    /// Show what quantize would do: ways, legality, tasks, bytes
    Plan(PlanArgs),
    /// List jobs, newest first
    Jobs(JobsArgs),
    /// Show one job
    Show(JobArgs),
    /// Follow a job until it ends
    Watch(WatchArgs),
    /// Bring the results of a job
    Fetch(FetchArgs),
    /// Make report.html, the page of a job's results, and check its outputs
    Report(ReportArgs),
    /// Derive scales, plan and weights again from what a job observed, without running its batches
    Rescale(RescaleArgs),
    /// Stop a job
    Cancel(JobArgs),
    /// Queue the failed tasks of a job again; what succeeded is kept
    Retry(JobArgs),
    /// Remove a job that has ended
    Delete(JobArgs),
    /// Examine a server from here: name, port, versions, clock, a file, a tiny job
    Doctor(DoctorArgs),
    /// Show the server's version, limits and load
    Info,
    /// Explain the five ways of a Linear
    Ways,
    /// Serve a program on this machine until stdin ends
    #[cfg(feature = "local")]
    #[command(hide = true)]
    LocalServer,
    /// Print what completes this command line in a shell
    Completion(CompletionArgs),
    /// Print the manual page, or that of one command, in roff
    Man(ManArgs),
}

/// Arguments of `quantize`.
#[derive(Debug, Clone, Args)]
pub struct QuantizeCommandArgs {
    /// What its job has.
    #[command(flatten)]
    pub quantize: QuantizeArgs,
    /// What is checked at its end.
    #[command(flatten)]
    pub check: CheckArgs,
}

/// What is checked of results.
#[derive(Debug, Clone, Copy, Args)]
pub struct CheckArgs {
    /// End with exit code 5 where an output, in VALIDATION or CONVERTED, has less SQNR than this, in dB
    #[arg(long, env = "DUAL16_FAIL_UNDER", value_name = "DB", value_parser = decibels)]
    pub fail_under: Option<f64>,
}

fn decibels(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|db: &f64| db.is_finite())
        .ok_or_else(|| format!("'{text}' is no number of dB; 30 or 27.5 is"))
}

/// Arguments of `report`.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// Folder with the results of a job, or the job's id or a beginning of it that no other job has
    #[arg(env = "DUAL16_JOB", value_name = "JOB|DIR")]
    pub of: String,
    /// Folder for report.html [default: DIR]
    #[arg(long, env = "DUAL16_OUT", value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// What is checked of the outputs.
    #[command(flatten)]
    pub check: CheckArgs,
}

/// What `quantize` and `analyze` have in common.
#[derive(Debug, Clone, Args)]
pub struct QuantizeArgs {
    /// The model and the batches.
    #[command(flatten)]
    pub inputs: InputArgs,
    /// Folder for the results
    #[arg(long, env = "DUAL16_OUT", value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Submit to the server, print the job's name and leave
    #[arg(long, env = "DUAL16_DETACH", value_parser = BoolishValueParser::new())]
    pub detach: bool,
    /// How much to show.
    #[command(flatten)]
    pub table: TableArgs,
    /// How to quantize.
    #[command(flatten)]
    pub settings: SettingArgs,
}

/// Arguments of `analyze`.
#[derive(Debug, Clone, Args)]
pub struct AnalyzeArgs {
    /// Rows that are measured exactly, those that cost most by estimate first; "all" takes longest
    #[arg(long, env = "DUAL16_EXACT", value_name = "K", default_value = "50", value_parser = exact_rows)]
    pub exact: ExactRows,
    /// Outputs that count (repeatable) [default: all]
    #[arg(
        long,
        env = "DUAL16_OUTPUTS",
        value_name = "NAME",
        value_delimiter = ';'
    )]
    pub outputs: Vec<String>,
    /// What the table is sorted by
    #[arg(long, env = "DUAL16_METRIC", value_enum, default_value_t = Metric::Sqnr)]
    pub metric: Metric,
    /// Everything that quantize has.
    #[command(flatten)]
    pub quantize: QuantizeArgs,
}

/// How many rows are measured exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExactRows(
    /// `None` = all.
    pub Option<u32>,
);

fn exact_rows(text: &str) -> Result<ExactRows, String> {
    match text {
        "all" => Ok(ExactRows(None)),
        text => text
            .parse()
            .map(|rows| ExactRows(Some(rows)))
            .map_err(|_| format!("'{text}' is no number of rows; give one, or all")),
    }
}

/// Arguments of `plan`.
#[derive(Debug, Clone, Args)]
pub struct PlanArgs {
    /// The model and the batches.
    #[command(flatten)]
    pub inputs: InputArgs,
    /// Folder to write plan.json to as well
    #[arg(long, env = "DUAL16_OUT", value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Show instead what settings may call each layer: name, module path, ONNX nodes and outputs
    #[arg(long, env = "DUAL16_NAMES", value_parser = BoolishValueParser::new())]
    pub names: bool,
    /// How much to show.
    #[command(flatten)]
    pub table: TableArgs,
    /// How to quantize.
    #[command(flatten)]
    pub settings: SettingArgs,
}

/// How much of a table is shown.
#[derive(Debug, Clone, Args)]
pub struct TableArgs {
    /// Rows of a table, the worst layers first; 0 = all [default: 20 on a terminal, elsewhere all]
    #[arg(long, env = "DUAL16_TOP", value_name = "N")]
    pub top: Option<usize>,
}

impl TableArgs {
    /// Rows to show, 0 = all.
    pub(super) fn rows(&self, terminal: &Terminal) -> usize {
        // What goes to a file or to grep is wanted whole.
        let default = match terminal.stdout_paint().width() {
            Some(_) => 20,
            None => 0,
        };
        self.top.unwrap_or(default)
    }
}

/// Arguments of `jobs`.
#[derive(Debug, Clone, Args)]
pub struct JobsArgs {
    /// Only jobs in this state (repeatable)
    #[arg(long, env = "DUAL16_STATE", value_parser = states(), value_delimiter = ';')]
    pub state: Vec<JobState>,
    /// At most this many
    #[arg(long, env = "DUAL16_LIMIT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
}

/// The states by which jobs are listed.
fn states() -> impl TypedValueParser<Value = JobState> {
    let names = ["pending", "running", "succeeded", "failed", "cancelled"];
    PossibleValuesParser::new(names)
        .map(|name| JobState::from_str_name(&name.to_uppercase()).unwrap_or_default())
}

/// Arguments of the commands on one job.
#[derive(Debug, Clone, Args)]
pub struct JobArgs {
    /// The job's id, as `dual16 jobs` prints it, or a beginning of it that no other job has
    #[arg(env = "DUAL16_JOB")]
    pub job: JobName,
}

/// Arguments of `watch`.
#[derive(Debug, Clone, Args)]
pub struct WatchArgs {
    /// Which job.
    #[command(flatten)]
    pub job: JobArgs,
    /// How much to show.
    #[command(flatten)]
    pub table: TableArgs,
}

/// Arguments of `completion`.
#[derive(Debug, Clone, Args)]
pub struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, Clone, Args)]
pub struct ManArgs {
    /// The command [default: the whole]
    pub command: Option<String>,
}

/// Arguments of `doctor`.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// Seconds that the tiny job may take
    #[arg(long, env = "DUAL16_DEADLINE", value_name = "SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub deadline: u64,
}

/// Arguments of `fetch`.
#[derive(Debug, Clone, Args)]
pub struct FetchArgs {
    /// The job's id, as `dual16 jobs` prints it, or a beginning of it that no other job has
    #[arg(env = "DUAL16_JOB")]
    pub job: JobName,
    /// Folder for the results
    #[arg(long, env = "DUAL16_OUT", value_name = "DIR")]
    pub out: Option<PathBuf>,
}
