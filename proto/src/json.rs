//! The API's messages as JSON: the protos' own field names, enumerations by name, times as RFC
//! 3339, figures that are not set left out. What the command line prints for programs, and what the server's live
//! page is told.

use prost_types::Timestamp;
use serde_json::{Value, json};

use crate::v1::{
    Artifact, AttemptError, CostEstimate, InputFile, Job, JobError, JobEvent, Metrics, Priority,
    QuantizeSpec, WayMeasured,
    event_detail::Detail,
    job_spec::{Kind, Model},
    layer_setting,
};

/// A job.
pub fn job_json(job: &Job) -> Value {
    let spec = job.spec.as_ref().map(|spec| {
        let (kind, model) = match &spec.model {
            Some(Model::Onnx(onnx)) => (
                "onnx",
                json!({"model": onnx.model.as_ref().map(file_json), "external_data": files(&onnx.external_data)}),
            ),
            Some(Model::Layers(layers)) => {
                ("layers", json!({"weights": layers.weights.as_ref().map(file_json)}))
            }
            None => ("model", Value::Null),
        };
        json!({
            kind: model,
            "calibration": files(&spec.calibration),
            "evaluation": files(&spec.evaluation),
            "quantize": spec.quantize.as_ref().map(quantize_json),
            "kind": kind_json(spec.kind.as_ref()),
        })
    });
    let stages: Vec<_> = job
        .stages
        .iter()
        .map(|stage| {
            json!({"stage": stage.stage, "tasks": stage.tasks, "done": stage.done, "running": stage.running})
        })
        .collect();
    // A server of before there were priorities says nothing.
    let priority = Some(job.priority()).filter(|priority| *priority != Priority::Unspecified);
    compact(json!({
        "name": job.name,
        "display_name": job.display_name,
        "spec": spec,
        "spec_digest": job.spec_digest,
        "state": job.state().as_str_name(),
        "priority": priority.map(|priority| priority.as_str_name()),
        "create_time": time(job.create_time.as_ref()),
        "start_time": time(job.start_time.as_ref()),
        "end_time": time(job.end_time.as_ref()),
        "stages": stages,
        "error": job.error.as_ref().map(job_error_json),
        "artifacts": artifacts(&job.artifacts),
        "last_sequence": job.last_sequence,
        "trace_id": job.trace_id,
    }))
}

/// An event: sequence, time, and the detail under its own name.
pub fn event_json(event: &JobEvent) -> Value {
    let (kind, detail) = match event
        .detail
        .as_ref()
        .and_then(|detail| detail.detail.as_ref())
    {
        Some(detail) => detail_json(detail),
        None => ("unknown", Value::Null),
    };
    json!({"sequence": event.sequence, "time": time(event.time.as_ref()), kind: detail})
}

