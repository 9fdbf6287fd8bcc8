//! The examination of a server, for people and for programs.

use anstyle::Style;
use serde_json::{Value, json};

use super::{
    counted,
    grid::{Cell, Grid, text, word},
    terminal::{BAD, FAINT, GOOD, Paint, WARN},
};
use crate::doctor::{Examination, Verdict};

/// A row for each step, the remedy below what was found, and a line that sums up.
pub fn doctor_table(examination: &Examination, paint: Paint) -> String {
    let mut grid = Grid::new([word("check"), word("verdict"), text(&examination.url)]);
    for finding in &examination.findings {
        let style: Style = match finding.verdict {
            Verdict::Ok => GOOD,
            Verdict::Warn => WARN,
            Verdict::Fail => BAD,
            Verdict::Skipped => FAINT,
        };
        let found = match finding.remedy.as_str() {
            "" => finding.found.clone(),
            remedy => format!("{}\n→ {remedy}", finding.found),
        };
        grid.row([
            finding.check.into(),
            Cell::from(finding.verdict.name()).styled(style),
            found.into(),
        ]);
    }
    format!("{}\n\n{}", grid.render(paint), summary(examination, paint))
}

fn summary(examination: &Examination, paint: Paint) -> String {
    let failures = |count| counted(count, "failure", "failures");
    let warnings = counted(examination.count(Verdict::Warn), "warning", "warnings");
    match (
        examination.count(Verdict::Fail),
        examination.count(Verdict::Warn),
    ) {
        (0, 0) => paint.good("all is well"),
        (0, _) => paint.warn(&format!("it works, with {warnings}")),
        (failed, 0) => paint.bad(&failures(failed)),
        (failed, _) => paint.bad(&format!("{}, {warnings}", failures(failed))),
    }
}

/// The same as one JSON document.
pub fn doctor_json(examination: &Examination) -> Value {
    let finding = |finding: &crate::doctor::Finding| {
        json!({
            "check": finding.check,
            "verdict": finding.verdict.name(),
            "found": finding.found,
            "remedy": finding.remedy,
        })
    };
    json!({
        "server": examination.url,
        "healthy": examination.count(Verdict::Fail) == 0,
        "checks": examination.findings.iter().map(finding).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{doctor::Finding, render::Terminal};

    #[test]
    fn a_remedy_stands_below_what_it_mends() {
        let finding = |verdict, remedy: &str| Finding {
            check: "tcp",
            verdict,
            found: "refused".into(),
            remedy: remedy.into(),
        };
        let examination = Examination {
            url: "http://h:1".into(),
            findings: vec![
                finding(Verdict::Fail, "start it"),
                finding(Verdict::Warn, ""),
            ],
        };
        let text = doctor_table(&examination, Terminal::plain().stdout_paint());
        let lines: Vec<_> = text.lines().collect();
        let refused = lines
            .iter()
            .position(|line| line.contains("refused"))
            .unwrap();
        assert!(
            lines[refused].contains("fail") && lines[refused + 1].contains("→ start it"),
            "{text}"
        );
        assert!(text.ends_with("1 failure, 1 warning"), "{text}");
        assert_eq!(doctor_json(&examination)["healthy"], false);
    }
}
