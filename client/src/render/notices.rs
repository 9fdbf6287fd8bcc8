//! Notices: what the user must know. Of one kind a few are shown and the rest counted, so that many of
//! one do not bury the only one of another; result.json has them all.

use dual16_proto::v1::{Notice, notice::Severity};

use super::{
    terminal::{HANG, Paint},
    wrap::wrapped,
};

/// Subjects of one wording, and wordings of one code, that are shown.
const SHOWN: usize = 3;

/// One line of a notice, wrapped.
pub(super) fn line(notice: &Notice, paint: Paint) -> String {
    let label = label(notice.severity(), paint);
    let text = match notice.subject.as_str() {
        "" => format!("{label} {} [{}]", notice.message, notice.code),
        subject => format!("{label} {subject}: {} [{}]", notice.message, notice.code),
    };
    wrapped(&text, paint.width(), HANG)
}

/// Notices of equal wording.
struct Group<'a> {
    first: &'a Notice,
    subjects: Vec<&'a str>,
}

/// All notices, warnings first, those of equal wording together. With `all` every one is named.
pub(super) fn summary(notices: &[Notice], all: bool, paint: Paint) -> String {
    let mut groups = grouped(notices);
    groups.sort_by_key(|group| group.first.severity() != Severity::Warning);
    let shown = if all { usize::MAX } else { SHOWN };
    let kind = |group: &Group<'_>| (group.first.severity, group.first.code.clone());
    let mut lines = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        let before = groups[..index]
            .iter()
            .filter(|other| kind(other) == kind(group));
        match before.count().cmp(&shown) {
            std::cmp::Ordering::Less => lines.push(line(&group.notice(shown), paint)),
            std::cmp::Ordering::Equal => {
                let same = groups[index..]
                    .iter()
                    .filter(|other| kind(other) == kind(group));
                let left: usize = same.map(|group| group.subjects.len()).sum();
                let label = label(group.first.severity(), paint);
                let code = &group.first.code;
                let text = format!("{label} and {left} more [{code}]; --top 0 for all");
                lines.push(wrapped(&text, paint.width(), HANG));
            }
            std::cmp::Ordering::Greater => {}
        }
    }
    lines.join("\n")
}

fn grouped(notices: &[Notice]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for notice in notices {
        let same = |group: &&mut Group<'_>| {
            let first = group.first;
            (&first.code, &first.message, first.severity)
                == (&notice.code, &notice.message, notice.severity)
        };
        match groups.iter_mut().find(same) {
            Some(group) if group.subjects.contains(&notice.subject.as_str()) => {}
            Some(group) => group.subjects.push(&notice.subject),
            None => groups.push(Group {
                first: notice,
                subjects: vec![&notice.subject],
            }),
        }
    }
    groups
}

impl Group<'_> {
    /// One notice for all, which names `shown` of them.
    fn notice(&self, shown: usize) -> Notice {
        // That one more is left would take the room of its name.
        let named = match self.subjects.len() <= shown.saturating_add(1) {
            true => self.subjects.len(),
            false => shown,
        };
        let mut subject = self.subjects[..named].join(", ");
        if named < self.subjects.len() {
            subject += &format!(" and {} more", self.subjects.len() - named);
        }
        Notice {
            subject,
            ..self.first.clone()
        }
    }
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
            summary(&notices, false, Paint::plain(None)),
            "warning: x: needs 38 bits [FLOAT_ISLAND]\nnote: a, b: runs in float [FLOAT_ISLAND]"
        );
    }

    #[test]
    fn many_of_a_kind_are_counted() {
        let one = |index: usize| notice(Severity::Info, &format!("m{index}"), "runs int8");
        let wording: Vec<_> = (0..24).map(one).collect();
        assert_eq!(
            summary(&wording, false, Paint::plain(None)),
            "note: m0, m1, m2 and 21 more: runs int8 [FLOAT_ISLAND]"
        );
        assert!(summary(&wording, true, Paint::plain(None)).contains("m23"));

        let one = |index: usize| notice(Severity::Warning, "m", &format!("clips {index} %"));
        let figures: Vec<_> = (0..5).map(one).collect();
        let text = summary(&figures, false, Paint::plain(None));
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(
            text.ends_with("warning: and 2 more [FLOAT_ISLAND]; --top 0 for all"),
            "{text}"
        );
    }
}
