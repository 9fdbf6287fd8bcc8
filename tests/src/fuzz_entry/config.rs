//! What was asked: a job's settings as the worker reads them, and the client's file and flags.

use std::ffi::OsString;

use dual16_proto::v1::JobSpec;
use dual16_worker::job_input;
use prost::Message as _;

use super::scratch::with_file;

/// Flags that take a setting of their own syntax.
const FLAGS: [&str; 8] = [
    "--linear",
    "--dtype",
    "--fixed-scale",
    "--layer-observer",
    "--high-precision",
    "--percentile",
    "--min-layer-sqnr",
    "--workers",
];

/// Reads an encoded JobSpec as the plan task does.
pub(super) fn spec(data: &[u8]) {
    let Ok(spec) = JobSpec::decode(data) else {
        return;
    };
    match job_input(&spec, "sha256:0", None) {
        Ok(job) => assert_eq!(job.calibration.len(), spec.calibration.len()),
        Err(error) => assert!(!error.field.is_empty() && !error.reason.is_empty()),
    }
}

/// Reads a configuration file, and the same text as the value of each flag.
pub(super) fn file_and_flags(data: &[u8]) {
    with_file("dual16.toml", data, |path| {
        let file = path.as_os_str().to_owned();
        let arguments = ["dual16", "quantize", "model.onnx", "--config"].map(OsString::from);
        let arguments: Vec<OsString> = arguments.into_iter().chain([file]).collect();
        if let Err(error) = dual16::config::parse(&arguments) {
            assert!(!error.to_string().is_empty());
        }
    });
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let all: Vec<OsString> = ["dual16", "quantize", "model.onnx"]
        .into_iter()
        .map(OsString::from)
        .chain(FLAGS.map(|flag| OsString::from(format!("{flag}={text}"))))
        .collect();
    if let Ok(cli) = dual16::config::parse(&all) {
        assert!(matches!(cli.command, dual16::cli::Command::Quantize(_)));
    }
}
