use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::store::{
    MemoryEngine,
    testing::{Hooked, Hooks},
};

/// Hands over to the test in the middle of a sync, before and after it has the changes.
struct Steps {
    at: SyncSender<()>,
    go_on: Mutex<Receiver<()>>,
}

impl Hooks for Steps {
    fn committing(&self) {
        self.at.send(()).unwrap();
        self.go_on.lock().unwrap().recv().unwrap();
    }
}

/// A few keys, so that changes meet each other.
type Changes = Vec<(u8, Option<u8>)>;

fn batch(changes: &Changes) -> Batch {
    let mut batch = Batch::default();
    for (key, value) in changes {
        match value {
            Some(value) => batch.put("test", vec![*key], vec![*value]).unwrap(),
            None => batch.remove(vec![*key]),
        }
    }
    batch
}

/// Every read there is must tell the same of both.
fn assert_equal(staged: &impl Records, model: &MemoryEngine) {
    for key in 0..=8 {
        assert_eq!(staged.get(&[key]).unwrap(), model.get(&[key]).unwrap());
        for end in 0..=9 {
            for order in [Order::Ascending, Order::Descending] {
                for limit in [0, 1, 2, 3, usize::MAX] {
                    let range = vec![key]..vec![end];
                    assert_eq!(
                        staged.scan(range.clone(), order, limit).unwrap(),
                        model.scan(range, order, limit).unwrap(),
                        "{key}..{end} {order:?} {limit}"
                    );
                }
            }
        }
    }
}

fn changes() -> impl Strategy<Value = Changes> {
    vec((0..8_u8, any::<Option<u8>>()), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever is where, in the engine, on its way into it or above both, it reads as if all had
    /// been applied at once.
    #[test]
    fn reads_do_not_tell_where_a_change_is(
        below in changes(),
        sealed in changes(),
        during in changes(),
        after in changes(),
        last in changes(),
    ) {
        let (at, stops) = sync_channel(0);
        let (go, go_on) = sync_channel(0);
        let hooks = Steps { at, go_on: Mutex::new(go_on) };
        let engine = Hooked { records: MemoryEngine::default(), hooks };
        let model = MemoryEngine::default();
        engine.records.commit(&batch(&below)).unwrap();
        model.commit(&batch(&below)).unwrap();
        let staged = Staged::new(engine);
        let commit = |changes| {
            staged.commit(batch(changes));
            model.commit(&batch(changes)).unwrap();
            assert_equal(&staged, &model);
        };
        commit(&sealed);
        std::thread::scope(|scope| {
            let sync = scope.spawn(|| staged.sync());
            if !sealed.is_empty() {
                for changes in [&during, &after] {
                    stops.recv().unwrap();
                    commit(changes);
                    go.send(()).unwrap();
                }
            }
            sync.join().unwrap().unwrap();
        });
        assert_equal(&staged, &model);
        commit(&last);
    }
}

/// An engine that takes nothing.
struct Full;

impl Records for Full {
    fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(None)
    }

    fn scan(&self, _: Range<Vec<u8>>, _: Order, _: usize) -> Result<Vec<Record>, StoreError> {
        Ok(Vec::new())
    }
}

impl Engine for Full {
    fn commit(&self, _: &Batch) -> Result<(), StoreError> {
        Err(StoreError::Failed("disk full".into()))
    }

    fn sync(&self) -> Result<(), StoreError> {
        panic!("there is nothing to sync")
    }
}

#[test]
fn a_commit_that_fails_fails_the_sync() {
    let staged = Staged::new(Full);
    staged.commit(batch(&vec![(1, Some(7))]));
    assert!(matches!(staged.sync(), Err(StoreError::Failed(_))));
    assert_eq!(staged.get(&[1]).unwrap(), Some(vec![7]));
}
