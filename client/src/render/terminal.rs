//! Where output goes and how it may look. The one place that writes to stdout.

use std::{
    fmt::Display,
    io::{self, IsTerminal as _, Write as _},
};

use anstyle::{AnsiColor, Style};
use terminal_size::{Height, Width, terminal_size_of};

use super::{visible::visible, wrap::wrapped};
use crate::{cli::ColorWhen, error::Error};

/// How far what follows a break is indented.
pub(super) const HANG: usize = 2;

/// Below this nothing can be laid out, and a terminal that says so does not mean it.
const NARROWEST: usize = 20;

/// What went well or was chosen.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// What needs attention.
pub(super) const WARN: Style = AnsiColor::Yellow.on_default();
/// What failed.
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
/// What matters less.
pub(super) const FAINT: Style = Style::new().dimmed();

/// The standard streams of this process.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    stdout: Paint,
    stderr: Paint,
    stderr_terminal: bool,
    stdin_terminal: bool,
}

impl Terminal {
    /// What the streams are, coloured as `when` says.
    pub fn detect(when: ColorWhen) -> Self {
        let wanted = |terminal: bool| match when {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            // https://no-color.org: set and not empty.
            ColorWhen::Auto => {
                terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        };
        let paint = |terminal: bool, size: Option<(Width, Height)>| Paint {
            on: wanted(terminal),
            width: size
                .filter(|_| terminal)
                .map(|(Width(width), _)| usize::from(width).max(NARROWEST)),
        };
        let (stdout, stderr) = (io::stdout(), io::stderr());
        Self {
            stdout: paint(stdout.is_terminal(), terminal_size_of(&stdout)),
            stderr: paint(stderr.is_terminal(), terminal_size_of(&stderr)),
            stderr_terminal: stderr.is_terminal(),
            stdin_terminal: io::stdin().is_terminal(),
        }
    }

    /// No terminal at all.
    pub fn plain() -> Self {
        Self {
            stdout: Paint::default(),
            stderr: Paint::default(),
            stderr_terminal: false,
            stdin_terminal: false,
        }
    }

    /// Whether somebody can be asked.
    pub fn is_interactive(&self) -> bool {
        self.stdin_terminal && self.stderr_terminal
    }

    /// Whether progress can be drawn instead of listed.
    pub fn can_draw(&self) -> bool {
        self.stderr_terminal
    }

    /// Colours and width of results.
    pub fn stdout_paint(&self) -> Paint {
        self.stdout
    }

    /// Colours and width of progress.
    pub fn stderr_paint(&self) -> Paint {
        self.stderr
    }

    /// Writes a result and a line end to stdout, at once.
    ///
    /// # Errors
    /// [`Error::Stdout`], also for a closed pipe.
    pub fn result(&self, text: &str) -> Result<(), Error> {
        let text = visible(text.trim_end(), self.stdout.on);
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.write_all(b"\n")?;
        Ok(stdout.flush()?)
    }

    /// Writes bytes that the program made itself to stdout, as they are.
    ///
    /// # Errors
    /// As [`Terminal::result`].
    pub fn raw(&self, bytes: &[u8]) -> Result<(), Error> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        Ok(stdout.flush()?)
    }

    /// Writes the final error to stderr.
    pub fn report(&self, error: &Error) {
        self.tell(&self.stderr.bad("error:"), error);
    }

    /// Writes what the command does without to stderr.
    pub fn warn(&self, problem: impl Display) {
        self.tell(&self.stderr.warn("warning:"), problem);
    }

    fn tell(&self, label: &str, what: impl Display) {
        let what = what.to_string();
        let text = format!("{label} {}", visible(&what, false));
        // Nobody is left to tell when stderr is gone.
        let _ = writeln!(io::stderr(), "{}", wrapped(&text, self.stderr.width, HANG));
    }
}

/// How a stream may be written to: its colours, or their absence, and its width.
#[derive(Debug, Clone, Copy, Default)]
pub struct Paint {
    on: bool,
    width: Option<usize>,
}

impl Paint {
    /// Whether it colours at all.
    pub fn is_on(self) -> bool {
        self.on
    }

    /// The columns of the terminal; `None` where there is none, and lines may be of any length.
    pub fn width(self) -> Option<usize> {
        self.width
    }

    /// No colours.
    #[cfg(test)]
    pub(super) fn plain(width: Option<usize>) -> Self {
        Self { on: false, width }
    }

    /// What went well or was chosen.
    pub fn good(self, text: &str) -> String {
        self.styled(GOOD, text)
    }

    /// What needs attention.
    pub fn warn(self, text: &str) -> String {
        self.styled(WARN, text)
    }

    /// What failed.
    pub fn bad(self, text: &str) -> String {
        self.styled(BAD, text)
    }

    /// What matters less.
    pub fn faint(self, text: &str) -> String {
        self.styled(FAINT, text)
    }

    /// Text in a style of one's own.
    pub(super) fn styled(self, style: Style, text: &str) -> String {
        match self.on && style != Style::new() {
            true => format!("{style}{text}{style:#}"),
            false => text.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_added_only_where_wanted() {
        assert_eq!(Terminal::plain().stderr_paint().bad("error:"), "error:");
        let paint = Paint {
            on: true,
            width: None,
        };
        assert_eq!(paint.good("ok"), "\u{1b}[32mok\u{1b}[0m");
    }
}
