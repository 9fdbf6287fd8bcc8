//! Removing blobs that nobody needs, and uploads that nobody goes on with.
//!
//! Needed is what a job keeps, which the caller says, and what is younger than a time of grace: a
//! file is uploaded before the job that names it, a result before the task that hands it in. The
//! age goes by the file's time, which every question about a blob renews. A blob that was found there
//! will therefore be there for the grace; renewing and removing exclude each other.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs::{self, DirEntry, File},
    io,
    path::Path,
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

use super::{
    age::Now,
    checked::sweep_damaged,
    local::{Layout, LocalBlobs},
};
use crate::digest::Digest;

/// A time that is renewed is left alone if it is as fresh as this: a small part of the shortest grace,
/// a second, by which what is found may go too early.
const FRESH: Duration = Duration::from_millis(100);

/// Tells which of some blobs no job keeps.
pub(super) type Unreferenced<'a> = &'a dyn Fn(&[Digest]) -> io::Result<Vec<Digest>>;

/// What a sweep has found and done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Blobs that stay.
    pub blobs: u64,
    /// Bytes of all that stays; what came in meanwhile may count twice.
    pub bytes: u64,
    /// Blobs and unfinished uploads removed.
    pub removed: u64,
    /// Bytes of what was removed.
    pub removed_bytes: u64,
}

impl Layout {
    /// Size of a blob, whose time of grace begins anew; `None` if it is not stored.
    pub(super) fn renew(&self, digest: Digest) -> io::Result<Option<u64>> {
        let _renewing = self.exclude(digest);
        let file = match File::options().append(true).open(self.blob(digest)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        let now = SystemTime::now();
        let age = now.duration_since(metadata.modified()?);
        if age.is_ok_and(|age| age > FRESH) {
            file.set_modified(now)?;
        }
        Ok(Some(metadata.len()))
    }

    /// Removes a blob that is still older than `grace`.
    fn remove(&self, digest: Digest, grace: Duration, now: Now) -> io::Result<bool> {
        let _removing = self.exclude(digest);
        let path = self.blob(digest);
        if now.age(fs::metadata(&path)?.modified()?) < grace {
            return Ok(false);
        }
        fs::remove_file(path)?;
        Ok(true)
    }
}

impl LocalBlobs {
    /// Looks at every file once, and removes those that are older than `grace` and needed by
    /// nobody. Reads directories only; blocks.
    pub(super) fn sweep(
        &self,
        grace: Duration,
        unreferenced: Unreferenced<'_>,
    ) -> io::Result<Swept> {
        self.sweep_at(self.layout().ages.now(), grace, unreferenced)
    }

    fn sweep_at(
        &self,
        now: Now,
        grace: Duration,
        unreferenced: Unreferenced<'_>,
    ) -> io::Result<Swept> {
        let layout = self.layout();
        let mut swept = Swept::default();
        let published = layout.published.load(Ordering::Relaxed);
        for shard in entries(&layout.shards())? {
            if !is_shard(&shard)? {
                continue;
            }
            let prefix = shard.file_name();
            let mut old = Vec::new();
            for file in entries(&shard.path())? {
                // Only what this store has written itself.
                let name = prefix
                    .to_str()
                    .zip(file.file_name().to_str().map(str::to_owned));
                let name = name.map(|(prefix, rest)| format!("{prefix}{rest}"));
                let Some(digest) = name.and_then(|name| Digest::from_hex(&name).ok()) else {
                    continue;
                };
                let metadata = file.metadata()?;
                swept.stays(metadata.len());
                if now.age(metadata.modified()?) >= grace {
                    old.push((digest, metadata.len()));
                }
            }
            let digests: Vec<_> = old.iter().map(|(digest, _)| *digest).collect();
            let free: HashSet<_> = unreferenced(&digests)?.into_iter().collect();
            for (digest, size) in old {
                if free.contains(&digest) && layout.remove(digest, grace, now)? {
                    swept.goes(size);
                }
            }
        }
        self.sweep_uploads(now, grace, &mut swept)?;
        sweep_damaged(&layout.damaged(), |metadata| {
            Ok(now.age(metadata.modified()?) >= grace)
        })?;
        // What came to be meanwhile may have been in neither place when that was looked at.
        swept.bytes += layout.published.load(Ordering::Relaxed) - published;
        Ok(swept)
    }

