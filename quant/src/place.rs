//! Which node a thread works on, reported to whoever wants to know where a task is that does not end, or
//! of what one died. Nothing is computed from it.

use std::{cell::RefCell, sync::Arc};

/// What receives the name of each node, before it runs.
pub type Report = Arc<dyn Fn(&str) + Send + Sync>;

thread_local! {
    static REPORT: RefCell<Option<Report>> = const { RefCell::new(None) };
}

/// Does `work` on this thread, and tells of the nodes that it comes to. Sections that run on the
/// threads of a pool are reported as the node that they are part of.
pub fn within<T>(report: Report, work: impl FnOnce() -> T) -> T {
    let before = REPORT.replace(Some(report));
    let done = work();
    REPORT.set(before);
    done
}

/// This thread comes to a node, or to something else that has a name.
pub(crate) fn at(name: &str) {
    REPORT.with_borrow(|report| {
        if let Some(report) = report {
            report(name);
        }
    });
}

/// As [`at`], with a name that is made only where somebody listens.
pub(crate) fn at_made(name: impl FnOnce() -> String) {
    REPORT.with_borrow(|report| {
        if let Some(report) = report {
            report(&name());
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn only_what_is_done_within_is_told() {
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let report = {
            let seen = Arc::clone(&seen);
            Arc::new(move |name: &str| seen.lock().unwrap().push(name.to_owned()))
        };
        at("before");
        let done = within(report, || {
            at("a");
            at_made(|| "b".to_owned());
            7
        });
        at("after");
        assert_eq!(
            (done, seen.lock().unwrap().as_slice()),
            (7, &["a".to_owned(), "b".to_owned()][..])
        );
    }
}
