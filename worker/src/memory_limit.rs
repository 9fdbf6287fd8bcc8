//! How much memory a worker may use: what the command line says, else what the machine allows.

use std::{fmt, fs, str::FromStr};

use bytesize::ByteSize;
use thiserror::Error;

/// What a worker and the process of a job need beside tasks and models: code, stacks, the async
/// runtime, blobs on their way. Measured as the resident size of a worker that has only moved blobs,
/// rounded up; the process has 4 MiB of its own, the code being shared.
const PROCESS_BYTES: u64 = 64 << 20;

/// The least that any task could run in.
const LEAST_BYTES: u64 = PROCESS_BYTES + (64 << 20);

/// A declared limit on the memory of a worker process.
///
/// Read from a number of bytes with an optional unit ("1500MB", "2GiB"), "auto" or "none".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MemoryLimit {
    /// The limit of the process's control group, else three quarters of the machine's memory.
    #[default]
    Auto,
    /// No task is ever refused.
    Unlimited,
    /// Bytes for the whole process, at least 128 MiB.
    Bytes(u64),
}

/// What is no memory limit.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MemoryLimitError {
    /// Not a size.
    #[error("'{0}' is no size; give bytes, a size such as 1500MB or 2GiB, 'auto' or 'none'")]
    Syntax(String),
    /// Too small to run anything.
    #[error(
        "{0} bytes are too few; the least is {LEAST_BYTES} (128MiB), and a model needs some four times its size"
    )]
    TooSmall(u64),
}

impl MemoryLimit {
    /// Bytes for the whole worker; `None` where nothing limits it.
    pub fn bytes(self) -> Option<u64> {
        match self {
            Self::Unlimited => None,
            Self::Bytes(bytes) => Some(bytes),
            Self::Auto => control_group().or_else(machine),
        }
    }

    /// Of those, bytes for tasks and models together.
    pub fn for_tasks(self) -> Option<u64> {
        Some(self.bytes()?.saturating_sub(PROCESS_BYTES))
    }
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.pad("auto"),
            Self::Unlimited => f.pad("none"),
            Self::Bytes(bytes) => write!(f, "{bytes}"),
        }
    }
}

impl FromStr for MemoryLimit {
    type Err = MemoryLimitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => return Ok(Self::Auto),
            "none" => return Ok(Self::Unlimited),
            _ => {}
        }
        let size: ByteSize = text
            .parse()
            .map_err(|_| MemoryLimitError::Syntax(text.to_owned()))?;
        let bytes = size.as_u64();
        if bytes < LEAST_BYTES {
            return Err(MemoryLimitError::TooSmall(bytes));
        }
        Ok(Self::Bytes(bytes))
    }
}

/// The limit of the control group as a container sees it: version 2, then version 1. A group without
/// one says "max" or a number beyond any machine.
fn control_group() -> Option<u64> {
    const BEYOND_ANY_MACHINE: u64 = 1 << 50;
    [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ]
    .iter()
    .filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok())
    .find(|&bytes: &u64| bytes < BEYOND_ANY_MACHINE)
}

/// Three quarters of the machine's memory; `None` where the system does not say.
fn machine() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024 / 4 * 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_with_and_without_units() {
        for (text, bytes) in [
            ("268435456", 256 << 20),
            ("256MiB", 256 << 20),
            ("256Mi", 256 << 20),
            ("512MB", 512_000_000),
            ("1.5 GiB", 3 << 29),
            ("1TiB", 1 << 40),
        ] {
            assert_eq!(text.parse(), Ok(MemoryLimit::Bytes(bytes)), "{text}");
        }
        assert_eq!("auto".parse(), Ok(MemoryLimit::Auto));
        assert_eq!("none".parse(), Ok(MemoryLimit::Unlimited));
    }

    #[test]
    fn what_is_no_size_is_refused_with_the_remedy() {
        for text in ["", "G", "2X", "-1", "1.2.3", "Max"] {
            let error = text.parse::<MemoryLimit>().unwrap_err();
            assert!(error.to_string().contains("2GiB"), "{text}: {error}");
        }
        assert_eq!(
            "64MiB".parse::<MemoryLimit>(),
            Err(MemoryLimitError::TooSmall(64 << 20))
        );
    }

    #[test]
    fn tasks_get_what_the_process_leaves() {
        assert_eq!(MemoryLimit::Unlimited.for_tasks(), None);
        assert_eq!(MemoryLimit::Bytes(256 << 20).for_tasks(), Some(192 << 20));
    }
}
