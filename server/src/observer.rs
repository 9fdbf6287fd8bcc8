//! One server as its ops port shows it: whether work may be sent here, and what it measures.

use std::{fs, io, path::PathBuf, sync::Arc};

use dual16_telemetry::ops::{Answer, Observed};
use tokio::sync::Mutex;

use crate::{limits::Limits, rpc::App};

/// Ready means: not stopping, the job store answers (it answers nothing after a failed write), and
/// the data directory takes a new file.
pub(crate) struct Observer {
    pub(crate) app: Arc<App>,
    pub(crate) data: PathBuf,
    /// One look at a time: they share a file. Held by the look itself, so that on a disk that does
    /// not answer those who ask wait here and not on threads.
    pub(crate) probing: Arc<Mutex<()>>,
}

impl Observed for Observer {
    fn ready(&self) -> Answer<'_, Result<(), String>> {
        Box::pin(async {
            if self.app.shutdown.is_cancelled() {
                return Err("shutting down".to_owned());
            }
            // The log says why; what is open to everybody on a network says only that.
            let counts = self
                .app
                .store(|store, _| async move { store.counts().await })
                .await;
            if let Err(error) = counts {
                tracing::warn!(%error, "not ready: the job store does not answer");
                return Err("the job store does not answer; the log says why".to_owned());
            }
            let data = self.data.clone();
            let alone = Arc::clone(&self.probing).lock_owned().await;
            let probe = move || {
                let _alone = alone;
                writable(&data)
            };
            match tokio::task::spawn_blocking(probe).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "not ready: the data directory takes no file");
                    Err(format!(
                        "the data directory takes no file: {}",
                        error.kind()
                    ))
                }
                Err(_) => Err("shutting down".to_owned()),
            }
        })
    }

    fn remark(&self) -> Option<String> {
        let damaged = self.app.blobs.found_damaged();
        (damaged > 0).then(|| {
            format!("{damaged} stored blobs were found damaged and set aside; the log names them")
        })
    }

    fn metrics(&self) -> Answer<'_, String> {
        Box::pin(async {
            // A store that has failed is shown by readiness; the rest is still worth reading.
            let counts = self
                .app
                .store(|store, _| async move { store.counts().await })
                .await;
            let all = Limits::len(self.app.limits.watchers);
            let watchers = all.saturating_sub(self.app.watchers.available_permits());
            let counts = counts.unwrap_or_default();
            let now = self.app.clock.now();
            let damaged = self.app.blobs.found_damaged();
            self.app.metrics.text(&counts, watchers, damaged, now)
        })
    }
}

/// One file, always the same, so that even a crash in between leaves no more than that.
fn writable(data: &std::path::Path) -> io::Result<()> {
    let probe = data.join("ready.probe");
    fs::write(&probe, b"ready\n")?;
    fs::remove_file(probe)
}