    /// An upload under way is written to, and so is young.
    fn sweep_uploads(&self, now: Now, grace: Duration, swept: &mut Swept) -> io::Result<()> {
        for part in entries(&self.layout().uploads())? {
            if !is_part(&part.file_name()) {
                continue;
            }
            let metadata = match part.metadata() {
                // It was finished just now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            swept.stays(metadata.len());
            if now.age(metadata.modified()?) >= grace && fs::remove_file(part.path()).is_ok() {
                swept.goes(metadata.len());
            }
        }
        Ok(())
    }
}

impl Swept {
    pub(super) fn stays(&mut self, bytes: u64) {
        self.blobs += 1;
        self.bytes += bytes;
    }

    pub(super) fn goes(&mut self, bytes: u64) {
        self.blobs -= 1;
        self.bytes -= bytes;
        self.removed += 1;
        self.removed_bytes += bytes;
    }
}

/// Whether this is one of the folders that blobs lie in. The folder above may be a file system of its
/// own, with what that brings, or have a stranger's files.
pub(super) fn is_shard(entry: &DirEntry) -> io::Result<bool> {
    let digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let name = entry.file_name();
    let name = name.as_encoded_bytes();
    Ok(name.len() == 2 && name.iter().all(digit) && entry.file_type()?.is_dir())
}

fn is_part(name: &OsStr) -> bool {
    let hex = name.to_str().and_then(|name| name.strip_suffix(".part"));
    hex.is_some_and(|hex| Digest::from_hex(hex).is_ok())
}

pub(super) fn entries(directory: &Path) -> io::Result<Vec<DirEntry>> {
    fs::read_dir(directory)?.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::{self, BlobStore as _};

    const DAY: Duration = Duration::from_secs(86_400);

    async fn stored(blobs: &LocalBlobs, bytes: &'static [u8]) -> Digest {
        blob::store(blobs, bytes.into()).await.unwrap()
    }

    /// As a server that has run for a week.
    fn sweep(
        blobs: &LocalBlobs,
        grace: Duration,
        unreferenced: Unreferenced<'_>,
    ) -> io::Result<Swept> {
        let now = blobs.layout().ages.at(SystemTime::now(), 7 * DAY);
        blobs.sweep_at(now, grace, unreferenced)
    }

    fn make_old(path: &Path) {
        let file = File::options().append(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - 2 * DAY).unwrap();
    }

    #[tokio::test]
    async fn what_is_old_and_needed_by_nobody_goes() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::open(directory.path()).unwrap();
        let kept = stored(&blobs, b"kept").await;
        let young = stored(&blobs, b"young").await;
        let old = stored(&blobs, b"old one").await;
        let asked_for = stored(&blobs, b"asked for").await;
        for digest in [kept, old, asked_for] {
            make_old(&blobs.layout().blob(digest));
        }
        assert_eq!(blobs.renew(vec![asked_for]).await.unwrap(), [Some(9)]);
        let free = |asked: &[Digest]| {
            let free = asked.iter().copied().filter(|digest| *digest != kept);
            Ok(free.collect())
        };
        let swept = sweep(&blobs, DAY, &free).unwrap();
        assert_eq!((swept.blobs, swept.bytes), (3, 4 + 5 + 9));
        assert_eq!((swept.removed, swept.removed_bytes), (1, 7));
        let sizes = blobs
            .sizes(vec![kept, young, old, asked_for])
            .await
            .unwrap();
        assert_eq!(sizes, [Some(4), Some(5), None, Some(9)]);
        // And it can come back.
        assert_eq!(stored(&blobs, b"old one").await, old);
    }

