//! What was found, done and reached, in sentences. Text only: how it is shown is not known here.

use std::collections::BTreeMap;

use serde_json::Value;

use super::results::{Notice, Output, Request, Results, Step};

/// Culprits and hindrances that are named.
const NAMED: usize = 3;

/// What is to be read first.
#[derive(Debug, Default)]
pub(super) struct Summary {
    /// What it is of.
    pub(super) model: String,
    /// How it was asked for, in a few words.
    pub(super) request: String,
    /// The worst output, the time: what everyone looks for.
    pub(super) tiles: Vec<Tile>,
    /// Paragraphs, each of a heading and sentences.
    pub(super) paragraphs: Vec<(&'static str, Vec<String>)>,
    /// Warnings, by code and message, and what they are about.
    pub(super) warnings: Vec<(String, String, Vec<String>)>,
}

/// A figure in large.
#[derive(Debug)]
pub(super) struct Tile {
    pub(super) figure: String,
    pub(super) of: String,
    /// Whether it is what was asked for, where something was.
    pub(super) good: Option<bool>,
}

/// Of a job that quantized.
pub(super) fn of_results(results: &Results, request: Option<&Request>) -> Summary {
    let asked = request.map_or(String::new(), |request| {
        format!(
            "{}, {}, {}",
            request.template, request.march, request.toolchain
        )
    });
    let aim = request.map(|request| request.min_output_sqnr);
    Summary {
        model: results.model.clone(),
        request: asked,
        tiles: tiles(results, aim),
        paragraphs: vec![
            ("Found", found(results, request)),
            ("Done", done(results)),
            ("Reached", reached(results, aim)),
            ("Costs", costs(results)),
        ],
        warnings: warnings(&results.notices),
    }
}

fn tiles(results: &Results, aim: Option<f64>) -> Vec<Tile> {
    let mut tiles = Vec::new();
    if let Some((output, db)) = worst(&results.outputs) {
        tiles.push(Tile {
            figure: decibels(db),
            of: match results.outputs.len() {
                1 => format!("output {}, converted", output.name),
                more => format!("the worst of {more} outputs, converted: {}", output.name),
            },
            good: aim.filter(|aim| *aim > 0.0).map(|aim| db >= aim),
        });
    }
    let before = results.mended.first().and_then(|step| step.before_sqnr_db);
    if let Some(before) = before {
        tiles.push(Tile {
            figure: decibels(before),
            of: "before the changes, on the calibration batches".to_owned(),
            good: None,
        });
    }
    tiles.push(Tile {
        figure: time(results.estimate.latency_us),
        of: format!("for one batch on {}: an estimate", results.estimate.march),
        good: None,
    });
    tiles.push(Tile {
        figure: results.layers.len().to_string(),
        of: "Linear layers".to_owned(),
        good: None,
    });
    tiles
}

/// What the outputs would have been, and what cost them most.
fn found(results: &Results, request: Option<&Request>) -> Vec<String> {
    let mut told = Vec::new();
    let plain = request.map_or("As requested".to_owned(), |request| {
        format!("Quantized as {} requests", request.template)
    });
    match results.mended.first() {
        Some(step) => {
            if let Some(before) = step.before_sqnr_db {
                told.push(format!(
                    "{plain}, the worst output had {} on the calibration batches.",
                    decibels(before)
                ));
            }
            let mut culprits: Vec<&Step> = Vec::new();
            let mut by_share: Vec<&Step> = results.mended.iter().collect();
            by_share.sort_by(|a, b| b.share.total_cmp(&a.share));
            for step in by_share {
                if !culprits.iter().any(|known| known.op == step.op) {
                    culprits.push(step);
                }
            }
            let named: Vec<String> = culprits
                .iter()
                .take(NAMED)
                .map(|step| format!("{} ({:.0} %)", step.op, 100.0 * step.share))
                .collect();
            told.push(format!(
                "What cost the outputs most, with its share of their error when it was found: {}.",
                listed(&named)
            ));
        }
        None => told.push(format!(
            "{plain}, nothing had to be changed for the outputs' sake, or nothing was to be."
        )),
    }
    told
}

fn done(results: &Results) -> Vec<String> {
    let mut told = Vec::new();
    let kept: Vec<&Step> = results.mended.iter().filter(|step| step.kept).collect();
    if !kept.is_empty() {
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for step in &kept {
            *kinds.entry(step.to.as_str()).or_default() += 1;
        }
        let kinds: Vec<String> = kinds
            .iter()
            .map(|(to, count)| format!("{count} × {to}"))
            .collect();
        told.push(format!(
            "{} for the outputs' sake: {}.",
            counted(kept.len(), "change was made", "changes were made"),
            listed(&kinds)
        ));
    }
    let taken_back = results.mended.len() - kept.len();
    if taken_back > 0 {
        told.push(format!(
            "{} did not help and {} taken back.",
            counted(taken_back, "change", "changes"),
            if taken_back == 1 { "was" } else { "were" }
        ));
    }
    let mut ways: BTreeMap<&str, usize> = BTreeMap::new();
    let other = |layer: &&super::results::Layer| layer.requested != layer.effective;
    for layer in results.layers.iter().filter(other) {
        *ways.entry(layer.effective.as_str()).or_default() += 1;
    }
    let changed: usize = ways.values().sum();
    match changed {
        0 => told.push("Every Linear runs in the way that was requested.".to_owned()),
        _ => {
            let ways: Vec<String> = ways
                .iter()
                .map(|(way, count)| format!("{count} × {way}"))
                .collect();
            told.push(format!(
                "{} of {} Linears {} in another way than requested: {}.",
                changed,
                results.layers.len(),
                if changed == 1 { "runs" } else { "run" },
                listed(&ways)
            ));
        }
    }
    told
}

fn reached(results: &Results, aim: Option<f64>) -> Vec<String> {
    let mut told = Vec::new();
    match worst(&results.outputs) {
        Some((output, db)) => {
            let validation = output.validation.rank().map_or(String::new(), |db| {
                format!(" ({} in VALIDATION)", decibels(db))
            });
            let aim = match aim.filter(|aim| *aim > 0.0) {
                None => String::new(),
                Some(aim) if db >= aim => format!(", as the aim of {} asks", decibels(aim)),
                Some(aim) => format!(", below the aim of {}", decibels(aim)),
            };
            told.push(format!(
                "Of the whole quantized model the worst output, {}, has {} in integers{validation}{aim}.",
                output.name,
                decibels(db)
            ));
        }
        None => {
            for output in &results.outputs {
                told.push(format!(
                    "{} has no figure: {}.",
                    output.name, output.converted.reason
                ));
            }
        }
    }
    if !results.in_the_way.is_empty() {
        let named: Vec<String> = results.in_the_way.iter().take(NAMED).cloned().collect();
        told.push(format!(
            "Most of what is left comes from {}.",
            listed(&named)
        ));
    }
    let float = results
        .notices
        .iter()
        .find(|notice| notice.code == "PARTLY_FLOAT");
    told.extend(float.map(|notice| format!("{}: {}.", notice.subject, notice.message)));
    told
}

fn costs(results: &Results) -> Vec<String> {
    let added: f64 = results
        .mended
        .iter()
        .filter(|step| step.kept)
        .map(|step| step.added_us)
        .sum();
    let changes = match added > 0.0 {
        true => format!(", {} of it by the changes", time(added)),
        false => String::new(),
    };
    vec![format!(
        "One batch takes {} on {} by estimate{changes}; it waits most for: {}. An estimate ranks plans and \
         promises nothing.",
        time(results.estimate.latency_us),
        results.estimate.march,
        results.estimate.bound
    )]
}

/// Of a job that analyzed.
pub(super) fn of_sensitivity(file: &Value) -> Summary {
    let rows = file["rows"].as_array().map_or(&[][..], Vec::as_slice);
    let measured = rows.iter().filter(|row| row["reason"] == "").count();
    let db = |outputs: &Value| {
        let figures = outputs.as_object().into_iter().flat_map(|all| all.values());
        let figures = figures.filter_map(|errors| errors["sqnr"].as_f64());
        figures.reduce(f64::min)
    };
    let mut found = vec![format!(
        "{} measured alone, everything else being float; {} more were only estimated.",
        counted(measured, "fake quant was", "fake quants were"),
        file["rows_only_estimated"].as_u64().unwrap_or_default()
    )];
    let costly = rows
        .iter()
        .filter_map(|row| Some((row, db(&row["outputs"])?)));
    let mut tiles = Vec::new();
    if let Some((row, figure)) = costly.min_by(|a, b| a.1.total_cmp(&b.1)) {
        let name = row["op_name"].as_str().unwrap_or_default();
        let kind = row["sensitive_type"].as_str().unwrap_or_default();
        found.push(format!(
            "{name} ({kind}) costs the outputs most: alone it leaves them at {}.",
            decibels(figure)
        ));
        tiles.push(Tile {
            figure: decibels(figure),
            of: format!("the outputs with {name} ({kind}) alone quantized"),
            good: None,
        });
    }
    let together = file["together"].as_array().and_then(|curve| curve.last());
    if let Some((all, figure)) = together.and_then(|all| Some((all, db(&all["outputs"])?))) {
        let count = all["rows"].as_u64().unwrap_or_default();
        found.push(format!(
            "All {count} measured activations and weights together leave the outputs at {}.",
            decibels(figure)
        ));
        tiles.push(Tile {
            figure: decibels(figure),
            of: format!("the outputs with {count} fake quants together"),
            good: None,
        });
    }
    Summary {
        model: file["model"].as_str().unwrap_or_default().to_owned(),
        request: "sensitivity".to_owned(),
        tiles,
        paragraphs: vec![("Found", found)],
        warnings: Vec::new(),
    }
}

/// The output with the lowest SQNR in integers.
fn worst(outputs: &[Output]) -> Option<(&Output, f64)> {
    let figures = outputs
        .iter()
        .filter_map(|output| Some((output, output.converted.rank()?)));
    figures.min_by(|a, b| a.1.total_cmp(&b.1))
}

/// Those of one code and message together.
fn warnings(notices: &[Notice]) -> Vec<(String, String, Vec<String>)> {
    let mut warnings: Vec<(String, String, Vec<String>)> = Vec::new();
    for notice in notices.iter().filter(|notice| notice.warning) {
        let known = warnings
            .iter_mut()
            .find(|(code, message, _)| (code, message) == (&notice.code, &notice.message));
        match known {
            Some((.., subjects)) => subjects.push(notice.subject.clone()),
            None => warnings.push((
                notice.code.clone(),
                notice.message.clone(),
                vec![notice.subject.clone()],
            )),
        }
    }
    warnings
}

fn decibels(db: f64) -> String {
    match db.is_finite() {
        true => format!("{db:.1} dB"),
        false => "no error".to_owned(),
    }
}

fn time(us: f64) -> String {
    match us {
        us if us >= 1000.0 => format!("{:.2} ms", us / 1000.0),
        us => format!("{us:.1} µs"),
    }
}

fn counted(count: usize, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

fn listed(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn results() -> Results {
        let step = |op: &str, share: f64, kept: bool| {
            json!({"op": op, "to": "split", "share": share, "kept": kept, "added_us": 5.0,
                   "before_sqnr_db": 20.0})
        };
        let errors = |db: f64| json!({"sqnr_db": db, "atol": 0.1, "reason": ""});
        serde_json::from_value(json!({
            "model": "m.onnx",
            "outputs": [
                {"name": "y", "validation": errors(41.0), "converted": errors(40.0)},
                {"name": "z", "validation": errors(26.0), "converted": errors(25.04)},
            ],
            "layers": [
                {"requested": "a16w8", "effective": "split"},
                {"requested": "a16w8", "effective": "a16w8"},
            ],
            "mended": [step("a.mul", 0.2, true), step("b.mul", 0.7, true), step("b.mul", 0.1, false)],
            "in_the_way": ["c"],
            "estimate": {"march": "nash-m", "latency_us": 1500.0, "bound": "memory"},
            "notices": [
                {"warning": true, "code": "CLIPPED", "subject": "a", "message": "it clips"},
                {"warning": true, "code": "CLIPPED", "subject": "b", "message": "it clips"},
                {"warning": false, "code": "NOTE", "subject": "c", "message": "a note"},
            ],
        }))
        .unwrap()
    }

    #[test]
    fn sentences_say_what_was_found_done_reached_and_what_it_costs() {
        let request = Request {
            template: "a16w8".to_owned(),
            toolchain: "oe-3.1".to_owned(),
            march: "nash-m".to_owned(),
            min_output_sqnr: 30.0,
        };
        let summary = of_results(&results(), Some(&request));
        let text = format!("{:?}", summary.paragraphs);
        for part in [
            "the worst output had 20.0 dB",
            "b.mul (70 %) and a.mul (20 %)",
            "2 changes were made for the outputs' sake: 2 × split.",
            "1 change did not help and was taken back.",
            "1 of 2 Linears runs in another way than requested: 1 × split.",
            "the worst output, z, has 25.0 dB in integers (26.0 dB in VALIDATION), below the aim of 30.0 dB.",
            "Most of what is left comes from c.",
            "One batch takes 1.50 ms on nash-m by estimate, 10.0 µs of it by the changes",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        assert_eq!(summary.tiles[0].good, Some(false));
        let [(code, _, subjects)] = &summary.warnings[..] else {
            panic!("{:?}", summary.warnings);
        };
        assert_eq!((code.as_str(), subjects.len()), ("CLIPPED", 2));
    }
}
