//! Remedies that settings ask for by name: they run as a search's do, from the first run on, and no search
//! takes them back.

use std::path::Path;

use dual16_nash::Toolchain;
use dual16_quant::{
    Error,
    flow::Event,
    job::{Analyze, JobKind},
    metrics::Metric,
    settings::{NamedSetting, SettingValue, Settings},
};
use serde_json::Value;

use crate::{
    mend::{far_ranged, mending, outlier},
    support::{Finished, data, file, job, run, run_in_order},
};

/// A model, how good its outputs are to be, and what operators are asked for.
fn asked(
    model: &Path,
    min_output_sqnr: f64,
    operators: &[(&str, &str)],
) -> dual16_quant::Result<Finished> {
    run(&job(
        model.to_str().unwrap(),
        with(min_output_sqnr, operators),
    ))
}

fn with(min_output_sqnr: f64, operators: &[(&str, &str)]) -> Settings {
    let named = |&(name, remedy): &(&str, &str)| NamedSetting {
        name: name.to_owned(),
        value: SettingValue::Operator(remedy.parse().unwrap()),
    };
    Settings {
        by_name: operators.iter().map(named).collect(),
        ..mending(min_output_sqnr)
    }
}

fn plan(finished: &Finished) -> Value {
    serde_json::from_slice(&finished.files["plan.json"]).unwrap()
}

/// Name, requested, effective of each operator that is not as the model has it.
fn operators(finished: &Finished) -> Vec<[String; 3]> {
    let plan = plan(finished);
    let operators = plan["operators"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of = |own: &Value| ["name", "requested", "effective"].map(|key| text(&own[key]));
    operators.iter().map(of).collect()
}

fn steps(finished: &Finished) -> usize {
    let mended = |event: &&Event| matches!(event, Event::Mended(_));
    finished.events.iter().filter(mended).count()
}

fn outlier_model() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    outlier(folder.path());
    folder
}

/// By the operation, by the square that it replaces, by a glob, a remedy runs without a search.
#[test]
fn a_remedy_runs_where_its_name_says_without_a_search() {
    let folder = outlier_model();
    for name in ["norm", "norm.mul", "n*", "norm.var_mean.pre_mean"] {
        let finished = asked(folder.path(), 0.0, &[(name, "two_range")]).unwrap();
        assert_eq!(steps(&finished), 0);
        let runs = ["norm.var_mean.pre_mean", "two_range", "two_range"].map(str::to_owned);
        assert_eq!(operators(&finished), [runs], "{name}");
        let tensors = &plan(&finished)["tensors"];
        assert!(tensors["norm.two_range.hi_mul"].is_object(), "{name}");
        assert!(
            tensors["norm.mul"].is_null(),
            "what was replaced runs no more"
        );
    }
}

/// What a search found, asked for by the names that plan.json has, is the same model.
#[test]
fn what_a_search_found_can_be_asked_for() {
    let folder = outlier_model();
    let found = asked(folder.path(), 32.0, &[]).unwrap();
    let of_search = operators(&found);
    let names: Vec<(&str, &str)> = of_search
        .iter()
        .map(|[name, _, effective]| (name.as_str(), effective.as_str()))
        .collect();
    assert!(names.len() > 1, "{of_search:?}");
    let asked = asked(folder.path(), 0.0, &names).unwrap();
    assert_eq!(plan(&asked)["tensors"], plan(&found)["tensors"]);
}

/// What was asked for stands beside what a search finds, whatever that would rather have.
#[test]
fn a_search_goes_on_from_there_and_leaves_it() {
    let folder = outlier_model();
    let searched = asked(folder.path(), 95.0, &[("norm.mul", "dot")]).unwrap();
    assert!(steps(&searched) > 0);
    let operators = operators(&searched);
    let of_squares: Vec<_> = operators
        .iter()
        .filter(|[_, requested, _]| requested == "dot")
        .collect();
    assert_eq!(of_squares.len(), 1, "{operators:?}");
    assert_eq!(of_squares[0][2], "dot");
    // As it is, though the search has a remedy.
    let plain = asked(folder.path(), 32.0, &[("norm", "plain")]).unwrap();
    assert!(
        self::operators(&plain).is_empty(),
        "{:?}",
        self::operators(&plain)
    );
    assert!(plan(&plain)["tensors"]["norm.mul"].is_object());
    let job = job(
        folder.path().to_str().unwrap(),
        with(95.0, &[("norm.mul", "dot")]),
    );
    let backwards = run_in_order(&job, |maps| maps.reverse()).unwrap();
    assert_eq!(searched.files, backwards.files);
}

