//! Where output goes and how it may look. The one place that writes to stdout.

use std::{
    fmt::Display,
    io::{self, IsTerminal as _, Write as _},
};

use anstyle::{AnsiColor, Style};

use super::visible::visible;
use crate::{cli::ColorWhen, error::Error};

/// The standard streams of this process.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    stdout_colour: bool,
    stderr_colour: bool,
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
        let stderr_terminal = io::stderr().is_terminal();
        Self {
            stdout_colour: wanted(io::stdout().is_terminal()),
            stderr_colour: wanted(stderr_terminal),
            stderr_terminal,
            stdin_terminal: io::stdin().is_terminal(),
        }
    }

    /// No terminal at all.
    pub fn plain() -> Self {
        Self {
            stdout_colour: false,
            stderr_colour: false,
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

    /// Colours for results.
    pub fn stdout_paint(&self) -> Paint {
        Paint {
            on: self.stdout_colour,
        }
    }

    /// Colours for progress.
    pub fn stderr_paint(&self) -> Paint {
        Paint {
            on: self.stderr_colour,
        }
    }

    /// Writes a result and a line end to stdout, at once.
    ///
    /// # Errors
    /// [`Error::Stdout`], also for a closed pipe.
    pub fn result(&self, text: &str) -> Result<(), Error> {
        let text = visible(text.trim_end(), self.stdout_colour);
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.write_all(b"\n")?;
        Ok(stdout.flush()?)
    }

    /// Writes the final error to stderr.
    pub fn report(&self, error: &Error) {
        let label = self.stderr_paint().bad("error:");
        let error = error.to_string();
        let error = visible(&error, false);
        // Nobody is left to tell when stderr is gone.
        let _ = writeln!(io::stderr(), "{label} {error}");
    }

    /// Writes what the command does without to stderr.
    pub fn warn(&self, problem: impl Display) {
        let label = self.stderr_paint().warn("warning:");
        let problem = problem.to_string();
        let problem = visible(&problem, false);
        let _ = writeln!(io::stderr(), "{label} {problem}");
    }
}

/// Colours, or their absence.
#[derive(Debug, Clone, Copy)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// Whether it colours at all.
    pub fn is_on(self) -> bool {
        self.on
    }

    /// What went well or was chosen.
    pub fn good(self, text: &str) -> String {
        self.paint(AnsiColor::Green.on_default(), text)
    }

    /// What needs attention.
    pub fn warn(self, text: &str) -> String {
        self.paint(AnsiColor::Yellow.on_default(), text)
    }

    /// What failed.
    pub fn bad(self, text: &str) -> String {
        self.paint(AnsiColor::Red.on_default().bold(), text)
    }

    /// What matters less.
    pub fn faint(self, text: &str) -> String {
        self.paint(Style::new().dimmed(), text)
    }

    fn paint(self, style: Style, text: &str) -> String {
        match self.on {
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
        assert_eq!(Paint { on: true }.good("ok"), "\u{1b}[32mok\u{1b}[0m");
    }
}
