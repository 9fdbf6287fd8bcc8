//! Defaults, every field's path in its error, and every setting's way through.

use dual16_proto::v1::{LayerModel, OnnxModel, layer_setting::Value};
use dual16_quant::{
    observe::MergeMode,
    settings::{Template, WayChoice},
};

use super::*;

fn input(name: &str) -> InputFile {
    InputFile {
        name: name.to_owned(),
        digest: Digest::of(name.as_bytes()).to_string(),
        size: 3,
    }
}

fn spec() -> JobSpec {
    JobSpec {
        model: Some(job_spec::Model::Onnx(OnnxModel {
            model: Some(input("model.onnx")),
            external_data: vec![input("weights.bin")],
        })),
        calibration: vec![input("calib/000.npz"), input("calib/001.npz")],
        ..JobSpec::default()
    }
}

fn with(change: impl FnOnce(&mut QuantizeSpec)) -> Result<Settings, SpecError> {
    let mut quantize = QuantizeSpec::default();
    change(&mut quantize);
    let spec = JobSpec {
        quantize: Some(quantize),
        ..spec()
    };
    job_input(&spec, "sha256:0", None).map(|job| job.settings)
}

fn named(value: Option<Value>) -> Result<Settings, SpecError> {
    let setting = |value| LayerSetting {
        name: "fc*".to_owned(),
        value,
    };
    with(|quantize| {
        quantize.settings = vec![setting(Some(Value::HighPrecision(true))), setting(value)];
    })
}

#[test]
fn limits_are_those_of_the_lease_and_defaults_where_it_has_none() {
    let limits = v1::InputLimits {
        file_tensors: Some(7),
        graph_nesting: Some(0),
        ..v1::InputLimits::default()
    };
    let job = |limits| job_input(&spec(), "sha256:0", limits).unwrap();
    let expected = InputLimits {
        file_tensors: 7,
        graph_nesting: 0,
        ..InputLimits::DEFAULT
    };
    assert_eq!(job(Some(&limits)).limits, expected);
    assert_eq!(job(None).limits, InputLimits::DEFAULT);
}

#[test]
fn an_empty_request_is_the_documented_defaults() {
    let job = job_input(&spec(), "sha256:0", None).unwrap();
    assert_eq!(job.digest, "sha256:0");
    assert_eq!(job.calibration.len(), 2);
    assert!(job.evaluation.is_empty());
    let settings = job.settings;
    assert_eq!(settings.template, Template::A16W8);
    assert_eq!(settings.observer, ObserverKind::MinMax);
    assert_eq!(settings.merge, MergeMode::Exact);
    assert_eq!(settings.toolchain.to_string(), "oe-3.1");
    assert_eq!(settings.march.to_string(), "nash-m");
    assert_eq!(settings.rounding.to_string(), "rne");
    assert_eq!(settings.scale_rule.to_string(), "range");
    assert_eq!(settings.min_layer_sqnr, 30.0);
    assert!(!settings.power_of_two && !settings.save_outputs);
    assert!(settings.by_name.is_empty());
}

#[test]
fn files_keep_their_names_and_order() {
    let job = job_input(&spec(), "", None).unwrap();
    let ModelInput::Onnx {
        model,
        external_data,
    } = job.model
    else {
        panic!("no ONNX model");
    };
    assert_eq!(
        (model.name.as_str(), external_data[0].name.as_str()),
        ("model.onnx", "weights.bin")
    );
    assert_eq!(job.calibration[1].name, "calib/001.npz");
}

