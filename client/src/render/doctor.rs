//! The examination of a server, for people and for programs.

use comfy_table::{Cell, Color};
use serde_json::{Value, json};

use super::{table::new_table, terminal::Paint};
use crate::doctor::{Examination, Verdict};

/// A row for each step, the remedy below what was found, and a line that sums up.
pub fn doctor_table(examination: &Examination, paint: Paint) -> String {
    let mut table = new_table(paint);
    table.set_header(vec!["check", "verdict", &examination.url]);
    for finding in &examination.findings {
        let colour = match finding.verdict {
            Verdict::Ok => Color::Green,
            Verdict::Warn => Color::Yellow,
            Verdict::Fail => Color::Red,
            Verdict::Skipped => Color::DarkGrey,
        };
        let text = match finding.remedy.as_str() {
            "" => finding.found.clone(),
            remedy => format!("{}\n→ {remedy}", finding.found),
        };
        let verdict = Cell::new(finding.verdict.name());
        let verdict = match paint.is_on() {
            true => verdict.fg(colour),
            false => verdict,
        };
        table.add_row(vec![
            Cell::new(finding.check),
            verdict,
            Cell::new_owned(text),
        ]);
    }
    format!("{}\n\n{}", table.trim_fmt(), summary(examination, paint))
}

fn summary(examination: &Examination, paint: Paint) -> String {
    let counted = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        many => format!("{many} {what}s"),
    };
    let warnings = counted(examination.count(Verdict::Warn), "warning");
    match (
        examination.count(Verdict::Fail),
        examination.count(Verdict::Warn),
    ) {
        (0, 0) => paint.good("all is well"),
        (0, _) => paint.warn(&format!("it works, with {warnings}")),
        (failed, 0) => paint.bad(&counted(failed, "failure")),
        (failed, _) => paint.bad(&format!("{}, {warnings}", counted(failed, "failure"))),
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
