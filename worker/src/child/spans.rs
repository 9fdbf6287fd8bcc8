//! The spans of a process that runs tasks: handed to the worker, which opens and closes them in the
//! trace of the task.

use std::{
    cell::Cell,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
};

use super::wire::{SpanBegins, SpanEnds, report};

thread_local! {
    /// The task that this thread runs.
    static TASK: Cell<Option<u64>> = const { Cell::new(None) };
}

/// This thread runs a task from now on.
pub(super) fn of_task(task: u64) {
    TASK.set(Some(task));
}

/// Where reports go.
pub(super) type Send = Arc<dyn Fn(report::Kind) + std::marker::Send + Sync>;

/// Hears of every span that a worker shows; there is one kind.
struct Spans {
    send: Send,
    next: AtomicU64,
}

/// Hands the spans of this process to `send` from now on.
pub(super) fn hand_on(send: Send) {
    let spans = Spans {
        send,
        next: AtomicU64::new(1),
    };
    // There is no other before: this process has no log of its own.
    let _ = tracing::subscriber::set_global_default(spans);
}

impl Subscriber for Spans {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && metadata.name() == "way"
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::DEBUG)
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let span = self.next.fetch_add(1, Ordering::Relaxed);
        let mut begins = SpanBegins {
            task: TASK.get().unwrap_or(u64::MAX),
            span,
            ..SpanBegins::default()
        };
        attributes.record(&mut Fields(&mut begins));
        (self.send)(report::Kind::SpanBegins(begins));
        span::Id::from_u64(span)
    }

    fn try_close(&self, id: span::Id) -> bool {
        let ends = SpanEnds {
            task: TASK.get().unwrap_or(u64::MAX),
            span: id.into_u64(),
        };
        (self.send)(report::Kind::SpanEnds(ends));
        true
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

struct Fields<'s>(&'s mut SpanBegins);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "layer" {
            value.clone_into(&mut self.0.layer);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "way" {
            self.0.way = format!("{value:?}");
        }
    }
}
