//! When blobs were last used, and who may remove them.

use std::{sync::mpsc, thread, time::Duration};

use super::{
    retention::{blob, create_for},
    *,
};
use crate::job::BlobRef;

fn goes() -> Removal {
    Box::pin(async { true })
}

pub(super) fn a_blob_may_go_once_it_is_unused_and_kept_by_no_job(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let [used, kept, unknown] = [b"u", b"k", b"n"].map(|name| blob(name, 10));
    let all = [used, kept, unknown].map(|blob| blob.digest);
    let unused = |store: &Subject, since: u64, now: u64| {
        let mut unused = store.unused_blobs(&all, at(since), at(now)).unwrap();
        unused.sort_unstable();
        unused
    };
    let sorted = |mut digests: Vec<Digest>| {
        digests.sort_unstable();
        digests
    };
    let noted = [used.digest, kept.digest, used.digest];
    store.note_blob_use(&noted, at(100)).unwrap();
    // The time of the third begins when somebody looks.
    assert_eq!(unused(&store, 100, 150), []);
    let job = create_for(&store, "ann", &[kept]).unwrap();
    assert_eq!(unused(&store, 101, 150), [used.digest]);
    assert_eq!(
        unused(&store, 151, 160),
        sorted(vec![used.digest, unknown.digest])
    );
    store.note_blob_use(&[used.digest], at(200)).unwrap();
    // A call that comes late makes nothing older.
    store.note_blob_use(&[used.digest], at(120)).unwrap();
    store.close().unwrap();
    drop(store);

    let store = backend.open(at(210));
    assert_eq!(unused(&store, 200, 210), [unknown.digest]);
    let remove = |blob: BlobRef, since| {
        store
            .remove_blob(blob.digest, Some(at(since)), goes())
            .unwrap()
    };
    assert!(!remove(used, 200), "it was used");
    assert!(!remove(kept, 300), "a job keeps it");
    let fails = Box::pin(async { false });
    assert!(
        !store
            .remove_blob(unknown.digest, Some(at(200)), fails)
            .unwrap()
    );
    assert_eq!(
        unused(&store, 200, 210),
        [unknown.digest],
        "it is still there"
    );
    assert!(remove(unknown, 200));
    assert!(!remove(unknown, 200), "it is not known any more");
    assert_eq!(unused(&store, 200, 210), []);
    assert_eq!(
        unused(&store, 211, 220),
        sorted(vec![used.digest, unknown.digest])
    );
    // A damaged one goes whoever uses it.
    assert!(store.remove_blob(kept.digest, None, goes()).unwrap());
    store.cancel(job, at(220)).unwrap();
    store.delete(job).unwrap();
    store.forget_blob_use(at(205)).unwrap();
    assert_eq!(unused(&store, 205, 230), [], "the first begins anew");
    assert_eq!(unused(&store, 231, 240), sorted(all.to_vec()));
}

pub(super) fn nobody_is_told_of_a_blob_while_it_goes(backend: &dyn Backend) {
    let store = backend.open(at(0));
    let digest = blob(b"u", 10).digest;
    store.note_blob_use(&[digest], at(100)).unwrap();
    let (begun, begins) = mpsc::channel();
    let (go_on, gone_on) = tokio::sync::oneshot::channel::<()>();
    thread::scope(|scope| {
        let removal = Box::pin(async move {
            begun.send(()).unwrap();
            gone_on.await.unwrap();
            true
        });
        let removing = scope.spawn(|| store.remove_blob(digest, Some(at(101)), removal));
        begins.recv().unwrap();
        let noting = scope.spawn(|| store.note_blob_use(&[digest], at(102)));
        thread::sleep(Duration::from_millis(100));
        assert!(!noting.is_finished(), "told of a blob that goes");
        go_on.send(()).unwrap();
        assert!(removing.join().unwrap().unwrap());
        noting.join().unwrap().unwrap();
    });
    // What is stored again after that is used.
    assert_eq!(store.unused_blobs(&[digest], at(102), at(110)).unwrap(), []);
    assert!(!store.remove_blob(digest, Some(at(102)), goes()).unwrap());
}
