//! The cache's promises: what stays, what goes, and that wrong bytes are never handed out.

use std::io::Write as _;

use super::*;

fn put(cache: &Arc<BlobCache>, bytes: &[u8]) -> Pinned {
    let mut file = cache.temp_file().unwrap();
    file.write_all(bytes).unwrap();
    let size = bytes.len() as u64;
    cache
        .insert(&Digest::of(bytes), file.into_temp_path(), size)
        .unwrap()
}

fn holds(cache: &Arc<BlobCache>, bytes: &[u8]) -> bool {
    matches!(cache.pin(&Digest::of(bytes)).unwrap(), Found::Here(_))
}

#[test]
fn the_least_recently_used_blob_goes_first() {
    let dir = tempfile::tempdir().unwrap();
    let cache = BlobCache::open(dir.path(), 30).unwrap();
    let (a, b, c, d) = ([1; 10], [2; 10], [3; 10], [4; 10]);
    for blob in [a, b, c] {
        drop(put(&cache, &blob));
    }
    assert!(holds(&cache, &a));
    drop(put(&cache, &d));
    assert!(!holds(&cache, &b));
    assert!(holds(&cache, &a) && holds(&cache, &c) && holds(&cache, &d));
    assert_eq!(fs::read_dir(dir.path().join("blobs")).unwrap().count(), 3);
}

#[test]
fn a_pinned_blob_stays_above_the_limit_and_goes_once_unpinned() {
    let dir = tempfile::tempdir().unwrap();
    let cache = BlobCache::open(dir.path(), 15).unwrap();
    let first = put(&cache, &[1; 10]);
    let second = put(&cache, &[2; 10]);
    assert_eq!(fs::read(first.path()).unwrap(), [1; 10]);
    assert_eq!(fs::read(second.path()).unwrap(), [2; 10]);
    drop(first);
    assert!(!holds(&cache, &[1; 10]));
    assert!(holds(&cache, &[2; 10]));
}

#[test]
fn what_an_earlier_process_left_is_used_only_if_its_digest_is_right() {
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = (b"good bytes", b"bytes to be spoilt");
    {
        let cache = BlobCache::open(dir.path(), 1000).unwrap();
        drop(put(&cache, good));
        fs::write(put(&cache, bad).path(), b"bytes that are bad").unwrap();
    }
    fs::write(dir.path().join("tmp/half"), b"half").unwrap();
    let cache = BlobCache::open(dir.path(), 1000).unwrap();
    assert!(holds(&cache, good));
    assert!(!holds(&cache, bad));
    assert!(
        !dir.path()
            .join("blobs")
            .join(Digest::of(bad).hex())
            .exists()
    );
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_smaller_limit_applies_at_once() {
    let dir = tempfile::tempdir().unwrap();
    drop(put(&BlobCache::open(dir.path(), 1000).unwrap(), &[1; 100]));
    let cache = BlobCache::open(dir.path(), 10).unwrap();
    assert!(!holds(&cache, &[1; 100]));
}

#[test]
fn a_folder_serves_one_worker_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let cache = BlobCache::open(dir.path(), 10).unwrap();
    let error = BlobCache::open(dir.path(), 10).unwrap_err();
    assert!(
        error.to_string().contains("another running worker"),
        "{error}"
    );
    drop(cache);
    BlobCache::open(dir.path(), 10).unwrap();
}

#[test]
fn a_damaged_blob_that_was_replaced_meanwhile_stays() {
    let dir = tempfile::tempdir().unwrap();
    let cache = BlobCache::open(dir.path(), 1000).unwrap();
    let bytes = b"good bytes";
    let digest = Digest::of(bytes);
    let damaged = put(&cache, bytes);
    let since = cache.state().entries[&digest].since;
    fs::write(damaged.path(), b"bad bytes!").unwrap();
    let replaced = put(&cache, bytes);
    cache.forget(&digest, since).unwrap();
    assert_eq!(fs::read(replaced.path()).unwrap(), bytes);
    assert!(holds(&cache, bytes));
    drop(damaged);
}

#[test]
fn a_blob_that_went_and_came_again_is_pinned_by_all_its_readers() {
    let dir = tempfile::tempdir().unwrap();
    let cache = BlobCache::open(dir.path(), 5).unwrap();
    let bytes = b"good bytes";
    let first = put(&cache, bytes);
    fs::write(first.path(), b"cut").unwrap();
    assert!(!holds(&cache, bytes));
    let second = put(&cache, bytes);
    drop(first);
    assert!(second.path().exists(), "it is still read");
    drop(second);
    assert!(!holds(&cache, bytes));
}

#[test]
fn a_full_disk_costs_all_that_nobody_reads() {
    let dir = tempfile::tempdir().unwrap();
    let cache = BlobCache::open(dir.path(), 1000).unwrap();
    drop(put(&cache, &[1; 10]));
    let read = put(&cache, &[2; 20]);
    assert_eq!(cache.make_room(), 10);
    assert_eq!(cache.make_room(), 0);
    assert_eq!((cache.bytes(), read.path().exists()), (20, true));
}

#[test]
fn a_bit_that_flips_while_the_worker_runs_is_found_when_the_blob_is_opened_or_its_reader_ends() {
    let dir = tempfile::tempdir().unwrap();
    let cache = BlobCache::open(dir.path(), 1000).unwrap();
    let bytes = b"good bytes";
    let read = put(&cache, bytes);
    assert!(!read.changed());
    fs::write(read.path(), b"gold bytes").unwrap();
    assert!(read.changed());
    let again = cache.pin(&Digest::of(bytes)).unwrap();
    assert!(matches!(again, Found::Damaged), "{again:?}");
    let fetched = put(&cache, bytes);
    assert!(read.changed() && !fetched.changed());
    // What comes in once more changes nothing for who reads it.
    let again = put(&cache, bytes);
    assert!(!fetched.changed() && !again.changed());
}
