use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use super::*;
use crate::store::{
    Claim, Embedded,
    testing::{Hooked, Hooks, create, open},
};

const TTL: Duration = Duration::from_millis(900);
const PERIOD: Duration = Duration::from_millis(90);

/// Syncs take longer than a look may while it hangs.
#[derive(Clone, Default)]
struct Disk {
    hangs: Arc<AtomicBool>,
    /// Syncs begun.
    syncs: Arc<AtomicU64>,
}

impl Hooks for Disk {
    fn sync(&self) -> Result<(), StoreError> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        if self.hangs.load(Ordering::SeqCst) {
            thread::sleep(PERIOD + TTL / 2);
        }
        Ok(())
    }
}

/// Whether a lease was lost by the look that follows one during which the disk hung or did not.
fn lost_after_a_look(hangs: bool) -> bool {
    let engine = Hooked::<Disk>::default();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = Embedded::new(open(engine.clone(), TTL));
    let records = store.records();
    create(records).unwrap();
    let claim = Claim {
        worker: "w".into(),
        jobs: Vec::new(),
        max_tasks: 1,
        max_bytes: usize::MAX,
        ttl: TTL,
    };
    let claimed = records.claim(&claim, Timestamp::MIN).unwrap();
    assert_eq!(claimed.tasks.len(), 1);
    let last = LastLook::new();
    engine.hangs.store(hangs, Ordering::SeqCst);
    let syncs = engine.syncs.load(Ordering::SeqCst);
    thread::scope(|scope| {
        // Somebody has written, and waits for the disk; the look waits with them.
        let creating = scope.spawn(|| create(records));
        while engine.syncs.load(Ordering::SeqCst) == syncs {
            thread::yield_now();
        }
        let before = runtime.block_on(look(&store, &last, PERIOD, TTL, Timestamp::MIN));
        assert_eq!(before.unwrap(), Changes::default());
        creating.join().unwrap().unwrap();
    });
    engine.hangs.store(false, Ordering::SeqCst);
    let later = Timestamp::MIN.after(TTL);
    let changes = runtime.block_on(look(&store, &last, PERIOD, TTL, later));
    !changes.unwrap().lost.is_empty()
}

#[test]
fn after_a_look_that_the_disk_kept_nobody_counts_as_silent() {
    assert!(lost_after_a_look(false), "it fell silent");
    assert!(!lost_after_a_look(true), "its heartbeats waited too");
}

#[test]
fn a_server_that_is_always_slow_ends_leases_all_the_same() {
    let last = LastLook::new();
    let longest = Duration::from_millis(1);
    let looks: Vec<_> = (0..2 * MAX_STILLS + 2)
        .map(|_| {
            thread::sleep(2 * longest);
            last.stood_still(longest)
        })
        .collect();
    let ends = looks.iter().filter(|still| !**still).count();
    assert_eq!(ends, 2, "{looks:?}");
    assert!(!last.stood_still(Duration::from_secs(60)));
}
