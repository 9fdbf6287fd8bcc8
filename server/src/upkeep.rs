//! What the server does by itself, beside its calls: expire leases, remove jobs that are not to be
//! kept, collect blobs that no job keeps, and say so when its store has failed.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    blob::Uses,
    clock::Timestamp,
    disk::Disk,
    rpc::{ApiError, App},
    store::{Changes, Retention, Store, StoreError},
};

/// Least and greatest time between two looks for expired leases.
const EXPIRY_TICK: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// Least and greatest time between two looks for what may go.
const SWEEP_TICK: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(600));

/// Between two looks at how full the disk is.
const BALANCE_TICK: Duration = Duration::from_secs(1);

/// Between two walks over all blobs.
const SCRUB_PAUSE: Duration = Duration::from_secs(3600);

/// How long the past is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// Jobs that have ended.
    pub jobs: Retention,
    /// Blobs that no job keeps, from the last time that somebody sent them or asked for them: at
    /// least the time from an upload to the job that names it.
    pub blob_grace: Duration,
    /// Bytes a second that are read to find damaged blobs; 0 = none.
    pub scrub_bytes_per_second: u64,
}

impl Default for Keeping {
    fn default() -> Self {
        Self {
            jobs: Retention {
                keep_for: None,
                max_jobs: Some(100_000),
            },
            blob_grace: Duration::from_secs(86_400),
            scrub_bytes_per_second: 8 << 20,
        }
    }
}

/// Starts it all.
pub(crate) fn start(
    app: &Arc<App>,
    uses: Arc<dyn Uses>,
    disk: Disk,
    keeping: Keeping,
    health: HealthReporter,
) -> Vec<JoinHandle<()>> {
    vec![
        tokio::spawn(balance(Arc::clone(app), disk)),
        tokio::spawn(expire_leases(Arc::clone(app), health)),
        tokio::spawn(heed_others(Arc::clone(app))),
        tokio::spawn(scrub(Arc::clone(app), keeping)),
        tokio::spawn(collect(Arc::clone(app), uses, keeping)),
    ]
}

/// Gives the reserve up when the disk is full, and makes it again.
async fn balance(app: Arc<App>, disk: Disk) {
    let mut tick = interval(BALANCE_TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while app
        .shutdown
        .run_until_cancelled(tick.tick())
        .await
        .is_some()
    {
        let disk = disk.clone();
        match tokio::task::spawn_blocking(move || disk.balance()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the disk's reserve was not looked after"),
            // The runtime is going away.
            Err(_) => return,
        }
    }
}

/// Wakes those who wait here for what another server has changed.
async fn heed_others(app: Arc<App>) {
    while let Some(hint) = app.shutdown.run_until_cancelled(app.store.hint()).await {
        app.wakeups.heed(&hint);
    }
}

/// Fails the attempts whose workers have fallen silent, and queues what has waited long enough.
async fn expire_leases(app: Arc<App>, health: HealthReporter) {
    let period = (app.lease_ttl / 10).clamp(EXPIRY_TICK.0, EXPIRY_TICK.1);
    let last_look = Arc::new(LastLook::new());
    let mut failing = false;
    let mut tick = interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        let quarantine = Arc::clone(&app.quarantine);
        let (ttl, last_look) = (app.lease_ttl, Arc::clone(&last_look));
        let expired = app.change(|store, now| async move {
            let changes = look(&*store, &last_look, period, ttl, now).await?;
            for (worker, task) in &changes.lost {
                tracing::warn!(%worker, %task, "lease ran out");
                if let Some(time) = quarantine.lost(worker, *task, ttl, now) {
                    tracing::warn!(%worker, seconds = time.as_secs(), "worker quarantined");
                }
            }
            Ok(changes)
        });
        match expired.await {
            Ok(()) => failing = false,
            Err(error) if stops_everything(&error) && !app.shutdown.is_cancelled() => {
                tracing::error!(%error, "the store has failed: nothing is served until a restart");
                for service in SERVICES {
                    let status = ServingStatus::NotServing;
                    health.set_service_status(service, status).await;
                }
                return;
            }
            // A database that is away for a while is told of once.
            Err(error) if failing => tracing::debug!(%error, "expired leases were not handled"),
            Err(error) => {
                failing = true;
                tracing::error!(%error, "expired leases were not handled");
            }
        }
    }
}

/// One look for expired leases, due every `period`.
async fn look(
    store: &dyn Store,
    last: &LastLook,
    period: Duration,
    ttl: Duration,
    now: Timestamp,
) -> Result<Changes, StoreError> {
    // A server that stood still (SIGSTOP, a frozen machine, a disk that hung) has heartbeats waiting
    // in its sockets: it cannot tell yet who was silent.
    if last.stood_still(period + ttl / 3) {
        tracing::warn!("the server stood still: every lease gets a full term");
        store.extend_leases(now.after(ttl)).await?;
        return Ok(Changes::default());
    }
    store.expire(now).await
}

