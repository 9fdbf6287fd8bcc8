//! Scales, plan and weights again from what a job observed.

use dual16_quant::{
    Error,
    job::JobKind,
    observe::{ObserverKind, Percentile},
    settings::{SettingValue, Settings, WayChoice},
};

use crate::support::{Finished, file, job, run, settings};

/// A job whose statistics are in a file, and what it left.
fn observed(keep: bool) -> (tempfile::TempDir, Finished) {
    let mut settings = settings(&[("*", way("a16w8"))]);
    settings.keep_statistics = keep;
    let finished = run(&job("smallmodel", settings)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("statistics.bin");
    std::fs::write(path, &finished.files["statistics.bin"]).unwrap();
    (folder, finished)
}

fn way(name: &str) -> SettingValue {
    SettingValue::Way(WayChoice::Fixed(name.parse().unwrap()))
}

fn rescaled(folder: &tempfile::TempDir, settings: Settings) -> dual16_quant::Result<Finished> {
    rescaled_model("smallmodel", folder, settings)
}

fn rescaled_model(
    model: &str,
    folder: &tempfile::TempDir,
    settings: Settings,
) -> dual16_quant::Result<Finished> {
    let mut job = job(model, settings);
    job.calibration.truncate(1);
    job.evaluation.clear();
    job.kind = JobKind::Rescale {
        statistics: file(&folder.path().join("statistics.bin")),
    };
    run(&job)
}

#[test]
fn the_same_settings_give_the_same_integers_from_one_batch() {
    let (folder, plain) = observed(false);
    let again = rescaled(&folder, settings(&[("*", way("a16w8"))])).unwrap();
    assert_eq!(again.stages[1].0, "rescale", "{:?}", again.stages);
    assert_eq!(again.stages.len(), 3, "no batch is run");
    let tensors = |finished: &Finished| {
        let bytes = finished.files["converted.safetensors"].clone();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut all: Vec<_> = tensors
            .tensors()
            .into_iter()
            .map(|(name, view)| (name, view.shape().to_vec(), view.data().to_vec()))
            .collect();
        all.sort();
        all
    };
    assert_eq!(tensors(&plain), tensors(&again));
    // What was not measured has no figure, and the reason.
    let result = again.result();
    let output = &result["outputs"][0]["validation"];
    assert!(output["sqnr_db"].is_null(), "{output:#}");
    assert!(
        output["reason"]
            .as_str()
            .unwrap()
            .contains("no batch was run"),
        "{output:#}"
    );
}

#[test]
fn another_observer_needs_what_it_would_have_kept() {
    let mut percentile = settings(&[("*", way("a16w8"))]);
    percentile.observer = ObserverKind::Percentile(Percentile::new(99.0).unwrap());
    let (folder, _) = observed(false);
    let error = rescaled(&folder, percentile.clone()).err().unwrap();
    assert!(error.to_string().contains("observe again"), "{error}");

    let (folder, plain) = observed(true);
    let other = rescaled(&folder, percentile.clone()).unwrap();
    assert_ne!(plain.files["plan.json"], other.files["plan.json"]);
    // As if it had been observed so.
    let asked = run(&job("smallmodel", percentile)).unwrap();
    let scales = |finished: &Finished| {
        let plan: serde_json::Value = serde_json::from_slice(&finished.files["plan.json"]).unwrap();
        plan["tensors"].clone()
    };
    assert_eq!(scales(&asked), scales(&other));
}

#[test]
fn what_needs_batches_or_is_of_another_model_is_refused() {
    let (folder, _) = observed(false);
    let auto = SettingValue::Way(WayChoice::Auto);
    let error = rescaled(&folder, settings(&[("linear2", auto)]))
        .err()
        .unwrap();
    assert!(matches!(error, Error::Setting { .. }), "{error}");
    assert!(error.to_string().contains("linear2"), "{error}");
    let error = rescaled_model("digits", &folder, settings(&[]))
        .err()
        .unwrap();
    assert!(matches!(error, Error::Batch { .. }), "{error}");
    assert!(error.to_string().contains("another model"), "{error}");
    std::fs::write(folder.path().join("statistics.bin"), b"no statistics").unwrap();
    let error = rescaled(&folder, settings(&[])).err().unwrap();
    assert!(error.to_string().contains("dual16 statistics 1"), "{error}");
}
