//! Tasks that were lost with a worker: they are leased alone, and what they cost others is one attempt.

use std::collections::{BTreeMap, HashMap};

use dual16_proto::v1::event_detail::Detail;

use super::*;
use crate::job::{Phase, Slot};

fn claim_busy(store: &dyn Store, max_tasks: usize, now: Timestamp) -> Vec<LeasedTask> {
    let claim = Claim {
        busy: true,
        ..claim_of("w", max_tasks)
    };
    store.claim(&claim, now).unwrap().tasks
}

fn slots(tasks: &[LeasedTask]) -> Vec<(Slot, bool)> {
    let slots = tasks.iter().map(|leased| (leased.task.slot, leased.alone));
    slots.collect()
}

pub(super) fn what_was_lost_is_leased_alone_and_in_its_turn(backend: &dyn Backend) {
    let store = backend.open(at(0));
    planned(&*store, 4);
    let held = claim(&*store, 3, at(10));
    let kept = [lease(&held[0]), lease(&held[2])];
    assert!(store.renew(&kept, at(30), TTL).unwrap().is_empty());
    store.expire(at(40)).unwrap();
    store.release(&kept, at(40)).unwrap();
    // The order stays that of the queue: before it, by itself, behind it.
    let before = claim(&*store, 9, at(40));
    assert_eq!(slots(&before), [(Slot::Map(0), false)]);
    let alone = claim(&*store, 9, at(40));
    assert_eq!(slots(&alone), [(Slot::Map(1), true)]);
    let behind = claim(&*store, 9, at(40));
    assert_eq!(
        slots(&behind),
        [(Slot::Map(2), false), (Slot::Map(3), false)]
    );
    // It stays alone, given back or failed by itself.
    store.release(&[lease(&alone[0])], at(41)).unwrap();
    let again = claim_one(&*store, at(42));
    assert!(again.alone);
    store
        .fail(lease(&again), failure("its own", false), at(43))
        .unwrap();
    assert_eq!(
        slots(&claim(&*store, 9, at(44))),
        [(Slot::Map(1), true)],
        "one more crash beside others would be its last attempt"
    );
}

pub(super) fn who_was_lost_is_known_after_a_restart(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let id = planned(&*store, 2);
    claim_one(&*store, at(10));
    store.expire(at(40)).unwrap();
    let reopened = |store: Box<dyn Store>, now| {
        store.close().unwrap();
        drop(store);
        backend.open(now)
    };
    let store = reopened(store, at(41));
    let waiting = claim_busy(&*store, 9, at(42));
    assert_eq!(slots(&waiting), [(Slot::Map(0), true)]);
    // That it has not begun is known as well.
    let store = reopened(store, at(43));
    assert_eq!(store.expire(at(43).after(TTL)).unwrap().queued, 1);
    let begun = claim_busy(&*store, 9, at(80));
    store.begin(&[lease(&begun[0])], at(80)).unwrap();
    let store = reopened(store, at(81));
    store.expire(at(81).after(TTL)).unwrap();
    assert!(lost_attempts(&*store, id).eq([(Slot::Map(0), 2)]));
}

pub(super) fn what_waits_for_others_loses_no_attempt(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let id = planned(&*store, 1);
    let fresh = claim_busy(&*store, 1, at(10));
    assert!(!fresh[0].alone);
    store.expire(at(40)).unwrap();
    for round in 0..5 {
        let now = at(100 * (round + 1));
        let waiting = claim_busy(&*store, 1, now);
        assert!(waiting[0].alone);
        let changes = store.expire(now.after(TTL)).unwrap();
        assert_eq!((changes.queued, changes.lost.len()), (1, 1));
        // Too late: it is another's turn.
        store.begin(&[lease(&waiting[0])], now.after(TTL)).unwrap();
    }
    assert!(lost_attempts(&*store, id).eq([(Slot::Map(0), 1)]));
    let idle = claim_one(&*store, at(1000));
    assert!(idle.alone);
    store.expire(at(1000).after(TTL)).unwrap();
    let begun = claim_busy(&*store, 1, at(1100));
    let begun = lease(&begun[0]);
    store.begin(&[begun, begun], at(1100)).unwrap();
    assert!(store.renew(&[begun], at(1101), TTL).unwrap().is_empty());
    store.expire(at(1101).after(TTL)).unwrap();
    let Phase::Failed { error, .. } = store.get_job(id).unwrap().job.phase else {
        panic!("three attempts were lost")
    };
    assert_eq!(error.code, "ATTEMPTS_EXHAUSTED");
    assert!(error.attempts.iter().all(|attempt| attempt.lost));
}

