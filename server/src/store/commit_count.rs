//! How many commits were durable, in a file of its own beside the database.
//!
//! sled cuts its log at the first write that it cannot read. After a loss of power that is the end of
//! the log, as it should be; after damage it is somewhere in the middle, and what was acknowledged
//! behind it would be gone without a word. The database counts its commits in itself; this file
//! counts them outside, always a little behind, so a database with fewer has lost some.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
};

const NAME: &str = "commits";
const FRESH: &str = "commits.new";
/// Digits and a line end: always the same length, so that a write replaces all of it.
const BYTES: usize = 21;

#[derive(Debug)]
pub(super) struct CommitCount {
    file: File,
}

impl CommitCount {
    /// The count in `directory`; `None` if there never was one.
    pub(super) fn read(directory: &Path) -> io::Result<Option<u64>> {
        let bytes = match fs::read(directory.join(NAME)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let digits = bytes.strip_suffix(b"\n").filter(|_| bytes.len() == BYTES);
        let digits = digits.and_then(|digits| str::from_utf8(digits).ok());
        match digits.and_then(|digits| digits.parse().ok()) {
            Some(count) => Ok(Some(count)),
            None => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the file \"{NAME}\" beside the database does not hold a count"),
            )),
        }
    }

    /// Opens the file, or makes it, with this count in it. A new one appears whole: an empty one would
    /// pass for damage. One that is there needs no room on a disk that may be full.
    pub(super) fn open(directory: &Path, count: u64) -> io::Result<Self> {
        if Self::read(directory).is_ok_and(|there| there.is_some()) {
            let file = OpenOptions::new().write(true).open(directory.join(NAME))?;
            let commit_count = Self { file };
            commit_count.record(count)?;
            commit_count.file.sync_all()?;
            return Ok(commit_count);
        }
        let fresh = directory.join(FRESH);
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true);
        let commit_count = Self {
            file: options.open(&fresh)?,
        };
        commit_count.record(count)?;
        commit_count.file.sync_all()?;
        fs::rename(fresh, directory.join(NAME))?;
        Ok(commit_count)
    }

    /// Notes that so many commits are durable. Not synced: after a loss of power the file may be
    /// behind, never ahead, and behind is harmless.
    pub(super) fn record(&self, count: u64) -> io::Result<()> {
        self.file
            .write_all_at(format!("{count:020}\n").as_bytes(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_one_count_and_anything_else_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(CommitCount::read(directory.path()).unwrap(), None);
        let commit_count = CommitCount::open(directory.path(), 7).unwrap();
        commit_count.record(u64::MAX).unwrap();
        assert_eq!(CommitCount::read(directory.path()).unwrap(), Some(u64::MAX));
        let bad: [&[u8]; 5] = [
            b"",
            b"7\n",
            b"0000000000000000000x\n",
            b"000000000000000000007",
            &[0xff; BYTES],
        ];
        for bad in bad {
            fs::write(directory.path().join(NAME), bad).unwrap();
            let error = CommitCount::read(directory.path()).unwrap_err();
            assert!(error.to_string().contains("\"commits\""), "{error}");
        }
    }
}
