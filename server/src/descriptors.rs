//! File descriptors of the process. Each connection is one, and so is each blob under way; a process
//! without any left can neither read its tokens again nor write a job.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::limits::Limits;

/// Those of the store, the logs, the ops port, the runtime, and whatever libraries open.
const OTHERS: u64 = 128;
/// Fewer connections would be no service.
const FEWEST: u64 = 16;

/// Allows the process as many as the system lets it, and returns how many those are. The limit that a
/// shell or service manager sets at first is 1024, for the sake of programs that call select(2).
pub fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        // None is no limit.
        Ok(()) => maximum.unwrap_or(u64::MAX),
        Err(_) => current.unwrap_or(u64::MAX),
    }
}

/// Lowers the number of connections to what `descriptors` are enough for, and says so.
pub fn fit(limits: &mut Limits, descriptors: u64) {
    // A transfer has its blob open, and once more while its sync runs beside the writing.
    let blobs = limits.transfers.saturating_mul(2);
    let others = blobs
        .saturating_add(limits.working_calls)
        .saturating_add(OTHERS);
    let left = descriptors.saturating_sub(others).max(FEWEST);
    if left < limits.connections {
        tracing::warn!(
            descriptors,
            connections = left,
            "the system allows too few open files for --limit-connections, which is lowered"
        );
        limits.connections = left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let raised = raise();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
        assert_eq!(raised, maximum.unwrap_or(u64::MAX));
    }

    #[test]
    fn connections_leave_descriptors_for_the_rest() {
        let fitted = |descriptors| {
            let mut limits = Limits::default();
            fit(&mut limits, descriptors);
            limits.connections
        };
        assert_eq!(fitted(1 << 20), Limits::default().connections);
        assert_eq!(fitted(1024), 1024 - 2 * 256 - 256 - OTHERS);
        assert_eq!(fitted(256), FEWEST);
    }
}
