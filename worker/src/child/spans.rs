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

use super::wire::{OfTask, Report, Span};

thread_local! {
    /// The task that this thread runs.
    static TASK: Cell<Option<u64>> = const { Cell::new(None) };
}

/// This thread runs a task from now on.
pub(super) fn of_task(task: u64) {
    TASK.set(Some(task));
}

/// Where reports go.
pub(super) type Send = Arc<dyn Fn(&Report) + std::marker::Send + Sync>;

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

impl Spans {
    fn tell(&self, what: OfTask) {
        (self.send)(&Report::OfTask(TASK.get().unwrap_or(u64::MAX), what));
    }
}

impl Subscriber for Spans {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && metadata.name() == "way"
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::DEBUG)
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut span = Span {
            number,
            layer: String::new(),
            way: String::new(),
        };
        attributes.record(&mut Fields(&mut span));
        self.tell(OfTask::SpanBegins(span));
        span::Id::from_u64(number)
    }

    fn try_close(&self, id: span::Id) -> bool {
        self.tell(OfTask::SpanEnds(id.into_u64()));
        true
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

struct Fields<'s>(&'s mut Span);

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