    #[tokio::test]
    async fn an_upload_that_is_found_there_is_young_again() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::open(directory.path()).unwrap();
        let digest = stored(&blobs, b"twice").await;
        make_old(&blobs.layout().blob(digest));
        assert_eq!(stored(&blobs, b"twice").await, digest);
        let swept = sweep(&blobs, DAY, &|asked| Ok(asked.to_vec())).unwrap();
        assert_eq!(swept.removed, 0);
    }

    #[tokio::test]
    async fn an_upload_that_nobody_goes_on_with_goes() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::open(directory.path()).unwrap();
        let digest = Digest::of(b"whole");
        let mut upload = blobs.begin(digest, 5, 0).await.unwrap().unwrap();
        upload.write(b"who"[..].into()).await.unwrap();
        drop(upload);
        // Written behind, which makes it young.
        while blobs.committed(digest).await.unwrap() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let all = |asked: &[Digest]| Ok(asked.to_vec());
        assert_eq!(sweep(&blobs, DAY, &all).unwrap().removed, 0);
        make_old(&blobs.layout().part(digest));
        assert_eq!(sweep(&blobs, DAY, &all).unwrap().removed, 1);
        assert_eq!(blobs.committed(digest).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn what_others_left_among_the_blobs_stops_no_sweep() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::open(directory.path()).unwrap();
        let digest = stored(&blobs, b"old").await;
        make_old(&blobs.layout().blob(digest));
        let shards = blobs.layout().shards();
        for folder in [&shards, &blobs.layout().uploads()] {
            fs::create_dir(folder.join("lost+found")).unwrap();
            fs::write(folder.join("README"), b"of somebody").unwrap();
        }
        fs::write(shards.join("ab"), b"a file named as a shard").unwrap();
        let blobs = LocalBlobs::open(directory.path()).unwrap();
        let swept = sweep(&blobs, DAY, &|asked| Ok(asked.to_vec())).unwrap();
        assert_eq!((swept.blobs, swept.bytes, swept.removed), (0, 0, 1));
    }

    #[tokio::test]
    async fn a_grace_of_a_second_begins_anew_within_it() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::open(directory.path()).unwrap();
        let digest = stored(&blobs, b"asked for").await;
        let path = blobs.layout().blob(digest);
        let file = File::options().append(true).open(&path).unwrap();
        let almost = Duration::from_millis(950);
        file.set_modified(SystemTime::now() - almost).unwrap();
        assert_eq!(blobs.renew(vec![digest]).await.unwrap(), [Some(9)]);
        let all = |asked: &[Digest]| Ok(asked.to_vec());
        assert_eq!(sweep(&blobs, almost, &all).unwrap().removed, 0);
    }

    #[tokio::test]
    async fn nothing_goes_while_it_is_unknown_who_needs_it() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::open(directory.path()).unwrap();
        let digest = stored(&blobs, b"old").await;
        make_old(&blobs.layout().blob(digest));
        let unknown = |_: &[Digest]| Err(io::Error::other("the store has failed"));
        assert!(sweep(&blobs, DAY, &unknown).is_err());
        assert_eq!(blobs.size(digest).await.unwrap(), Some(3));
    }

    #[tokio::test]
    async fn what_grew_old_while_no_server_ran_gets_its_grace() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::open(directory.path()).unwrap();
        let kept = stored(&blobs, b"a result that its worker still has to hand in").await;
        let unfinished = Digest::of(b"whole");
        let part = blobs.layout().part(unfinished);
        fs::write(&part, b"who").unwrap();
        for path in [blobs.layout().blob(kept), part] {
            make_old(&path);
        }
        drop(blobs);
        let blobs = LocalBlobs::open(directory.path()).unwrap();
        let all = |asked: &[Digest]| Ok(asked.to_vec());
        assert_eq!(blobs.sweep(DAY, &all).unwrap().removed, 0);
        assert_eq!(sweep(&blobs, DAY, &all).unwrap().removed, 2);
    }
}
