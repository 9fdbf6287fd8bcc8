//! The leases this worker holds: when each wants renewing, and how a task learns that it has lost
//! its own. Plain data behind a lock; the calls are made elsewhere.
//!
//! A lease is held until the server says that it is lost, not until its time is up by the clock
//! here: the server may have been away meanwhile and have kept it, and every write is fenced.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use dual16_proto::v1::{Lease, LeaseRef};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Where a server does not say how long a lease lives.
const DEFAULT_TTL: Duration = Duration::from_secs(30);

/// Renewing more often than this would only load the server.
const SHORTEST_PERIOD: Duration = Duration::from_millis(20);

/// All leases held, by lease id.
#[derive(Debug, Default)]
pub(crate) struct LeaseTable {
    held: Mutex<HashMap<String, Held>>,
    /// A lease has come in, so the next renewal may be due sooner.
    pub(crate) added: Notify,
}

#[derive(Debug)]
struct Held {
    lease: LeaseRef,
    period: Duration,
    due: Instant,
    lost: CancellationToken,
}

/// One task's hold on its lease; renewed until this is dropped.
#[derive(Debug)]
pub(crate) struct HeldLease {
    table: Arc<LeaseTable>,
    lease: LeaseRef,
    lost: CancellationToken,
}

impl HeldLease {
    pub(crate) fn lease(&self) -> &LeaseRef {
        &self.lease
    }

    /// Cancelled once the lease is lost and the task should stop.
    pub(crate) fn lost(&self) -> &CancellationToken {
        &self.lost
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        self.table.held().remove(&self.lease.lease_id);
    }
}

impl LeaseTable {
    /// Takes a granted lease into renewal.
    pub(crate) fn hold(self: &Arc<Self>, lease: &Lease) -> HeldLease {
        let ttl = lease
            .ttl
            .and_then(|ttl| Duration::try_from(ttl).ok())
            .filter(|ttl| !ttl.is_zero())
            .unwrap_or(DEFAULT_TTL);
        let period = (ttl / 3).max(SHORTEST_PERIOD);
        let lost = CancellationToken::new();
        let lease = LeaseRef {
            task: lease.task.clone(),
            lease_id: lease.lease_id.clone(),
            attempt: lease.attempt,
        };
        let held = Held {
            lease: lease.clone(),
            period,
            due: Instant::now() + period,
            lost: lost.clone(),
        };
        self.held().insert(lease.lease_id.clone(), held);
        self.added.notify_one();
        HeldLease {
            table: Arc::clone(self),
            lease,
            lost,
        }
    }

    /// When the first renewal is due; `None` while nothing is held.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.held().values().map(|held| held.due).min()
    }

    /// Time between two renewals of the lease that wants them most often.
    pub(crate) fn shortest_period(&self) -> Option<Duration> {
        self.held().values().map(|held| held.period).min()
    }

    /// Every lease held. One renewal carries them all, so that their times fall together.
    pub(crate) fn all(&self) -> Vec<LeaseRef> {
        self.held()
            .values()
            .map(|held| held.lease.clone())
            .collect()
    }

    /// The server has renewed these, by a call that began at `sent`.
    pub(crate) fn renewed(&self, leases: &[LeaseRef], sent: Instant) {
        let mut table = self.held();
        for lease in leases {
            if let Some(held) = table.get_mut(&lease.lease_id) {
                held.due = sent + held.period;
            }
        }
    }

    /// The server has taken these away.
    pub(crate) fn revoke(&self, leases: &[LeaseRef]) {
        let mut table = self.held();
        for lease in leases {
            if let Some(held) = table.remove(&lease.lease_id) {
                tracing::info!(task = %lease.task, attempt = lease.attempt, "lease revoked");
                held.lost.cancel();
            }
        }
    }

    /// Stops every task, and returns their leases to be given back.
    pub(crate) fn surrender(&self) -> Vec<LeaseRef> {
        let held = std::mem::take(&mut *self.held());
        held.into_values()
            .map(|held| {
                held.lost.cancel();
                held.lease
            })
            .collect()
    }

    /// Nothing done under the lock can panic half-way, so a poisoned one guards sound data.
    fn held(&self) -> MutexGuard<'_, HashMap<String, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(id: &str, ttl_seconds: i64) -> Lease {
        Lease {
            task: format!("jobs/j/tasks/0-{id}"),
            lease_id: id.to_owned(),
            attempt: 1,
            ttl: Some(prost_types::Duration {
                seconds: ttl_seconds,
                nanos: 0,
            }),
            ..Lease::default()
        }
    }

    #[test]
    fn renewal_is_due_at_a_third_of_the_shortest_time() {
        let table = Arc::new(LeaseTable::default());
        assert_eq!((table.next_due(), table.shortest_period()), (None, None));
        let before = Instant::now();
        let _long = table.hold(&granted("long", 30));
        let short = table.hold(&granted("short", 3));
        let due = table.next_due().unwrap() - before;
        assert!(
            due >= Duration::from_secs(1) && due < Duration::from_secs(2),
            "{due:?}"
        );
        assert_eq!(table.shortest_period(), Some(Duration::from_secs(1)));
        table.renewed(&table.all(), before + Duration::from_secs(100));
        assert_eq!(table.next_due(), Some(before + Duration::from_secs(101)));
        drop(short);
        assert_eq!(table.next_due(), Some(before + Duration::from_secs(110)));
    }

    #[test]
    fn a_revoked_lease_tells_its_task_alone() {
        let table = Arc::new(LeaseTable::default());
        let (a, b) = (table.hold(&granted("a", 30)), table.hold(&granted("b", 30)));
        table.revoke(&[a.lease().clone()]);
        assert!(a.lost().is_cancelled() && !b.lost().is_cancelled());
        assert_eq!(table.surrender(), [b.lease().clone()]);
        assert!(b.lost().is_cancelled());
        assert!(table.all().is_empty());
    }

    #[test]
    fn a_lease_without_a_time_gets_the_default() {
        let table = Arc::new(LeaseTable::default());
        let before = Instant::now();
        let _held = table.hold(&granted("a", 0));
        assert!(table.next_due().unwrap() >= before + DEFAULT_TTL / 3);
    }
}
