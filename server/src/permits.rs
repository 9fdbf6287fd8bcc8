//! The permits of a call, kept until nobody works for it any more.
//!
//! A caller may hang up, and a call may take too long: its future is dropped then, and with it whatever
//! a layer holds for it, but what it had begun on a thread goes on. Were its permits free at once,
//! callers who ask and hang up would have any number of threads at work, and a disk that hangs any
//! number of requests in memory. So work for a thread takes them along.

use std::sync::Arc;

tokio::task_local! {
    static PERMITS: Permits;
}

/// What is held; only that it is dropped matters.
pub(crate) type Permits = Arc<dyn Send + Sync>;

/// Runs a call that holds `permits`.
pub(crate) fn within<F: Future>(permits: Permits, call: F) -> impl Future<Output = F::Output> {
    PERMITS.scope(permits, call)
}

/// Those of the call that this is part of, to be kept beyond it.
pub(crate) fn current() -> Option<Permits> {
    PERMITS.try_with(Permits::clone).ok()
}

/// Work for another thread, with which the permits of the call that asks for it are kept.
pub(crate) fn kept<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let permits = current();
    move || {
        let done = work();
        drop(permits);
        done
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc,
        time::{Duration, Instant},
    };

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn a_place_is_free_when_the_work_ends_and_not_when_the_call_does() {
        let free = Arc::new(Semaphore::new(1));
        let permit = Arc::clone(&free).try_acquire_owned().unwrap();
        let (go_on, wait) = mpsc::channel::<()>();
        let (begun, begins) = mpsc::channel();
        let work = async {
            let work = kept(move || {
                begun.send(()).unwrap();
                wait.recv().unwrap();
            });
            tokio::task::spawn_blocking(work).await
        };
        let call = tokio::spawn(within(Arc::new(permit), work));
        tokio::task::spawn_blocking(move || begins.recv().unwrap())
            .await
            .unwrap();
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
        assert_eq!(free.available_permits(), 0, "the work goes on");

        go_on.send(()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while free.available_permits() == 0 {
            assert!(Instant::now() < deadline, "the permit is never free");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[test]
    fn work_without_a_call_needs_no_place() {
        assert_eq!(kept(|| 7)(), 7);
    }
}
