//! Scales, plan and weights again from what a job observed.

use dual16_nash::Toolchain;
use dual16_quant::{
    Error,
    job::JobKind,
    observe::{ObserverKind, Percentile},
    settings::{NamedSetting, SettingValue, Settings, WayChoice},
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

/// The integer weights by name.
fn tensors(finished: &Finished) -> Vec<(String, Vec<usize>, Vec<u8>)> {
    let bytes = &finished.files["converted.safetensors"];
    let tensors = safetensors::SafeTensors::deserialize(bytes).unwrap();
    let mut all: Vec<_> = tensors
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, view.shape().to_vec(), view.data().to_vec()))
        .collect();
    all.sort();
    all
}

/// A mended job, with the settings that name the ways and fits its layers have.
fn mended(model: &str) -> (tempfile::TempDir, Finished, Settings) {
    let mut settings = settings(&[]);
    settings.min_output_sqnr = 60.0;
    settings.keep_statistics = true;
    let finished = run(&job(model, settings.clone())).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("statistics.bin");
    std::fs::write(path, &finished.files["statistics.bin"]).unwrap();
    for layer in plan(&finished)["layers"].as_array().unwrap() {
        let [name, effective] = ["name", "effective"].map(|key| layer[key].as_str().unwrap());
        let way = SettingValue::Way(effective.parse().unwrap());
        settings.by_name.push(NamedSetting {
            name: name.to_owned(),
            value: way,
        });
    }
    (folder, finished, settings)
}

fn plan(finished: &Finished) -> serde_json::Value {
    serde_json::from_slice(&finished.files["plan.json"]).unwrap()
}

#[test]
fn what_a_search_found_is_kept() {
    let (folder, first, same) = mended("smallmodel");
    let told = first.result()["mended"].to_string();
    assert!(told.contains("late_mean") && told.contains('+'), "{told}");
    let again = rescaled(&folder, same.clone()).unwrap();
    assert_eq!(tensors(&first), tensors(&again));
    assert_eq!(plan(&first)["tensors"], plan(&again)["tensors"]);

    let mut other = same;
    other.observer = ObserverKind::Percentile(Percentile::new(99.0).unwrap());
    let other = rescaled(&folder, other).unwrap();
    assert_ne!(plan(&first)["tensors"], plan(&other)["tensors"]);
}

#[test]
fn the_same_settings_give_the_same_integers_from_one_batch() {
    let (folder, plain) = observed(false);
    let again = rescaled(&folder, settings(&[("*", way("a16w8"))])).unwrap();
    assert_eq!(again.stages[1].0, "rescale", "{:?}", again.stages);
    assert_eq!(again.stages.len(), 3, "no batch is run");
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
    assert!(error.to_string().contains("dual16 statistics 2"), "{error}");
}

/// A way of OE 3.2 is none of OE 3.1, whatever was observed.
#[test]
fn another_toolchain_that_cannot_run_the_plan_is_refused_with_the_rule() {
    let mut settings = settings(&[("*", way("a16w16"))]);
    settings.toolchain = Toolchain::Oe32;
    let finished = run(&job("smallmodel", settings.clone())).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("statistics.bin");
    std::fs::write(path, &finished.files["statistics.bin"]).unwrap();
    rescaled(&folder, settings.clone()).unwrap();
    settings.toolchain = Toolchain::Oe31;
    let error = rescaled(&folder, settings).err().unwrap();
    assert!(matches!(error, Error::IllegalWay { .. }), "{error}");
    let error = error.to_string();
    assert!(
        error.contains("a16w16 is illegal") && error.contains("oe-3.1"),
        "{error}"
    );
}

/// Tensors inside a Linear are observed once a layer turns out to need them, or a search begins; all at first
/// with `--keep-statistics`. What follows is the same.
#[test]
fn what_is_observed_late_is_what_is_observed_at_first() {
    for aim in [0.0, 60.0] {
        let run = |keep| {
            let mut settings = settings(&[]);
            settings.min_output_sqnr = aim;
            settings.keep_statistics = keep;
            run(&job("smallmodel", settings)).unwrap()
        };
        let (late, first) = (run(false), run(true));
        let inside = |finished: &Finished| {
            let text = String::from_utf8_lossy(&finished.files["statistics.csv"]);
            text.lines()
                .filter(|line| line.contains(",inner,"))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let (few, all) = (inside(&late), inside(&first));
        // Ranges alone here, moments as well there.
        let name = |line: &String| line.split(',').nth(2).map(str::to_owned);
        let named = |lines: &[String]| lines.iter().filter_map(name).collect::<Vec<_>>();
        let known = named(&all);
        assert!(named(&few).iter().all(|name| known.contains(name)));
        match aim > 0.0 {
            true => assert_eq!(few.len(), all.len()),
            false => assert!(!few.is_empty() && few.len() < all.len(), "{few:?}"),
        }
        assert_eq!(plan(&late)["layers"], plan(&first)["layers"]);
        assert_eq!(tensors(&late), tensors(&first));
    }
}
