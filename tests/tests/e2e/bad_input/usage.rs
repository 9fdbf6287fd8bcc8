//! Command lines, configuration files and names of jobs that are wrong by themselves.

use super::{BAD_INPUT, UNREACHABLE};

/// One command line. `{copy}`, `{out}` and `{server}` stand for the copy of the model, the folder for
/// the results, and the server's URL.
pub(super) struct Usage {
    pub(super) name: &'static str,
    pub(super) command: &'static [&'static str],
    /// What `{copy}/dual16.toml` holds.
    pub(super) config: &'static str,
    pub(super) code: i32,
    pub(super) says: &'static [&'static str],
}

const MODEL: &str = "{copy}/model.onnx";
const CALIB: &str = "{copy}/calib";
const WEIGHTS: &str = "{copy}/float.safetensors";
const NO_JOB: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

macro_rules! usage {
    ($name:literal, [$($argument:expr),+ $(,)?], $code:expr, [$($says:literal),+ $(,)?]) => {
        usage!($name, "", [$($argument),+], $code, [$($says),+])
    };
    ($name:literal, $config:literal, [$($argument:expr),+ $(,)?], $code:expr, [$($says:literal),+ $(,)?]) => {
        Usage {
            name: $name,
            command: &[$($argument),+],
            config: $config,
            code: $code,
            says: &[$($says),+],
        }
    };
}

pub(super) const USAGES: &[Usage] = &[
    usage!(
        "no model",
        ["quantize", "--calib", CALIB, "--out", "{out}"],
        BAD_INPUT,
        ["not given: MODEL.onnx", "--calib DIR"]
    ),
    usage!(
        "two models",
        ["quantize", MODEL, "--weights", WEIGHTS, "--out", "{out}"],
        BAD_INPUT,
        ["both a model and --weights", "--activations"]
    ),
    usage!(
        "no batches",
        ["quantize", MODEL, "--out", "{out}"],
        BAD_INPUT,
        ["not given: --calib DIR", "MODEL.onnx"]
    ),
    usage!(
        "activations of a model",
        ["quantize", MODEL, "--activations", CALIB, "--out", "{out}"],
        BAD_INPUT,
        ["--activations belongs to --weights", "--calib DIR"]
    ),
    usage!(
        "calibration of weights",
        [
            "quantize",
            "--weights",
            WEIGHTS,
            "--calib",
            CALIB,
            "--out",
            "{out}"
        ],
        BAD_INPUT,
        ["--calib belongs to a model", "--activations DIR"]
    ),
    usage!(
        "no activations",
        ["quantize", "--weights", WEIGHTS, "--out", "{out}"],
        BAD_INPUT,
        ["not given: --activations DIR", "--weights"]
    ),
    usage!(
        "activations of other layers",
        [
            "quantize",
            "--weights",
            WEIGHTS,
            "--activations",
            CALIB,
            "--out",
            "{out}"
        ],
        BAD_INPUT,
        [
            "float.safetensors",
            "'linear1', 'linear2', 'linear3'",
            "('x')",
            "INVALID_BATCH"
        ]
    ),
    usage!(
        "nowhere to write",
        ["quantize", MODEL, "--calib", CALIB],
        BAD_INPUT,
        ["--out"]
    ),
    usage!(
        "an unknown flag",
        ["quantize", MODEL, "--calibration", CALIB],
        BAD_INPUT,
        ["--calibration", "--calib"]
    ),
    usage!(
        "an unknown command",
        ["quantise", MODEL],
        BAD_INPUT,
        ["quantise", "quantize"]
    ),
    usage!(
        "no workers",
        [
            "quantize",
            MODEL,
            "--calib",
            CALIB,
            "--out",
            "{out}",
            "--workers",
            "0"
        ],
        BAD_INPUT,
        ["--workers", "1..=1024"]
    ),
    usage!(
        "an unknown output",
        ["jobs", "--output", "yaml"],
        BAD_INPUT,
        ["--output", "yaml", "table, json, jsonl"]
    ),
    usage!(
        "a server that is no URL",
        ["jobs", "--server", "not a server"],
        BAD_INPUT,
        ["not a server", "http://127.0.0.1:7016"]
    ),
    usage!(
        "a server that is not there",
        [
            "quantize",
            MODEL,
            "--calib",
            CALIB,
            "--out",
            "{out}",
            "--server",
            "http://127.0.0.1:1"
        ],
        UNREACHABLE,
        ["http://127.0.0.1:1", "refused", "--server"]
    ),
    usage!(
        "a configuration that is not there",
        ["jobs", "--config", "{copy}/nowhere.toml"],
        BAD_INPUT,
        ["nowhere.toml", "cannot read the configuration"]
    ),
    usage!(
        "a configuration that is no TOML",
        "observer = ",
        ["jobs", "--config", "{copy}/dual16.toml"],
        BAD_INPUT,
        ["dual16.toml", "line 1"]
    ),
    usage!(
        "an unknown key",
        "observr = \"mse\"",
        ["jobs", "--config", "{copy}/dual16.toml"],
        BAD_INPUT,
        ["dual16.toml", "unknown key \"observr\"", "observer"]
    ),
    usage!(
        "a value of another kind",
        "linear = { a = \"split\" }",
        ["jobs", "--config", "{copy}/dual16.toml"],
        BAD_INPUT,
        ["dual16.toml", "linear", "a table cannot be a value"]
    ),
    usage!(
        "a value that the flag would not take",
        "template = \"a4w4\"",
        ["jobs", "--config", "{copy}/dual16.toml"],
        BAD_INPUT,
        ["dual16.toml", "template", "a8w8, a16w8, a16w16"]
    ),
    usage!(
        "a job that is no name",
        ["show", "../etc/passwd", "--server", "{server}"],
        BAD_INPUT,
        ["../etc/passwd"]
    ),
    usage!(
        "a job that is not there",
        ["show", NO_JOB, "--server", "{server}"],
        BAD_INPUT,
        ["01890a5d-ac96-774b-bcce-b302099a8057", "JOB_NOT_FOUND"]
    ),
    usage!(
        "results of a job that is not there",
        ["fetch", NO_JOB, "--out", "{out}", "--server", "{server}"],
        BAD_INPUT,
        ["01890a5d-ac96-774b-bcce-b302099a8057", "JOB_NOT_FOUND"]
    ),
];
