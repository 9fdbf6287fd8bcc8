//! The API's job description into the flow's own types. Every error names the field by its path in
//! `dual16.v1.JobSpec`. Whether the names, files and values fit the model is the flow's to say.

use std::{fmt::Display, str::FromStr};

use dual16_proto::v1::{
    self, InputFile, JobSpec, LayerSetting, QuantizeSpec, job_spec, layer_setting,
};
use dual16_quant::{
    InputLimits,
    flow::{FileRef, JobInput, JobKind, ModelInput},
    job::Analyze,
    metrics::Metric,
    observe::{ObserverKind, Percentile},
    settings::{
        DEFAULT_MIN_LAYER_SQNR, DEFAULT_MIN_OUTPUT_SQNR, NamedSetting, OutputTarget, SettingValue,
        Settings,
    },
};
use thiserror::Error;

use crate::digest::Digest;

/// A field of a job description that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field}: {reason}")]
pub struct SpecError {
    /// Path in `JobSpec`: "quantize.settings[2].fixed_scale".
    pub field: String,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl SpecError {
    fn new(field: impl Into<String>, reason: impl Display) -> Self {
        Self {
            field: field.into(),
            reason: reason.to_string(),
        }
    }
}

/// The flow's view of a job; `digest` is the digest of the spec, `limits` is what the lease says of
/// its files.
///
/// # Errors
/// The first field that is missing or cannot be.
pub fn job_input(
    spec: &JobSpec,
    digest: &str,
    limits: Option<&v1::InputLimits>,
) -> Result<JobInput, SpecError> {
    let calibration = files("calibration", &spec.calibration)?;
    if calibration.is_empty() {
        return Err(SpecError::new(
            "calibration",
            "is empty; at least one batch is needed",
        ));
    }
    let settings = settings(spec.quantize.as_ref().unwrap_or(&QuantizeSpec::default()))?;
    let kind = kind(spec.kind.as_ref())?;
    Ok(JobInput {
        model: model(spec.model.as_ref())?,
        calibration,
        evaluation: files("evaluation", &spec.evaluation)?,
        settings: match kind {
            // An analysis is of the plan as it was asked for: no layer is poor enough for another way.
            JobKind::Analyze(_) => Settings {
                min_layer_sqnr: f64::NEG_INFINITY,
                ..settings
            },
            _ => settings,
        },
        kind,
        limits: limits.map_or(InputLimits::DEFAULT, input_limits),
        digest: digest.to_owned(),
    })
}

/// A server that does not know a limit yet leaves it out.
fn input_limits(limits: &v1::InputLimits) -> InputLimits {
    let default = InputLimits::DEFAULT;
    InputLimits {
        model_nodes: limits.model_nodes.unwrap_or(default.model_nodes),
        file_tensors: limits.file_tensors.unwrap_or(default.file_tensors),
        tensor_name_bytes: limits
            .tensor_name_bytes
            .unwrap_or(default.tensor_name_bytes),
        graph_nesting: limits.graph_nesting.unwrap_or(default.graph_nesting),
        unpacked_bytes: limits.unpacked_bytes.unwrap_or(default.unpacked_bytes),
    }
}

fn model(model: Option<&job_spec::Model>) -> Result<ModelInput, SpecError> {
    match model {
        None => Err(SpecError::new("model", "is missing; set onnx or layers")),
        Some(job_spec::Model::Onnx(onnx)) => Ok(ModelInput::Onnx {
            model: file("onnx.model", onnx.model.as_ref())?,
            external_data: files("onnx.external_data", &onnx.external_data)?,
        }),
        Some(job_spec::Model::Layers(layers)) => Ok(ModelInput::Layers {
            weights: file("layers.weights", layers.weights.as_ref())?,
        }),
    }
}

fn files(field: &str, files: &[InputFile]) -> Result<Vec<FileRef>, SpecError> {
    let indexed = files.iter().enumerate();
    indexed
        .map(|(index, input)| file(&format!("{field}[{index}]"), Some(input)))
        .collect()
}

fn file(field: &str, input: Option<&InputFile>) -> Result<FileRef, SpecError> {
    let input = input.ok_or_else(|| SpecError::new(field, "is missing"))?;
    if input.name.is_empty() {
        return Err(SpecError::new(
            format!("{field}.name"),
            "is empty; give a relative path",
        ));
    }
    input
        .digest
        .parse::<Digest>()
        .map_err(|error| SpecError::new(format!("{field}.digest"), error))?;
    Ok(FileRef {
        name: input.name.clone(),
        digest: input.digest.clone(),
        size: input.size,
    })
}

fn kind(kind: Option<&job_spec::Kind>) -> Result<JobKind, SpecError> {
    match kind {
        None => Ok(JobKind::Quantize),
        Some(job_spec::Kind::Plan(v1::PlanSpec {})) => Ok(JobKind::Plan),
        Some(job_spec::Kind::Analyze(spec)) => analyze(spec).map(JobKind::Analyze),
        Some(job_spec::Kind::Rescale(spec)) => Ok(JobKind::Rescale {
            statistics: file("rescale.statistics", spec.statistics.as_ref())?,
        }),
    }
}

fn analyze(spec: &v1::AnalyzeSpec) -> Result<Analyze, SpecError> {
    let metric = output_metric("analyze.metric", &spec.metric)?;
    Ok(Analyze {
        exact: spec.exact,
        outputs: spec.outputs.clone(),
        metric,
    })
}

fn settings(spec: &QuantizeSpec) -> Result<Settings, SpecError> {
    let percentile = percentile(spec.percentile)?;
    let min_layer_sqnr = spec.min_layer_sqnr.unwrap_or(DEFAULT_MIN_LAYER_SQNR);
    if !min_layer_sqnr.is_finite() {
        let reason = format!("is {min_layer_sqnr}; must be a finite number of dB");
        return Err(SpecError::new("quantize.min_layer_sqnr", reason));
    }
    let named = spec.settings.iter().enumerate();
    let named = named.map(|(index, setting)| {
        named_setting(&format!("quantize.settings[{index}]"), setting, percentile)
    });
    let min_output_sqnr = spec.min_output_sqnr.unwrap_or(DEFAULT_MIN_OUTPUT_SQNR);
    if !min_output_sqnr.is_finite() {
        let reason =
            format!("is {min_output_sqnr}; must be a finite number of dB, 0 mends nothing");
        return Err(SpecError::new("quantize.min_output_sqnr", reason));
    }
    let settings = Settings {
        template: word("quantize.template", &spec.template)?,
        observer: observer("quantize.observer", &spec.observer, percentile)?,
        merge: word("quantize.merge", &spec.merge)?,
        toolchain: word("quantize.toolchain", &spec.toolchain)?,
        march: word("quantize.march", &spec.march)?,
        rounding: word("quantize.rounding", &spec.rounding)?,
        scale_rule: word("quantize.scale_rule", &spec.scale_rule)?,
        power_of_two: spec.power_of_two,
        min_layer_sqnr,
        min_output_sqnr,
        by_name: named.collect::<Result<_, _>>()?,
        freeze_integers: spec.freeze_integers,
        allow_fp16: spec.allow_fp16,
        strict: spec.strict,
        save_outputs: spec.save_outputs,
        keep_statistics: spec.keep_statistics,
        output_targets: spec
            .output_targets
            .iter()
            .enumerate()
            .map(output_target)
            .collect::<Result<_, _>>()?,
        chip_toml: spec.chip.clone(),
    };
    match settings.chip() {
        Ok(_) => Ok(settings),
        Err(error) => Err(SpecError::new("quantize.chip", error)),
    }
}

fn output_target((index, target): (usize, &v1::OutputTarget)) -> Result<OutputTarget, SpecError> {
    let field = |leaf| format!("quantize.output_targets[{index}].{leaf}");
    let metric = output_metric(&field("metric"), &target.metric)?;
    if !target.value.is_finite() {
        let reason = format!("is {}; must be a finite number", target.value);
        return Err(SpecError::new(field("value"), reason));
    }
    Ok(OutputTarget {
        output: target.output.clone(),
        metric,
        value: target.value,
    })
}

/// A metric of outputs, SQNR where none is named.
fn output_metric(field: &str, text: &str) -> Result<Metric, SpecError> {
    let metric = match text {
        "" => Metric::Sqnr,
        text => text.parse().map_err(|error| SpecError::new(field, error))?,
    };
    // Outputs of several scales have no step in common.
    match metric {
        Metric::Lsb => Err(SpecError::new(
            field,
            "is lsb, which outputs do not have; one of sqnr, cosine, l1, mse, atol, rtol, kl",
        )),
        metric => Ok(metric),
    }
}

fn named_setting(
    field: &str,
    setting: &LayerSetting,
    percentile: Percentile,
) -> Result<NamedSetting, SpecError> {
    use layer_setting::Value;

    let at = |leaf: &str| format!("{field}.{leaf}");
    if setting.name.is_empty() {
        return Err(SpecError::new(
            at("name"),
            "is empty; give a name or a glob",
        ));
    }
    let value = match &setting.value {
        None => {
            let reason =
                "is missing; set way, dtype, fixed_scale, observer, high_precision or operator";
            return Err(SpecError::new(at("value"), reason));
        }
        Some(Value::Way(way)) => SettingValue::Way(parse(&at("way"), way)?),
        Some(Value::Dtype(dtype)) => SettingValue::Dtype(parse(&at("dtype"), dtype)?),
        Some(Value::FixedScale(scale)) => {
            // The chip's scales are f32, where a tiny f64 is 0 and a huge one infinite.
            let narrow = *scale as f32;
            if !(narrow.is_finite() && narrow > 0.0) {
                let reason = format!("is {scale}; must be > 0 and finite (as f32)");
                return Err(SpecError::new(at("fixed_scale"), reason));
            }
            SettingValue::FixedScale(*scale)
        }
        Some(Value::Observer(name)) => {
            SettingValue::Observer(observer(&at("observer"), name, percentile)?)
        }
        Some(Value::HighPrecision(keep)) => SettingValue::HighPrecision(*keep),
        Some(Value::Operator(remedy)) => SettingValue::Operator(parse(&at("operator"), remedy)?),
    };
    Ok(NamedSetting {
        name: setting.name.clone(),
        value,
    })
}

/// The percentile of every percentile observer that does not name its own.
fn percentile(percent: f64) -> Result<Percentile, SpecError> {
    if percent == 0.0 {
        return Ok(Percentile::default());
    }
    Percentile::new(percent).ok_or_else(|| {
        let reason = format!("is {percent}; must be in (0, 100], or 0 for 99.99");
        SpecError::new("quantize.percentile", reason)
    })
}

fn observer(field: &str, name: &str, percentile: Percentile) -> Result<ObserverKind, SpecError> {
    if name == "percentile" {
        return Ok(ObserverKind::Percentile(percentile));
    }
    word(field, name)
}

/// A word of the API, the default where it is empty.
fn word<T>(field: &str, text: &str) -> Result<T, SpecError>
where
    T: FromStr<Err: Display> + Default,
{
    if text.is_empty() {
        Ok(T::default())
    } else {
        parse(field, text)
    }
}

fn parse<T: FromStr<Err: Display>>(field: &str, text: &str) -> Result<T, SpecError> {
    text.parse().map_err(|error| SpecError::new(field, error))
}

#[cfg(test)]
mod tests;
