//! Progress on stderr: bars on a terminal, plain lines elsewhere.

use std::{
    fmt,
    io::{self, Write as _},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use indicatif::{
    HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle,
};

use super::{
    terminal::{HANG, Paint, Terminal},
    visible::visible,
    wrap::wrapped,
};

/// Columns of a bar, where there is room.
const BAR: usize = 32;
/// Columns of all that stands beside a bar, the longest figures taken.
const BESIDE_STAGE: usize = 44;
const BESIDE_BYTES: usize = 66;

/// A line of a terminal that must not be longer than the terminal is wide: the bar gives way first, then
/// the speed.
fn template(what: &str, speed: &str, beside: usize, width: Option<usize>) -> String {
    let room = width.map_or(BAR, |width| width.saturating_sub(beside));
    match room {
        0..8 => format!("{{prefix:>10}} {what}  {{left}}"),
        room => format!(
            "{{prefix:>10}} [{{bar:{}}}] {what}  {speed}  {{left}}",
            room.min(BAR)
        ),
    }
}

/// The progress display of a command. Clones draw on the same one.
#[derive(Debug, Clone)]
pub struct Progress {
    paint: Paint,
    bars: Option<MultiProgress>,
    stage: Arc<Mutex<Option<Stage>>>,
}

#[derive(Debug)]
struct Stage {
    name: String,
    bar: ProgressBar,
    /// Percentage of the newest plain line.
    percent: u64,
}

impl Progress {
    /// Bars where stderr is a terminal, lines elsewhere.
    pub fn new(terminal: &Terminal) -> Self {
        Self {
            paint: terminal.stderr_paint(),
            bars: terminal
                .can_draw()
                .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr())),
            stage: Arc::default(),
        }
    }

    /// Colours of what is printed here.
    pub fn paint(&self) -> Paint {
        self.paint
    }

    /// Whether somebody watches, rather than a log.
    pub fn is_drawn(&self) -> bool {
        self.bars.is_some()
    }

    /// Takes the bars away while somebody is asked, or brings them back.
    pub fn hide(&self, hide: bool) {
        let Some(bars) = &self.bars else { return };
        if hide {
            // A bar that cannot be cleared stays above the question.
            let _ = bars.clear();
        }
        bars.set_draw_target(match hide {
            true => ProgressDrawTarget::hidden(),
            false => ProgressDrawTarget::stderr(),
        });
    }

    /// Writes a question, and leaves the cursor behind it.
    pub fn question(&self, text: &str) {
        let text = wrapped(text, self.paint.width(), 0);
        let _ = write!(io::stderr(), "{text} ");
        let _ = io::stderr().flush();
    }

    /// Prints a line, above the bars where there are any.
    pub fn line(&self, text: &str) {
        let text = visible(text, self.paint.is_on());
        let text = wrapped(&text, self.paint.width(), HANG);
        // Progress is a courtesy: when stderr is gone the work goes on.
        let _ = match &self.bars {
            Some(bars) => bars.suspend(|| writeln!(io::stderr(), "{text}")),
            None => writeln!(io::stderr(), "{text}"),
        };
    }

    /// Prints a line that needs attention.
    pub fn warning(&self, text: &str) {
        self.line(&format!("{} {text}", self.paint.warn("warning:")));
    }

    /// A stage of the job has `done` of `tasks` tasks behind it.
    pub fn stage(&self, name: &str, done: u32, tasks: u32) {
        let mut current = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_none_or(|stage| stage.name != name) {
            if let Some(old) = current.take() {
                old.bar.abandon();
            }
            let template = template("{pos}/{len}", "{rate}", BESIDE_STAGE, self.paint.width());
            let bar = self.bar(name, u64::from(tasks), &template);
            *current = Some(Stage {
                name: name.to_owned(),
                bar,
                percent: 0,
            });
        }
        let Some(stage) = current.as_mut() else {
            return;
        };
        stage.bar.set_length(u64::from(tasks));
        stage.bar.set_position(u64::from(done));
        if self.bars.is_none() && done > 0 {
            // One line a task, but of many tasks no more than a hundred.
            let percent = u64::from(done) * 100 / u64::from(tasks.max(1));
            if tasks <= 100 || percent > stage.percent {
                self.line(&format!("{name} {done}/{tasks}"));
            }
            stage.percent = percent;
        }
        if done >= tasks {
            stage.bar.finish();
            *current = None;
        }
    }

    /// Leaves no bar behind that still moves.
    pub fn end(&self) {
        let mut current = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stage) = current.take() {
            stage.bar.abandon();
        }
    }

    /// Begins a transfer, or another passage over `bytes` bytes.
    pub fn transfer(&self, name: &'static str, bytes: u64) -> Transfer {
        if self.bars.is_none() && bytes > 0 {
            self.line(&format!("{name} {}", indicatif::HumanBytes(bytes)));
        }
        Transfer {
            bar: self.bar(name, bytes, &self.bytes_template()),
        }
    }

    fn bytes_template(&self) -> String {
        let what = "{bytes}/{total_bytes}";
        template(what, "{bytes_per_sec}", BESIDE_BYTES, self.paint.width())
    }

    fn bar(&self, name: &str, length: u64, template: &str) -> ProgressBar {
        let Some(bars) = &self.bars else {
            return ProgressBar::hidden();
        };
        let style = ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .with_key("rate", rate)
            .with_key("left", left)
            .progress_chars("=> ");
        let bar = bars.add(ProgressBar::new(length).with_style(style));
        bar.set_prefix(visible(name, false).into_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

/// How long it takes yet, which nothing tells before something is done.
fn left(state: &ProgressState, out: &mut dyn fmt::Write) {
    if state.pos() > 0 {
        // Nobody to tell if this fails.
        let _ = write!(out, "{:#} left", HumanDuration(state.eta()));
    }
}

/// Tasks a second with one decimal; indicatif's own has four.
fn rate(state: &ProgressState, out: &mut dyn fmt::Write) {
    // A rate that cannot be written is left out; the bar says enough without it.
    let _ = write!(out, "{:.1}/s", state.per_sec());
}

/// A running transfer; its bar goes away with it.
#[derive(Debug)]
pub struct Transfer {
    bar: ProgressBar,
}

impl Transfer {
    /// Some bytes moved, or have to move again.
    pub fn moved(&self, bytes: i64) {
        match u64::try_from(bytes) {
            Ok(forward) => self.bar.inc(forward),
            Err(_) => self.bar.dec(bytes.unsigned_abs()),
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_gives_way_to_the_terminal() {
        let bytes = |width| template("{bytes}", "{bytes_per_sec}", BESIDE_BYTES, width);
        assert!(bytes(None).contains("{bar:32}"));
        assert!(bytes(Some(120)).contains("{bar:32}"));
        assert!(bytes(Some(80)).contains("{bar:14}"));
        assert!(!bytes(Some(60)).contains("bar"));
    }
}
