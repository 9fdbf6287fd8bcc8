//! The page put together: summary, data, script and style in one file. What is not ours is escaped here, and
//! nothing but the scripts that belong to the page may run in it.

use std::fmt::Write as _;

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    Error,
    results::{Request, Results},
    sources::{RESULT, Sources},
    summary::{self, Summary},
    wrong,
};

const STYLE: &str = include_str!("assets/report.css");

/// Libraries, with the licences that they ask to be kept with.
const LIBRARIES: [(&str, &str); 3] = [
    (
        include_str!("vendor/d3.LICENSE"),
        include_str!("vendor/d3.min.js"),
    ),
    (
        include_str!("vendor/plot.LICENSE"),
        include_str!("vendor/plot.min.js"),
    ),
    (
        include_str!("vendor/dagre.LICENSE"),
        include_str!("vendor/dagre.min.js"),
    ),
];

/// Our own, in the order in which they need each other.
const SCRIPT: &str = concat!(
    "(() => {\n\"use strict\";\n",
    include_str!("assets/elements.js"),
    include_str!("assets/links.js"),
    include_str!("assets/table.js"),
    include_str!("assets/charts.js"),
    include_str!("assets/tree.js"),
    include_str!("assets/graph.js"),
    include_str!("assets/sections.js"),
    "})();\n",
);

/// The page's text.
///
/// # Errors
/// [`Error::Artifact`] for a result of another form than this version knows.
pub(super) fn page(sources: &Sources) -> Result<Vec<u8>, Error> {
    let summary = summary(sources)?;
    let scripts: Vec<String> = LIBRARIES
        .iter()
        .map(|(licence, script)| format!("/*!\n{}*/\n{script}", licence.replace("*/", "* /")))
        .chain([SCRIPT.to_owned()])
        .collect();
    let mut page = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{} – dual16</title>\n<style>\n{STYLE}</style>\n</head>\n<body>",
        policy(&scripts),
        escaped(&summary.model),
    );
    body(&mut page, &summary);
    let _ = writeln!(
        page,
        "<script type=\"application/json\" id=\"data\">{}</script>",
        data(sources)
    );
    for script in &scripts {
        let _ = writeln!(page, "<script>{script}</script>");
    }
    page += "</body>\n</html>\n";
    Ok(page.into_bytes())
}

fn summary(sources: &Sources) -> Result<Summary, Error> {
    let Some(result) = &sources.result else {
        return Ok(sources
            .sensitivity
            .as_ref()
            .map(summary::of_sensitivity)
            .unwrap_or_default());
    };
    let results: Results = serde_json::from_value(result.clone()).map_err(|error| {
        wrong(
            RESULT,
            format!("it is of another form than this version reads: {error}"),
        )
    })?;
    // Without it the sentences say less.
    let request = sources.plan.as_ref().map(|plan| plan["request"].clone());
    let request: Option<Request> = request.and_then(|request| serde_json::from_value(request).ok());
    Ok(summary::of_results(&results, request.as_ref()))
}

/// What readers see before, or without, any script.
fn body(page: &mut String, summary: &Summary) {
    let _ = writeln!(
        page,
        "<header><h1>{}</h1><p class=\"of\">{}</p></header>\n\
         <nav id=\"contents\" aria-label=\"Sections\"></nav>\n<main>",
        escaped(&summary.model),
        escaped(&summary.request)
    );
    if !summary.warnings.is_empty() {
        *page += "<section id=\"warnings\" class=\"warnings\"><h2>Warnings</h2><ul>\n";
        for (code, message, subjects) in &summary.warnings {
            let _ = writeln!(
                page,
                "<li><strong>{}</strong>: {} <code>{}</code></li>",
                escaped(&subjects.join(", ")),
                escaped(message),
                escaped(code)
            );
        }
        *page += "</ul></section>\n";
    }
    *page += "<section id=\"summary\"><h2>Summary</h2>\n<ul class=\"tiles\">\n";
    for tile in &summary.tiles {
        let class = match tile.good {
            Some(true) => " class=\"good\"",
            Some(false) => " class=\"bad\"",
            None => "",
        };
        let _ = writeln!(
            page,
            "<li{class}><b>{}</b> <span>{}</span></li>",
            escaped(&tile.figure),
            escaped(&tile.of)
        );
    }
    *page += "</ul>\n<dl>\n";
    for (heading, sentences) in &summary.paragraphs {
        if !sentences.is_empty() {
            let text = escaped(&sentences.join(" "));
            let _ = writeln!(page, "<dt>{heading}</dt><dd>{text}</dd>");
        }
    }
    *page += "</dl>\n<noscript><p>Tables and pictures need JavaScript; the files beside this page hold the \
              same figures.</p></noscript>\n</section>\n</main>\n";
}

/// Only the page's own scripts run, nothing is loaded, and nothing is sent.
fn policy(scripts: &[String]) -> String {
    let hashes: Vec<String> = scripts
        .iter()
        .map(|script| format!("'sha256-{}'", BASE64.encode(Sha256::digest(script))))
        .collect();
    // Plot writes a style element into each chart.
    format!(
        "default-src 'none'; script-src {}; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
        hashes.join(" ")
    )
}

/// What the scripts show, as JSON that cannot end its element.
fn data(sources: &Sources) -> String {
    let plan = sources.plan.as_ref();
    let mut result = sources.result.clone();
    // It counts what the job's files were called, of which nothing that is shown depends.
    if let Some(Value::Object(result)) = &mut result {
        result.remove("job");
    }
    let part = |name: &str| plan.map_or(Value::Null, |plan| plan[name].clone());
    let data = json!({
        "result": result,
        "sensitivity": sources.sensitivity,
        "graph": sources.graph,
        "operators": sources.operators,
        "request": part("request"),
        "islands": part("float_islands"),
    });
    data.to_string().replace('<', "\\u003c")
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(name: &str) -> Sources {
        let errors = json!({"sqnr_db": 40.0, "atol": 0.1, "reason": ""});
        Sources {
            result: Some(json!({
                "model": name,
                "outputs": [{"name": name, "validation": errors, "converted": errors}],
                "layers": [],
                "estimate": {"march": "nash-m", "latency_us": 1.0, "bound": "memory"},
                "notices": [{"warning": true, "code": "C", "subject": name, "message": name}],
            })),
            sensitivity: None,
            plan: None,
            graph: None,
            operators: None,
        }
    }

    #[test]
    fn names_are_data_wherever_they_stand() {
        let hostile = "</script><script>alert('x')</script><img src=x onerror=\"y\">";
        let page = String::from_utf8(page(&sources(hostile)).unwrap()).unwrap();
        // The libraries and our own script hold whatever they hold; before them nothing opens an element.
        let ours = page.split("<script>").next().unwrap();
        assert!(!ours.contains("<img"), "an element of the model's");
        let data = ours.split("id=\"data\">").nth(1).unwrap();
        let data = data.split("</script>").next().unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["result"]["model"], hostile, "and it arrives whole");
        assert_eq!(page.matches("<script>").count(), LIBRARIES.len() + 1);
    }

    #[test]
    fn equal_artifacts_make_an_equal_page_that_names_no_other_place() {
        let first = page(&sources("m.onnx")).unwrap();
        assert_eq!(first, page(&sources("m.onnx")).unwrap());
        let page = String::from_utf8(first).unwrap();
        assert!(page.contains("default-src 'none'"));
        for loading in ["<link", "src=\"", "@import", "url(http"] {
            assert!(!page.contains(loading), "{loading}");
        }
    }
}
