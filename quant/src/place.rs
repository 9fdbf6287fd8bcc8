//! Which node a thread works on, told to whoever wants to know where a task is that does not end, or
//! of what one died. Nothing is computed from it.

use std::{cell::RefCell, sync::Arc};

/// What is told the name of each node, before it runs.
pub type Told = Arc<dyn Fn(&str) + Send + Sync>;

thread_local! {
    static TOLD: RefCell<Option<Told>> = const { RefCell::new(None) };
}

/// Does `work` on this thread, and tells of the nodes that it comes to. Sections that run on the
/// threads of a pool are told of as the node that they are part of.
pub fn within<T>(told: Told, work: impl FnOnce() -> T) -> T {
    let before = TOLD.replace(Some(told));
    let done = work();
    TOLD.set(before);
    done
}

/// This thread comes to a node, or to something else that has a name.
pub(crate) fn at(name: &str) {
    TOLD.with_borrow(|told| {
        if let Some(told) = told {
            told(name);
        }
    });
}

/// As [`at`], with a name that is made only where somebody listens.
pub(crate) fn at_made(name: impl FnOnce() -> String) {
    TOLD.with_borrow(|told| {
        if let Some(told) = told {
            told(&name());
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
        let told = {
            let seen = Arc::clone(&seen);
            Arc::new(move |name: &str| seen.lock().unwrap().push(name.to_owned()))
        };
        at("before");
        let done = within(told, || {
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
