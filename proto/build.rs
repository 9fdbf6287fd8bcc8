//! Compiles the protos with protox, so that building needs no protoc, and writes the
//! descriptor set that the server offers by reflection.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const PROTOS: [&str; 6] = [
    "dual16/v1/quantize.proto",
    "dual16/v1/jobs.proto",
    "dual16/v1/blobs.proto",
    "dual16/v1/workers.proto",
    "dual16/v1/info.proto",
    "externalscaler/externalscaler.proto",
];

/// What is told as JSON: the messages below Job and JobEvent. (Without their package: a path from its root
/// on would mean all within it too, the variants of a oneof for instance.)
const IN_JSON: [&str; 32] = [
    "AnalyzeSpec",
    "Artifact",
    "AttemptError",
    "CostEstimate",
    "EventDetail",
    "InputFile",
    "Job",
    "JobError",
    "JobEvent",
    "JobSpec",
    "LayerAccumulated",
    "LayerMeasured",
    "LayerModel",
    "LayerSetting",
    "MendStep",
    "Metrics",
    "Notice",
    "OnnxModel",
    "OperatorMeasured",
    "OutputMeasured",
    "OutputSensitivity",
    "OutputTarget",
    "PlanSpec",
    "QuantizeSpec",
    "RescaleSpec",
    "SensitivityMeasured",
    "StageProgress",
    "StageStarted",
    "StateChanged",
    "TaskDone",
    "TaskRetried",
    "WayMeasured",
];

/// Where JSON is not what serde makes of a field: oneofs stand among the fields beside them, what a job
/// does not have yet is left out, and `src/json.rs` says how the rest is written.
const FIELDS_IN_JSON: [(&str, &str); 19] = [
    (
        "AttemptError.time",
        "serialize_with = \"crate::json::time\"",
    ),
    ("EventDetail.detail", "flatten"),
    ("Job.create_time", NOT_YET),
    ("Job.end_time", NOT_YET),
    ("Job.error", "skip_serializing_if = \"Option::is_none\""),
    ("Job.owner", "skip"),
    (
        "Job.priority",
        "skip_serializing_if = \"crate::json::no_priority\", serialize_with = \"crate::json::priority\"",
    ),
    ("Job.spec", "skip_serializing_if = \"Option::is_none\""),
    ("Job.start_time", NOT_YET),
    ("Job.state", "serialize_with = \"crate::json::state\""),
    ("JobEvent.detail", "flatten"),
    ("JobEvent.time", "serialize_with = \"crate::json::time\""),
    ("JobSpec.deadline_seconds", "skip"),
    ("JobSpec.kind", "serialize_with = \"crate::json::kind\""),
    ("JobSpec.model", "flatten"),
    ("LayerSetting.value", "flatten"),
    (
        "Notice.severity",
        "serialize_with = \"crate::json::severity\"",
    ),
    (
        "StateChanged.error",
        "skip_serializing_if = \"Option::is_none\"",
    ),
    (
        "StateChanged.state",
        "serialize_with = \"crate::json::state\"",
    ),
];

const NOT_YET: &str =
    "skip_serializing_if = \"Option::is_none\", serialize_with = \"crate::json::time\"";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=dual16");
    println!("cargo:rerun-if-changed=externalscaler");
    let descriptors = protox::compile(PROTOS, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("dual16_v1.bin"), descriptors.encode_to_vec())?;
    let mut builder = tonic_prost_build::configure();
    for message in IN_JSON {
        builder = builder.message_attribute(message, "#[derive(serde::Serialize)]");
    }
    for oneof in [
        "EventDetail.detail",
        "JobSpec.kind",
        "JobSpec.model",
        "LayerSetting.value",
    ] {
        builder = builder
            .enum_attribute(oneof, "#[derive(serde::Serialize)]")
            .enum_attribute(oneof, "#[serde(rename_all = \"snake_case\")]");
    }
    for (field, attribute) in FIELDS_IN_JSON {
        builder = builder.field_attribute(field, format!("#[serde({attribute})]"));
    }
    builder
        .bytes(".dual16.v1.UploadRequest.data")
        .bytes(".dual16.v1.DownloadResponse.data")
        // Those that hold figures are many times larger than the others, and a list of empty events
        // takes the size of the largest for each.
        .boxed(".dual16.v1.EventDetail.detail.layer_accumulated")
        .boxed(".dual16.v1.EventDetail.detail.output_measured")
        .boxed(".dual16.v1.EventDetail.detail.operator_measured")
        .boxed(".dual16.v1.EventDetail.detail.mended")
        .boxed(".dual16.v1.EventDetail.detail.sensitivity_measured")
        .compile_fds(descriptors)?;
    Ok(())
}