fn detail_json(detail: &Detail) -> (&'static str, Value) {
    match detail {
        Detail::StateChanged(change) => (
            "state_changed",
            compact(json!({
                "state": change.state().as_str_name(),
                "error": change.error.as_ref().map(job_error_json),
                "artifacts": artifacts(&change.artifacts),
            })),
        ),
        Detail::StageStarted(stage) => (
            "stage_started",
            json!({"stage": stage.stage, "tasks": stage.tasks}),
        ),
        Detail::TaskDone(task) => (
            "task_done",
            json!({"stage": task.stage, "done": task.done, "tasks": task.tasks}),
        ),
        Detail::TaskRetried(task) => (
            "task_retried",
            json!({"task": task.task, "error": task.error.as_ref().map(attempt_json)}),
        ),
        Detail::Notice(notice) => (
            "notice",
            json!({
                "severity": notice.severity().as_str_name(),
                "code": notice.code,
                "subject": notice.subject,
                "message": notice.message,
            }),
        ),
        Detail::LayerMeasured(layer) => (
            "layer_measured",
            json!({
                "layer": layer.layer,
                "op": layer.op,
                "requested": layer.requested,
                "effective": layer.effective,
                "reason": layer.reason,
                "ways": layer.ways.iter().map(way_json).collect::<Vec<_>>(),
            }),
        ),
        Detail::LayerAccumulated(layer) => (
            "layer_accumulated",
            json!({
                "layer": layer.layer,
                "validation": layer.validation.as_ref().map(metrics_json),
                "converted": layer.converted.as_ref().map(metrics_json),
            }),
        ),
        Detail::OperatorMeasured(row) => (
            "operator_measured",
            json!({
                "name": row.name,
                "op": row.op,
                "dtype": row.dtype,
                "scale": row.scale,
                "isolated": row.isolated.as_ref().map(metrics_json),
                "validation": row.validation.as_ref().map(metrics_json),
                "converted": row.converted.as_ref().map(metrics_json),
                "drop_db": row.drop_db,
                "parts_db": row.parts_db,
                "zero_share": row.zero_share,
                "clip_share": row.clip_share,
                "range_covered": row.range_covered,
            }),
        ),
        Detail::SensitivityMeasured(row) => (
            "sensitivity_measured",
            json!({
                "op_name": row.op_name,
                "sensitive_type": row.sensitive_type,
                "op_type": row.op_type,
                "quant_dtype": row.quant_dtype,
                "macs": row.macs,
                "macs_share": row.macs_share,
                "estimate_db": row.estimate_db,
                "outputs": row.outputs.iter().map(|output| json!({
                    "output": output.output,
                    "sqnr": output.sqnr,
                    "cosine": output.cosine,
                    "l1": output.l1,
                    "mse": output.mse,
                    "atol": output.atol,
                    "rtol": output.rtol,
                    "kl": output.kl,
                })).collect::<Vec<_>>(),
                "reason": row.reason,
            }),
        ),
        Detail::Mended(step) => (
            "mended",
            json!({
                "round": step.round,
                "op": step.op,
                "sensitive_type": step.sensitive_type,
                "from": step.from,
                "to": step.to,
                "share": step.share,
                "left": step.left,
                "kept": step.kept,
                "added_us": step.added_us,
                "added_macs": step.added_macs,
                "before_sqnr_db": step.before_sqnr_db,
                "output_sqnr_db": step.output_sqnr_db,
            }),
        ),
        Detail::OutputMeasured(output) => (
            "output_measured",
            json!({
                "output": output.output,
                "validation": output.validation.as_ref().map(metrics_json),
                "converted": output.converted.as_ref().map(metrics_json),
            }),
        ),
    }
}

fn way_json(way: &WayMeasured) -> Value {
    json!({
        "way": way.way,
        "legal": way.legal,
        "reason": way.reason,
        "metrics": way.metrics.as_ref().map(metrics_json),
        "macs": way.macs,
        "zero_fraction": way.zero_fraction,
        "clip_fraction": way.clip_fraction,
        "accumulator_bits": way.accumulator_bits,
        "estimate": way.estimate.as_ref().map(estimate_json),
        "weight_bytes": way.weight_bytes,
        "fit": way.fit,
        "held_out_gain_db": way.held_out_gain_db,
    })
}

fn estimate_json(estimate: &CostEstimate) -> Value {
    json!({
        "latency_us": estimate.latency_us,
        "compute_us": estimate.compute_us,
        "load_us": estimate.load_us,
        "store_us": estimate.store_us,
        "bound": estimate.bound,
    })
}

/// The keys of `M` in result.json; `sqnr_db` null = no error at all.
fn metrics_json(metrics: &Metrics) -> Value {
    json!({
        "sqnr_db": metrics.sqnr_db,
        "cosine": metrics.cosine,
        "l1": metrics.l1,
        "mse": metrics.mse,
        "atol": metrics.atol,
        "lsb": metrics.lsb,
        "reason": metrics.reason,
        "left_out": metrics.left_out,
    })
}

