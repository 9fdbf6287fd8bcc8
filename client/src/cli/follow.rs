//! Following a job to its end on the screen, and what Ctrl-C means meanwhile.

use std::io;

use dual16_proto::v1::{Job, JobState};

use super::{Context, OutputFormat, Signal, Signals, session::Target};
use crate::{
    api::{ApiError, Client, JobName},
    error::Error,
    render::{Report, event_json},
};

/// What Ctrl-C asks. Enter alone is the answer that loses nothing.
const QUESTION: &str =
    "\nc cancels the job; l, or Enter alone, leaves it running and ends this command [c/L]:";
/// Any number but 0: a failed job's notices are told in short.
const SOME: usize = 1;

/// How a job ended that was followed.
pub(super) struct Ended {
    /// SUCCEEDED; anything else is an error.
    pub(super) job: Job,
    /// What its events told.
    pub(super) report: Report,
}

/// Shows a job's events from its first one on until it ends.
///
/// # Errors
/// [`Error::JobFailed`], [`Error::Cancelled`], [`Error::Interrupted`].
pub(super) async fn follow(
    client: &Client,
    name: &JobName,
    target: &Target,
    context: &mut Context<'_>,
) -> Result<Ended, Error> {
    let mut report = Report::default();
    let result = show_events(client, name, target, context, &mut report).await;
    context.progress.end();
    result?;
    let job = client.get_job(name).await?;
    if job.state() == JobState::Failed && context.global.output == OutputFormat::Table {
        // No table will hold them, and they may say why.
        let notices = report.notices(SOME, context.progress.paint());
        if !notices.is_empty() {
            context.progress.line(&notices);
        }
    }
    match job.state() {
        JobState::Cancelled => Err(Error::Cancelled {
            job: name.to_string(),
        }),
        JobState::Failed => Err(Error::JobFailed {
            job: name.to_string(),
            local: target.is_local(),
            error: Box::new(job.error.unwrap_or_default()),
        }),
        _ => Ok(Ended { job, report }),
    }
}

async fn show_events(
    client: &Client,
    name: &JobName,
    target: &Target,
    context: &mut Context<'_>,
    report: &mut Report,
) -> Result<(), Error> {
    let mut watch = client.watch(name, 0);
    loop {
        let signal = tokio::select! {
            event = watch.next() => match event? {
                None => return Ok(()),
                Some(event) => {
                    if context.global.output == OutputFormat::Jsonl {
                        context.terminal.result(&event_json(&event).to_string())?;
                    }
                    report.event(&event, &context.progress);
                    continue;
                }
            },
            signal = context.signals.next() => signal,
        };
        if target.is_local() {
            context.progress.line("stopping …");
            let advice = format!(
                "what is done is kept in {}; the same command goes on from there",
                target.flags().trim_start_matches("--data ")
            );
            cancel(client.cancel_job(name), &advice, &mut context.signals).await?;
            return Err(Error::Interrupted(advice));
        }
        if !wants_to_cancel(signal, context).await {
            let flags = target.flags();
            return Err(Error::Interrupted(format!(
                "{name} goes on running; `dual16 watch {id} {flags}` follows it again, \
                 `dual16 cancel {id} {flags}` stops it",
                id = name.id()
            )));
        }
        let advice = format!(
            "{name} may go on running; `dual16 cancel {id} {flags}` stops it",
            id = name.id(),
            flags = target.flags(),
        );
        cancel(client.cancel_job(name), &advice, &mut context.signals).await?;
        context.progress.line(&format!("cancelling {name} …"));
    }
}

/// Waits for a cancellation, which tries for long while the server is away, or the next signal.
async fn cancel(
    call: impl Future<Output = Result<Job, ApiError>>,
    advice: &str,
    signals: &mut Signals,
) -> Result<Job, Error> {
    signals
        .or_interrupted(advice, async { Ok(call.await?) })
        .await
}

/// Asks a person; a program's signal, or a second Ctrl-C, leaves the job running.
async fn wants_to_cancel(signal: Signal, context: &mut Context<'_>) -> bool {
    if signal == Signal::Terminate || !context.terminal.is_interactive() {
        return false;
    }
    context.progress.hide(true);
    context.progress.question(QUESTION);
    let cancels = tokio::select! {
        answer = answer() => answer.is_some_and(|text| is_cancel(&text)),
        _ = context.signals.next() => false,
    };
    context.progress.hide(false);
    cancels
}

fn is_cancel(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "c" | "cancel")
}

/// Reads a line on a thread of its own: a read of stdin cannot be called off, and the runtime
/// would wait for one of its own threads.
async fn answer() -> Option<String> {
    let (sender, answer) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        if io::stdin().read_line(&mut line).is_ok() {
            // Nobody waits any more after a second Ctrl-C.
            let _ = sender.send(line);
        }
    });
    answer.await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_signal_ends_the_wait_for_a_cancellation() {
        let (sender, mut signals) = Signals::channel();
        sender.send(Signal::Interrupt).unwrap();
        let error = cancel(std::future::pending(), "it may go on", &mut signals).await;
        assert!(
            matches!(&error, Err(Error::Interrupted(advice)) if advice == "it may go on"),
            "{error:?}"
        );
    }

    #[test]
    fn only_a_clear_answer_cancels() {
        assert!(is_cancel("c\n") && is_cancel(" Cancel "));
        assert!(!is_cancel("\n") && !is_cancel("l") && !is_cancel("yes"));
    }
}