/// Three workers of four slots, sixteen jobs of four maps, five of which have a map that takes down
/// the worker it runs in. Seconds pass, workers come back.
pub(super) fn an_innocent_task_loses_one_attempt_at_most(backend: &dyn Backend) {
    let config = StoreConfig {
        max_open_jobs: 16,
        ..config()
    };
    let store = backend.open_with(config, at(0));
    let jobs: Vec<_> = (0..config.max_open_jobs)
        .map(|i| create(&*store, &format!("job {i}")))
        .collect();
    for plan in claim(&*store, jobs.len(), at(1)) {
        let next = Some(stage("measure", 4));
        store
            .complete(lease(&plan), result("", next), at(1))
            .unwrap();
    }
    let crashers = [(1, 0), (4, 3), (7, 2), (10, 1), (13, 3)];
    let crashers = crashers.map(|(job, map): (usize, u32)| (jobs[job], Slot::Map(map)));
    let mut fleet: Vec<Fleeting> = (0..3).map(Fleeting::new).collect();
    let mut waited = 0;
    for second in 2..3_000 {
        for worker in &mut fleet {
            waited += worker.live_a_second(&*store, &crashers, at(second));
        }
        store.expire(at(second)).unwrap();
        if store.counts().unwrap().open_jobs == 0 {
            break;
        }
    }
    let mut lost = BTreeMap::new();
    for id in jobs {
        let tasks = lost_attempts(&*store, id).map(|(slot, attempts)| ((id, slot), attempts));
        lost.extend(tasks.filter(|(task, _)| !crashers.contains(task)));
        let phase = store.get_job(id).unwrap().job.phase;
        let Some((_, slot)) = crashers.iter().find(|(crashing, _)| *crashing == id) else {
            assert_eq!(phase.state(), State::Succeeded, "{phase:?}");
            continue;
        };
        let Phase::Failed { error, .. } = phase else {
            panic!("{phase:?}")
        };
        let task = TaskId {
            stage: 1,
            slot: *slot,
        };
        assert_eq!(error.task, TaskName { job: id, task }.to_string());
        assert_eq!(error.attempts.len(), 3);
    }
    assert!(lost.len() > 5, "few were ever beside a crash: {lost:?}");
    assert!(lost.values().all(|attempts| *attempts == 1), "{lost:?}");
    assert!(waited > 0, "none ever waited for others");
}

/// A worker that does what the contract of a lease says.
struct Fleeting {
    name: String,
    /// Tasks with the seconds that each still takes.
    running: Vec<(LeasedTask, usize)>,
    waiting: Option<LeasedTask>,
}

impl Fleeting {
    const SLOTS: usize = 4;

    fn new(number: usize) -> Self {
        Self {
            name: format!("worker {number}"),
            running: Vec::new(),
            waiting: None,
        }
    }

    /// Returns how many tasks came that have to wait for others.
    fn live_a_second(
        &mut self,
        store: &dyn Store,
        crashers: &[(JobId, Slot)],
        now: Timestamp,
    ) -> usize {
        let alone = self.running.iter().any(|(leased, _)| leased.alone);
        let mut waited = 0;
        if let Some(waiting) = self.waiting.take_if(|_| self.running.is_empty()) {
            store.begin(&[lease(&waiting)], now).unwrap();
            self.start(waiting, crashers);
        } else if self.waiting.is_none() && !alone && self.running.len() < Self::SLOTS {
            let busy = !self.running.is_empty();
            let free = Self::SLOTS - self.running.len();
            let claim = Claim {
                busy,
                ..claim_of(&self.name, free)
            };
            for leased in store.claim(&claim, now).unwrap().tasks {
                if leased.alone && busy {
                    self.waiting = Some(leased);
                    waited += 1;
                } else {
                    self.start(leased, crashers);
                }
            }
        }
        let running = self.running.iter().map(|(leased, _)| leased);
        let held: Vec<_> = running.chain(&self.waiting).map(lease).collect();
        let lost = store.renew(&held, now, TTL).unwrap();
        self.running
            .retain(|(leased, _)| !lost.contains(&lease(leased)));
        self.waiting.take_if(|leased| lost.contains(&lease(leased)));

        for (_, left) in &mut self.running {
            *left -= 1;
        }
        let ended = self.running.extract_if(.., |(_, left)| *left == 0);
        for (leased, _) in ended.collect::<Vec<_>>() {
            if crashers.contains(&(leased.job.id, leased.task.slot)) {
                *self = Self {
                    name: std::mem::take(&mut self.name),
                    running: Vec::new(),
                    waiting: None,
                };
                break;
            }
            let next = (leased.task.slot == Slot::Reduce).then(finish);
            store
                .complete(lease(&leased), result("", next), now)
                .unwrap();
        }
        waited
    }

    fn start(&mut self, leased: LeasedTask, crashers: &[(JobId, Slot)]) {
        // Some are short and some long, so that one that runs alone finds others at work.
        let crashes = crashers.contains(&(leased.job.id, leased.task.slot));
        let seconds = match leased.task.slot {
            _ if crashes => 40,
            Slot::Map(index) => 4 + 17 * index as usize,
            Slot::Reduce => 1,
        };
        self.running.push((leased, seconds));
    }
}

/// Lost attempts of every task that lost one.
fn lost_attempts(store: &dyn Store, id: JobId) -> impl Iterator<Item = (Slot, usize)> + use<> {
    let mut lost = HashMap::new();
    for event in all_events(store, id) {
        if let Some(Detail::TaskRetried(retried)) = event.detail.and_then(|detail| detail.detail) {
            let name: TaskName = retried.task.parse().unwrap();
            assert!(retried.error.unwrap().message.contains("lease ran out"));
            *lost.entry(name.task.slot).or_default() += 1;
        }
    }
    lost.into_iter()
}
