//! How a process ended, and what its tasks are told: whose fault it was, and with which figures.

use std::{
    collections::VecDeque,
    fs,
    io::{BufRead as _, BufReader, Read},
    os::unix::process::ExitStatusExt as _,
    process::ExitStatus,
};

use dual16_quant::memory::{Bytes, Held};
use rustix::process::Signal;

use super::place::at;
use crate::runner::TaskError;

/// Lines of a process's stderr that are kept for what its death is told with.
const LAST_LINES: usize = 5;

/// The longest line that is kept, in bytes.
const LINE_BYTES: u64 = 500;

/// What Rust says before it aborts for want of memory, up to and after the figure.
const NO_MEMORY: (&str, &str) = ("memory allocation of ", " bytes failed");

/// Why the worker ended a process itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Nothing ran in it, or what ran was to stop and did not: no fault of the other tasks.
    ByWorker,
    /// It no longer answered.
    Unanswering,
}

/// How a process ended.
#[derive(Debug)]
pub(super) struct Death {
    pub(super) ended: Option<Ended>,
    /// None where the system does not say.
    pub(super) status: Option<ExitStatus>,
    /// The kernel has killed something for want of memory while the process lived.
    pub(super) out_of_memory: bool,
    pub(super) last_lines: VecDeque<String>,
    /// What its tasks had borrowed.
    pub(super) held: Held,
    /// What the kernel let it have.
    pub(super) allowed: Option<u64>,
}

impl Death {
    /// What a task is told that was at `place`.
    pub(super) fn error(&self, place: Option<&str>) -> TaskError {
        let place = at(place);
        if let Some(wanted) = self.no_memory() {
            return self.memory_limit(wanted, &place);
        }
        match self.ended {
            Some(Ended::ByWorker) => TaskError::stopped(),
            Some(Ended::Unanswering) => TaskError::process(format!(
                "the process of the job's tasks no longer answered and was ended{place}"
            )),
            None => {
                let lines: Vec<&str> = self.last_lines.iter().map(String::as_str).collect();
                let lines = match lines.as_slice() {
                    [] => String::new(),
                    lines => format!("; its last words: {}", lines.join(" | ")),
                };
                TaskError::process(format!(
                    "the process of the job's tasks died{place} ({}){lines}",
                    self.how()
                ))
            }
        }
    }

    fn how(&self) -> String {
        let signal = self.status.and_then(|status| status.signal());
        match (signal, self.status.and_then(|status| status.code())) {
            (Some(signal), _) => format!("signal {signal}"),
            (None, Some(code)) => format!("exit code {code}"),
            (None, None) => "nobody knows how".to_owned(),
        }
    }

    /// What it wanted and did not get, where it died of that. `None` within: the kernel killed it.
    fn no_memory(&self) -> Option<Option<Bytes>> {
        let signal = Signal::from_named_raw(self.status?.signal()?)?;
        match signal {
            Signal::ABORT => self.last_lines.iter().rev().find_map(|line| {
                let (_, rest) = line.split_once(NO_MEMORY.0)?;
                let (bytes, _) = rest.split_once(NO_MEMORY.1)?;
                Some(Some(Bytes(bytes.parse().ok()?)))
            }),
            Signal::KILL if self.ended.is_none() && self.out_of_memory => Some(None),
            _ => None,
        }
    }

    fn memory_limit(&self, wanted: Option<Bytes>, place: &str) -> TaskError {
        let Held { resident, running } = self.held;
        let what = match wanted {
            Some(bytes) => format!("{bytes} more were refused to the job's tasks{place}"),
            None => format!("the system killed the process of the job's tasks{place}"),
        };
        let allowed = self.allowed.map_or_else(String::new, |allowed| {
            format!("; this worker lets a job have {}", Bytes(allowed))
        });
        TaskError {
            code: "MEMORY_LIMIT".into(),
            message: format!(
                "out of memory: {what}, beside {} of models and {} of running tasks as estimated{allowed}; give \
                 smaller batches, or start workers with a larger --memory-limit",
                Bytes(resident),
                Bytes(running)
            ),
            permanent: true,
        }
    }
}

/// How many processes the kernel has killed for want of memory so far; `None` where it does not say.
pub(super) fn kills_for_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/vmstat").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "))?;
    line.trim().parse().ok()
}

/// Hands a process's stderr to the log, to its end; its last lines.
pub(super) fn forward(stderr: impl Read, process: u32) -> VecDeque<String> {
    let mut last = VecDeque::new();
    let mut from = BufReader::new(stderr);
    loop {
        let mut line = Vec::new();
        match (&mut from).take(LINE_BYTES).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return last,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if line.is_empty() {
            continue;
        }
        tracing::warn!(process, "{line}");
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn death(signal: i32, lines: &[&str]) -> Death {
        Death {
            ended: None,
            status: Some(ExitStatus::from_raw(signal)),
            out_of_memory: false,
            last_lines: lines.iter().map(|&line| line.to_owned()).collect(),
            held: Held {
                resident: 3 << 20,
                running: 5 << 20,
            },
            allowed: Some(512 << 20),
        }
    }

    #[test]
    fn want_of_memory_is_told_by_figures_and_place_and_is_final() {
        let lines = ["other", "memory allocation of 1099511627776 bytes failed"];
        let refused = death(6, &lines).error(Some("big"));
        for part in [
            "1048576 MiB",
            "'big'",
            "3 MiB",
            "5 MiB",
            "512 MiB",
            "--memory-limit",
        ] {
            assert!(refused.message.contains(part), "{}", refused.message);
        }
        assert_eq!((&*refused.code, refused.permanent), ("MEMORY_LIMIT", true));
        let mut killed = death(9, &[]);
        assert_eq!(killed.error(None).code, TaskError::PROCESS_DIED);
        killed.out_of_memory = true;
        assert_eq!(killed.error(None).code, "MEMORY_LIMIT");
        killed.ended = Some(Ended::ByWorker);
        assert_eq!(killed.error(None).code, TaskError::STOPPED);
    }

    #[test]
    fn any_other_death_costs_an_attempt_and_tells_the_last_words() {
        let error = death(6, &["double free"]).error(Some("node"));
        assert_eq!(
            (&*error.code, error.permanent),
            (TaskError::PROCESS_DIED, false)
        );
        for part in ["signal 6", "double free", "'node'"] {
            assert!(error.message.contains(part), "{}", error.message);
        }
        let error = death(3 << 8, &[]).error(None);
        assert!(error.message.contains("exit code 3"), "{}", error.message);
    }

    #[test]
    fn the_last_lines_are_kept_and_none_is_endless() {
        let text = format!("{}\n\na\nb\nc\nd\ne", "x".repeat(3000));
        let last = forward(text.as_bytes(), 1);
        assert_eq!(Vec::from(last), ["a", "b", "c", "d", "e"]);
    }
}