/// When the last look for expired leases began, by the machine's own clock: what it tells of is the
/// process, whatever clock the leases go by. Not when it ended: what kept it kept the heartbeats too.
struct LastLook(Mutex<Look>);

struct Look {
    began: Instant,
    /// Standstills in a row.
    stills: u32,
}

/// So often in a row every lease gets a full term. A server whose every look takes as long does not
/// stand still, it is slow, and leases must end all the same.
const MAX_STILLS: u32 = 5;

impl LastLook {
    fn new() -> Self {
        Self(Mutex::new(Look {
            began: Instant::now(),
            stills: 0,
        }))
    }

    /// Begins the next look. Whether the server stood still: the last one began longer ago than
    /// `longest`.
    fn stood_still(&self, longest: Duration) -> bool {
        let now = Instant::now();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let still = now.saturating_duration_since(last.began) > longest && last.stills < MAX_STILLS;
        *last = Look {
            began: now,
            stills: if still { last.stills + 1 } else { 0 },
        };
        still
    }
}

/// Names that health answers for; "" is the whole server.
const SERVICES: [&str; 6] = [
    "",
    "dual16.v1.JobService",
    "dual16.v1.BlobService",
    "dual16.v1.WorkerService",
    "dual16.v1.InfoService",
    "externalscaler.ExternalScaler",
];

/// After such an error the store accepts nothing more, or cannot be trusted.
fn stops_everything(error: &ApiError) -> bool {
    matches!(
        error,
        ApiError::Store(StoreError::Failed(_) | StoreError::Corrupt(_) | StoreError::Closed)
    )
}

/// Reads all blobs, again and again, to find those that are damaged while they can still be sent again.
async fn scrub(app: Arc<App>, keeping: Keeping) {
    let rate = keeping.scrub_bytes_per_second;
    if rate == 0 {
        return;
    }
    loop {
        let stopped = app
            .shutdown
            .run_until_cancelled(tokio::time::sleep(SCRUB_PAUSE));
        if stopped.await.is_none() {
            return;
        }
        // Where servers share them, one reads them for all.
        if app.blobs.is_shared() && !leads(&app).await {
            continue;
        }
        match app.blobs.scrub(rate, app.shutdown.clone()).await {
            Ok(found) if found.damaged > 0 => {
                tracing::error!(found.blobs, found.damaged, "stored blobs are damaged");
            }
            Ok(found) => tracing::debug!(found.blobs, "stored blobs are sound"),
            Err(error) => tracing::error!(%error, "stored blobs could not be read"),
        }
    }
}

async fn collect(app: Arc<App>, uses: Arc<dyn Uses>, keeping: Keeping) {
    let mut tick = interval((keeping.blob_grace / 4).clamp(SWEEP_TICK.0, SWEEP_TICK.1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        let leads = leads(&app).await;
        if leads && let Err(error) = prune(&app, keeping.jobs).await {
            tracing::error!(%error, "old jobs were not removed");
            continue;
        }
        if app.blobs.is_shared() && !leads {
            // Another server does it; how much is stored is this one's to know too.
            match app.blobs.count().await {
                Ok(bytes) => app.room.counted(bytes),
                Err(error) => tracing::warn!(%error, "stored blobs were not counted"),
            }
            continue;
        }
        match app
            .blobs
            .collect(keeping.blob_grace, Arc::clone(&uses))
            .await
        {
            Ok(swept) => {
                app.room.counted(swept.bytes);
                let (removed, bytes) = (swept.removed, swept.removed_bytes);
                if removed > 0 {
                    tracing::info!(removed, bytes, "blobs collected");
                }
            }
            Err(error) => tracing::error!(%error, "blobs were not collected"),
        }
    }
}

/// Whether this server does what one does for all; not while that is unknown.
async fn leads(app: &Arc<App>) -> bool {
    let leads = app.store(|store, _| async move { store.leads().await });
    leads.await.unwrap_or_else(|error| {
        tracing::warn!(%error, "old jobs and blobs were not looked at");
        false
    })
}

/// Removes the jobs that are not to be kept, some at a time, so that calls get in between.
async fn prune(app: &Arc<App>, retention: Retention) -> Result<(), ApiError> {
    loop {
        let pruned = app.change_with(|store, now| async move {
            let changes = store.prune(retention, now).await?;
            Ok((changes.jobs.len(), changes))
        });
        let pruned = pruned.await?;
        if pruned == 0 {
            return Ok(());
        }
        tracing::info!(jobs = pruned, "old jobs removed");
    }
}

#[cfg(test)]
mod tests;
