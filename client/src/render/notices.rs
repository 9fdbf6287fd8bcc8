//! Notices: what the user must know. None is ever left out, so long lists of the same kind are
//! folded into one line that names every subject.

use dual16_proto::v1::{Notice, notice::Severity};

use super::terminal::Paint;

/// One line of a notice.
pub(super) fn line(notice: &Notice, paint: Paint) -> String {
    let label = label(notice.severity(), paint);
    match notice.subject.as_str() {
        "" => format!("{label} {} [{}]", notice.message, notice.code),
        subject => format!("{label} {subject}: {} [{}]", notice.message, notice.code),
    }
}

/// All notices, warnings first, those of equal wording together.
pub(super) fn summary(notices: &[Notice], paint: Paint) -> String {
    let mut groups: Vec<(&Notice, Vec<&str>)> = Vec::new();
    for notice in notices {
        let same = |(first, _): &&mut (&Notice, Vec<&str>)| {
            (&first.code, &first.message, first.severity)
                == (&notice.code, &notice.message, notice.severity)
        };
        match groups.iter_mut().find(same) {
            Some((_, subjects)) if subjects.contains(&notice.subject.as_str()) => {}
            Some((_, subjects)) => subjects.push(&notice.subject),
            None => groups.push((notice, vec![&notice.subject])),
        }
    }
    groups.sort_by_key(|(notice, _)| notice.severity() != Severity::Warning);
    let lines: Vec<_> = groups
        .into_iter()
        .map(|(notice, subjects)| {
            line(
                &Notice {
                    subject: subjects.join(", "),
                    ..notice.clone()
                },
                paint,
            )
        })
        .collect();
    lines.join("\n")
}

fn label(severity: Severity, paint: Paint) -> String {
    match severity {
        Severity::Warning => paint.warn("warning:"),
        Severity::Info | Severity::Unspecified => paint.faint("note:"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::Terminal;

    fn notice(severity: Severity, subject: &str, message: &str) -> Notice {
        Notice {
            severity: severity.into(),
            code: "FLOAT_ISLAND".to_owned(),
            subject: subject.to_owned(),
            message: message.to_owned(),
        }
    }

    #[test]
    fn every_subject_is_named_and_warnings_come_first() {
        let notices = [
            notice(Severity::Info, "a", "runs in float"),
            notice(Severity::Warning, "x", "needs 38 bits"),
            notice(Severity::Info, "b", "runs in float"),
            notice(Severity::Info, "b", "runs in float"),
        ];
        assert_eq!(
            summary(&notices, Terminal::plain().stderr_paint()),
            "warning: x: needs 38 bits [FLOAT_ISLAND]\nnote: a, b: runs in float [FLOAT_ISLAND]"
        );
    }
}