fn quantize_json(spec: &QuantizeSpec) -> Value {
    let settings: Vec<_> = spec
        .settings
        .iter()
        .map(|setting| {
            let (kind, value) = match &setting.value {
                Some(layer_setting::Value::Way(way)) => ("way", json!(way)),
                Some(layer_setting::Value::Dtype(dtype)) => ("dtype", json!(dtype)),
                Some(layer_setting::Value::FixedScale(scale)) => ("fixed_scale", json!(scale)),
                Some(layer_setting::Value::Observer(observer)) => ("observer", json!(observer)),
                Some(layer_setting::Value::HighPrecision(keep)) => ("high_precision", json!(keep)),
                Some(layer_setting::Value::Operator(remedy)) => ("operator", json!(remedy)),
                None => ("value", Value::Null),
            };
            json!({"name": setting.name, kind: value})
        })
        .collect();
    json!({
        "template": spec.template,
        "observer": spec.observer,
        "percentile": spec.percentile,
        "merge": spec.merge,
        "toolchain": spec.toolchain,
        "march": spec.march,
        "rounding": spec.rounding,
        "scale_rule": spec.scale_rule,
        "power_of_two": spec.power_of_two,
        "min_layer_sqnr": spec.min_layer_sqnr,
        "min_output_sqnr": spec.min_output_sqnr,
        "strict": spec.strict,
        "allow_fp16": spec.allow_fp16,
        "chip": spec.chip,
        "output_targets": spec.output_targets.iter().map(|target| json!({
            "output": target.output, "metric": target.metric, "value": target.value,
        })).collect::<Vec<_>>(),
        "settings": settings,
        "freeze_integers": spec.freeze_integers,
        "keep_statistics": spec.keep_statistics,
        "save_outputs": spec.save_outputs,
    })
}

fn kind_json(kind: Option<&Kind>) -> Value {
    match kind {
        None => json!({"quantize": {}}),
        Some(Kind::Plan(_)) => json!({"plan": {}}),
        Some(Kind::Rescale(rescale)) => json!({"rescale": {
            "statistics": rescale.statistics.as_ref().map(file_json),
        }}),
        Some(Kind::Analyze(analyze)) => json!({"analyze": {
            "exact": analyze.exact,
            "outputs": analyze.outputs,
            "metric": analyze.metric,
        }}),
    }
}

fn job_error_json(error: &JobError) -> Value {
    json!({
        "code": error.code,
        "message": error.message,
        "task": error.task,
        "attempts": error.attempts.iter().map(attempt_json).collect::<Vec<_>>(),
    })
}

fn attempt_json(attempt: &AttemptError) -> Value {
    json!({
        "attempt": attempt.attempt,
        "worker": attempt.worker,
        "message": attempt.message,
        "time": time(attempt.time.as_ref()),
    })
}

fn artifacts(artifacts: &[Artifact]) -> Vec<Value> {
    let artifact = |artifact: &Artifact| json!({"name": artifact.name, "digest": artifact.digest, "size": artifact.size});
    artifacts.iter().map(artifact).collect()
}

fn files(files: &[InputFile]) -> Vec<Value> {
    files.iter().map(file_json).collect()
}

fn file_json(file: &InputFile) -> Value {
    json!({"name": file.name, "digest": file.digest, "size": file.size})
}

fn time(time: Option<&Timestamp>) -> Value {
    time.map_or(Value::Null, |time| json!(time.to_string()))
}

/// Drops what is null: in these messages it means "not yet" or "not at all".
fn compact(mut value: Value) -> Value {
    if let Value::Object(fields) = &mut value {
        fields.retain(|_, field| !field.is_null());
    }
    value
}

#[cfg(test)]
mod tests {
    use crate::v1::{EventDetail, JobState, LayerAccumulated, StateChanged};

    use super::*;

    fn event(detail: Detail) -> Value {
        event_json(&JobEvent {
            sequence: 7,
            time: Some(Timestamp {
                seconds: 1,
                nanos: 0,
            }),
            detail: Some(EventDetail {
                detail: Some(detail),
            }),
        })
    }

    #[test]
    fn an_event_carries_its_detail_under_its_own_name() {
        let json = event(Detail::LayerAccumulated(Box::new(LayerAccumulated {
            layer: "l".to_owned(),
            validation: Some(Metrics {
                sqnr_db: Some(13.4),
                ..Metrics::default()
            }),
            converted: None,
        })));
        assert_eq!(json["sequence"], 7);
        assert_eq!(json["time"], "1970-01-01T00:00:01Z");
        assert_eq!(json["layer_accumulated"]["validation"]["sqnr_db"], 13.4);
        assert!(json["layer_accumulated"]["converted"].is_null());
    }

    #[test]
    fn states_go_by_name_and_what_is_not_set_is_left_out() {
        let json = event(Detail::StateChanged(StateChanged {
            state: JobState::Running.into(),
            ..StateChanged::default()
        }));
        assert_eq!(json["state_changed"]["state"], "RUNNING");
        assert!(json["state_changed"].get("error").is_none());
        assert!(job_json(&Job::default()).get("end_time").is_none());
    }
}
