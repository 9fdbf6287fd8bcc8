//! The last word of a program that failed.

use std::{
    error::Error,
    io::{self, Write as _},
    process::ExitCode,
};

/// Tells the operator why the program ends, on stderr: the log may be what failed, and a filter may
/// hide it.
pub fn failed(error: &(dyn Error + 'static)) -> ExitCode {
    // Nobody is left to tell when stderr is gone.
    let _ = writeln!(io::stderr(), "error: {}", told(error));
    ExitCode::FAILURE
}

/// An error and its causes in one line, each once: some errors tell their cause themselves.
fn told(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Told {
        text: &'static str,
        source: Option<Box<Told>>,
    }

    fn chain(texts: &[&'static str]) -> Option<Box<Told>> {
        let (&text, rest) = texts.split_first()?;
        let source = chain(rest);
        Some(Box::new(Told { text, source }))
    }

    #[test]
    fn a_cause_is_told_once() {
        let said = |texts: &[&'static str]| told(&*chain(texts).unwrap());
        assert_eq!(
            said(&["--tls-cert: no file", "no file"]),
            "--tls-cert: no file"
        );
        assert_eq!(said(&["SIGTERM", "no signals"]), "SIGTERM: no signals");
        assert_eq!(said(&["a: c; do d", "b", "c"]), "a: c; do d: b");
    }
}
