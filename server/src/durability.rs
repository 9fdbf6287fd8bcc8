//! Whether what is written is waited for until it is on the disk. A server waits always: what it has
//! acknowledged outlives a loss of power. State that was begun a moment ago, and that whoever began it would begin
//! again, need only outlive the process, as all that the system was given does; to wait for the disk at each
//! step would take longer than a small job. Whoever asks for that notes it beside the state.

use std::{
    fs::File,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Shared by all that writes to one data directory.
#[derive(Debug, Clone, Default)]
pub struct Durability {
    unsettled: Arc<AtomicBool>,
}

impl Durability {
    /// The disk is waited for only from [`settle`](Self::settle) on. Where the system cannot settle, always.
    pub fn unsettled() -> Self {
        Self {
            unsettled: Arc::new(AtomicBool::new(cfg!(target_os = "linux"))),
        }
    }

    /// Whether what was written is to be waited for; asked once it was written.
    pub(crate) fn waits(&self) -> bool {
        !self.unsettled.load(Ordering::SeqCst)
    }

    /// Has the disk waited for from here on, and waits for all that was written to `data` before.
    ///
    /// # Errors
    /// The system's: then nobody knows what of it is on the disk.
    pub fn settle(&self, data: &Path) -> io::Result<()> {
        // First this: what is written by someone who still sees it otherwise was written before.
        self.unsettled.store(false, Ordering::SeqCst);
        let folder = File::open(data)?;
        #[cfg(target_os = "linux")]
        rustix::fs::syncfs(&folder)?;
        folder.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_waits_and_one_that_need_not_does_once_it_is_settled() {
        assert!(Durability::default().waits());
        let folder = tempfile::tempdir().unwrap();
        let durability = Durability::unsettled();
        let shared = durability.clone();
        assert_eq!(shared.waits(), !cfg!(target_os = "linux"));
        durability.settle(folder.path()).unwrap();
        assert!(shared.waits());
        assert!(durability.settle(&folder.path().join("none")).is_err());
    }
}
