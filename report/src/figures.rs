//! The outputs against a threshold, for those who want a program to say no.

use super::{
    Error,
    results::{Errors, Results},
    sources::{RESULT, json},
    wrong,
};

/// Checks every measured output of `result.json` in both runs: those below `threshold` dB, each with its run and
/// figure. An output without a figure is below any threshold: nobody can say that it is not.
///
/// # Errors
/// [`Error::Artifact`] for what is no `result.json` of this version.
pub fn below(result: &[u8], threshold: f64) -> Result<Vec<String>, Error> {
    let results: Results = serde_json::from_value(json(RESULT, result)?)
        .map_err(|error| wrong(RESULT, error.to_string()))?;
    Ok(told(&results, threshold))
}

fn told(results: &Results, threshold: f64) -> Vec<String> {
    let mut told = Vec::new();
    for output in &results.outputs {
        for (run, errors) in [
            ("validation", &output.validation),
            ("converted", &output.converted),
        ] {
            told.extend(one(&output.name, run, errors, threshold));
        }
    }
    told
}

fn one(output: &str, run: &str, errors: &Errors, threshold: f64) -> Option<String> {
    match errors.rank() {
        // 30.0 is what a table shows of 29.96, so two digits are told.
        Some(db) if db < threshold => Some(format!("{output} {run} {db:.2} dB")),
        Some(_) => None,
        None => Some(format!("{output} {run} has no figure: {}", errors.reason)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn results(validation: serde_json::Value, converted: serde_json::Value) -> Results {
        serde_json::from_value(json!({
            "model": "m.onnx",
            "outputs": [{"name": "y", "validation": validation, "converted": converted}],
            "layers": [], "notices": [],
            "estimate": {"march": "nash-m", "latency_us": 1.0, "bound": "memory"},
        }))
        .unwrap()
    }

    #[test]
    fn each_run_below_is_told_and_equality_passes() {
        let results = results(
            json!({"sqnr_db": 30.0, "atol": 0.1}),
            json!({"sqnr_db": 29.996, "atol": 0.1}),
        );
        assert_eq!(told(&results, 30.0), ["y converted 30.00 dB"]);
        assert!(told(&results, 29.0).is_empty());
    }

    #[test]
    fn no_error_passes_and_no_figure_does_not() {
        let results = results(
            json!({"sqnr_db": null, "atol": 0.0, "reason": "there is no error"}),
            json!({"sqnr_db": null, "atol": null, "reason": "not run"}),
        );
        assert_eq!(
            told(&results, -1000.0),
            ["y converted has no figure: not run"]
        );
    }
}
