//! Ctrl-C and requests to terminate, as values that a command waits for: injected, so that tests
//! need no real signals.

use std::io;

use tokio::sync::mpsc;

use crate::error::Error;

/// What somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C: a person, who can be asked.
    Interrupt,
    /// SIGTERM: a program, which cannot.
    Terminate,
}

/// The signals of this process, in order.
#[derive(Debug)]
pub struct Signals {
    received: mpsc::UnboundedReceiver<Signal>,
}

impl Signals {
    /// Listens to the process's signals from now on. Needs a tokio runtime.
    ///
    /// # Errors
    /// The system's, when a handler cannot be installed.
    pub fn listen() -> io::Result<Self> {
        let (sender, signals) = Self::channel();
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            tokio::spawn(async move {
                loop {
                    let signal = tokio::select! {
                        Some(()) = interrupt.recv() => Signal::Interrupt,
                        Some(()) = terminate.recv() => Signal::Terminate,
                        else => return,
                    };
                    if sender.send(signal).is_err() {
                        return;
                    }
                }
            });
        }
        #[cfg(not(unix))]
        tokio::spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() && sender.send(Signal::Interrupt).is_ok() {}
        });
        Ok(signals)
    }

    /// Signals that come from a channel.
    pub fn channel() -> (mpsc::UnboundedSender<Signal>, Self) {
        let (sender, received) = mpsc::unbounded_channel();
        (sender, Self { received })
    }

    /// The next signal; waits for ever when none can come any more.
    pub async fn next(&mut self) -> Signal {
        match self.received.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }

    /// Runs `work` unless a signal comes first; `advice` tells the person what that means.
    ///
    /// # Errors
    /// Those of `work`, and [`Error::Interrupted`].
    pub async fn or_interrupted<T>(
        &mut self,
        advice: &str,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        tokio::select! {
            result = work => result,
            _ = self.next() => Err(Error::Interrupted(advice.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signal_ends_the_work_and_says_what_that_means() {
        let (sender, mut signals) = Signals::channel();
        let done = signals.or_interrupted("advice", async { Ok(1) }).await;
        assert!(matches!(done, Ok(1)));

        sender.send(Signal::Terminate).unwrap();
        let work = std::future::pending::<Result<(), Error>>();
        let error = signals.or_interrupted("advice", work).await.unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), error.exit_code()),
            ("interrupted; advice", 130)
        );
    }
}