#[test]
fn settings_come_through() {
    let settings = with(|quantize| {
        quantize.observer = "percentile".to_owned();
        quantize.percentile = 99.0;
        quantize.scale_rule = "threshold".to_owned();
        quantize.min_layer_sqnr = Some(0.0);
    });
    let settings = settings.unwrap();
    let percentile = Percentile::new(99.0).unwrap();
    assert_eq!(settings.observer, ObserverKind::Percentile(percentile));
    assert_eq!(settings.scale_rule.to_string(), "threshold");
    assert_eq!(settings.min_layer_sqnr, 0.0);

    let value = |value| named(Some(value)).unwrap().by_name.pop().unwrap().value;
    let way = value(Value::Way("auto".to_owned()));
    assert!(matches!(way, SettingValue::Way(WayChoice::Auto)), "{way:?}");
    let way = value(Value::Way("a16w8+gptq".to_owned()));
    let SettingValue::Way(way) = way else {
        panic!("{way:?}");
    };
    assert!(matches!(way, WayChoice::Fitted(..)), "{way:?}");
    assert_eq!(way.to_string(), "a16w8+gptq");
    let scale = value(Value::FixedScale(7.0 / 32767.0));
    assert!(
        matches!(scale, SettingValue::FixedScale(s) if s == 7.0 / 32767.0),
        "{scale:?}"
    );
}

#[test]
fn errors_name_the_field() {
    let fields = [
        (
            with(|q| q.template = "a4w4".to_owned()),
            "quantize.template",
        ),
        (with(|q| q.observer = "max".to_owned()), "quantize.observer"),
        (with(|q| q.percentile = 100.5), "quantize.percentile"),
        (with(|q| q.percentile = f64::NAN), "quantize.percentile"),
        (with(|q| q.merge = "mean".to_owned()), "quantize.merge"),
        (
            with(|q| q.toolchain = "oe-4".to_owned()),
            "quantize.toolchain",
        ),
        (with(|q| q.march = "nash-x".to_owned()), "quantize.march"),
        (with(|q| q.rounding = "up".to_owned()), "quantize.rounding"),
        (
            with(|q| q.scale_rule = "max".to_owned()),
            "quantize.scale_rule",
        ),
        (
            with(|q| q.min_layer_sqnr = Some(f64::NAN)),
            "quantize.min_layer_sqnr",
        ),
        (named(None), "quantize.settings[1].value"),
        (
            named(Some(Value::Way("a4w4".to_owned()))),
            "quantize.settings[1].way",
        ),
        (
            named(Some(Value::Way("a16w16+gptq".to_owned()))),
            "quantize.settings[1].way",
        ),
        (
            named(Some(Value::Dtype("int4".to_owned()))),
            "quantize.settings[1].dtype",
        ),
        (
            named(Some(Value::Observer("max".to_owned()))),
            "quantize.settings[1].observer",
        ),
        (
            named(Some(Value::FixedScale(0.0))),
            "quantize.settings[1].fixed_scale",
        ),
        (
            named(Some(Value::FixedScale(-1.0))),
            "quantize.settings[1].fixed_scale",
        ),
        (
            named(Some(Value::FixedScale(1e-60))),
            "quantize.settings[1].fixed_scale",
        ),
        (
            named(Some(Value::FixedScale(f64::INFINITY))),
            "quantize.settings[1].fixed_scale",
        ),
        (
            with(|q| q.settings.push(LayerSetting::default())),
            "quantize.settings[0].name",
        ),
    ];
    for (result, field) in fields {
        assert_eq!(result.unwrap_err().field, field);
    }
}

#[test]
fn files_that_cannot_be_are_named() {
    let field = |change: fn(&mut JobSpec)| {
        let mut spec = spec();
        change(&mut spec);
        job_input(&spec, "", None).unwrap_err().field
    };
    assert_eq!(field(|spec| spec.model = None), "model");
    assert_eq!(field(|spec| spec.calibration.clear()), "calibration");
    assert_eq!(
        field(|spec| spec.calibration[1].digest.clear()),
        "calibration[1].digest"
    );
    assert_eq!(
        field(|spec| spec.evaluation.push(InputFile::default())),
        "evaluation[0].name"
    );
    let layers = |spec: &mut JobSpec| {
        spec.model = Some(job_spec::Model::Layers(LayerModel { weights: None }));
    };
    assert_eq!(field(layers), "layers.weights");
}