#[test]
fn a_table_is_divided_by_name_unless_a_later_setting_says_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    far_ranged(folder.path());
    let finished = asked(folder.path(), 0.0, &[("softmax.exp", "division")]).unwrap();
    let divided = ["softmax.exp", "division", "division"].map(str::to_owned);
    assert_eq!(operators(&finished), [divided]);
    assert_eq!(plan(&finished)["tables"][0]["node"], "softmax.exp");
    // The later of two counts.
    let twice = [("softmax.exp", "division"), ("softmax*", "plain")];
    let finished = asked(folder.path(), 0.0, &twice).unwrap();
    assert!(operators(&finished).is_empty());
}

#[test]
fn what_does_not_fit_is_refused_with_what_does() {
    let folder = outlier_model();
    let model = folder.path();
    for (name, remedy, says) in [
        (
            "norm",
            "split",
            "what is: two_range, dot, late_mean, division",
        ),
        ("norm", "fp16", "allow_fp16"),
        ("fc", "two_range", "it is a Linear"),
        ("n*", "two_tables", "not to be had there under oe-3.1"),
    ] {
        let error = asked(model, 0.0, &[(name, remedy)]).err().unwrap();
        assert!(matches!(error, Error::Setting { .. }), "{error}");
        let error = error.to_string();
        let setting = format!("operator {name}={remedy}");
        assert!(error.contains(&setting) && error.contains(says), "{error}");
    }
    let error = asked(model, 0.0, &[("nrm", "dot")]).err().unwrap();
    assert!(matches!(error, Error::UnknownName { .. }), "{error}");
}

/// A plan job says what is legal at each operator, and nothing of what runs.
#[test]
fn a_plan_tells_what_is_legal_where() {
    let folder = outlier_model();
    let mut job = job(folder.path().to_str().unwrap(), mending(30.0));
    job.kind = JobKind::Plan;
    let plan = plan(&run(&job).unwrap());
    let names = plan["names"].as_array().unwrap();
    let of = |name: &str| names.iter().find(|named| named["name"] == name).unwrap();
    let legal = serde_json::json!(["two_range", "dot", "late_mean", "division"]);
    assert_eq!(of("norm")["remedies"], legal);
    assert!(of("fc")["remedies"].is_null());
}

/// Rescaled, an operator runs as it was asked to in the job, or as the rescale asks; a remedy that the job
/// did not observe, and another toolchain's, are refused with the reason.
#[test]
fn a_rescale_takes_what_the_job_observed() {
    let folder = outlier_model();
    let statistics = folder.path().join("statistics.bin");
    let keep = |finished: &Finished| {
        std::fs::write(&statistics, &finished.files["statistics.bin"]).unwrap()
    };
    let rescaled = |settings: Settings| {
        let mut job = job(folder.path().to_str().unwrap(), settings);
        job.calibration.truncate(1);
        job.evaluation.clear();
        job.kind = JobKind::Rescale {
            statistics: file(&statistics),
        };
        run(&job)
    };
    let first = asked(folder.path(), 0.0, &[("norm.mul", "two_range")]).unwrap();
    keep(&first);
    let again = rescaled(with(0.0, &[("norm.mul", "two_range")])).unwrap();
    assert_eq!(operators(&again), operators(&first));
    assert_eq!(plan(&again)["tensors"], plan(&first)["tensors"]);
    // As it was without being asked again; another; none.
    assert_eq!(
        operators(&rescaled(with(0.0, &[])).unwrap())[0][2],
        "two_range"
    );
    assert_eq!(
        operators(&rescaled(with(0.0, &[("norm.mul", "dot")])).unwrap())[0][2],
        "dot"
    );
    assert!(operators(&rescaled(with(0.0, &[("norm.mul", "plain")])).unwrap()).is_empty());
    // There one product takes the place of the planes.
    let elsewhere = Settings {
        toolchain: Toolchain::Oe32,
        ..with(0.0, &[])
    };
    let error = rescaled(elsewhere).err().unwrap().to_string();
    assert!(
        error.contains("toolchain") && error.contains("are for another one"),
        "{error}"
    );
    keep(&asked(folder.path(), 0.0, &[]).unwrap());
    let error = rescaled(with(0.0, &[("norm.mul", "dot")]))
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("observed no remedies"), "{error}");
}

#[test]
fn an_analysis_changes_no_operator() {
    let mut job = job(
        data("smallmodel").to_str().unwrap(),
        with(0.0, &[("layernorm", "two_range")]),
    );
    job.kind = JobKind::Analyze(Analyze {
        exact: None,
        outputs: Vec::new(),
        metric: Metric::Sqnr,
    });
    let error = run(&job).err().unwrap().to_string();
    assert!(
        error.contains("layernorm=two_range") && error.contains("analysis"),
        "{error}"
    );
}
