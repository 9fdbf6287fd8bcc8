//! What tasks compute with: the threads of a process, and a panic that fails its own task only.

use std::{
    any::Any,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
};

use rayon::ThreadPoolBuilder;

use crate::runner::TaskError;

/// Bounds what all tasks of this process compute with: parallel sections share rayon's global pool,
/// and float runs size theirs by it. The first call of a process decides.
pub(crate) fn bound(threads: NonZeroUsize) {
    let pool = ThreadPoolBuilder::new()
        .num_threads(threads.get())
        .thread_name(|index| format!("dual16-compute-{index}"));
    if pool.build_global().is_err() {
        let threads = rayon::current_num_threads();
        tracing::debug!(threads, "the compute pool of this process is already there");
    }
}

/// Runs a task; its panic is its error.
///
/// Unwind safe: whatever a panic leaves half-done is owned by the task and dropped here, and a runner
/// shared by tasks owes its own soundness, as with any poisoned lock.
pub(crate) fn guarded<T>(task: impl FnOnce() -> Result<T, TaskError>) -> Result<T, TaskError> {
    catch_unwind(AssertUnwindSafe(task)).unwrap_or_else(|panic| {
        let text = panic_text(panic.as_ref());
        Err(TaskError::panic(format!("the task panicked: {text}")))
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
