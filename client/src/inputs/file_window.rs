//! A file as a buffer to decode, of which 64 KiB are in memory: what the decoder skips, the data of tensors,
//! is never read. No crate has a [`Buf`] that reads from a file, for it cannot tell of an error: this one ends
//! there, and tells afterwards.

use std::{
    fs::File,
    io::{self, ErrorKind, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use bytes::Buf;

const WINDOW: usize = 64 << 10;

pub(super) struct FileWindow {
    file: File,
    window: Vec<u8>,
    /// Where in the window the rest of the file begins.
    start: usize,
    /// Bytes of the file behind the window.
    behind: usize,
    failure: Option<io::Error>,
}

impl FileWindow {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut window = Self {
            file,
            window: Vec::new(),
            start: 0,
            behind: usize::try_from(size).map_err(|_| ErrorKind::FileTooLarge)?,
            failure: None,
        };
        window.fill();
        Ok(window)
    }

    /// Why the file ended before its end, if it did.
    pub(super) fn failure(self) -> Option<io::Error> {
        self.failure
    }

    /// Reads the next window; the last one has been passed.
    fn fill(&mut self) {
        self.window.clear();
        self.start = 0;
        let size = self.behind.min(WINDOW);
        let read = (&mut self.file)
            .take(size as u64)
            .read_to_end(&mut self.window);
        let short = self.window.len() < size;
        self.behind -= self.window.len();
        match read {
            Ok(_) if short => self.fail(ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) => self.fail(error),
        }
    }

    fn fail(&mut self, error: io::Error) {
        self.behind = 0;
        self.failure = Some(error);
    }
}

impl Buf for FileWindow {
    fn remaining(&self) -> usize {
        self.window.len() - self.start + self.behind
    }

    fn chunk(&self) -> &[u8] {
        &self.window[self.start..]
    }

    fn advance(&mut self, count: usize) {
        let here = self.window.len() - self.start;
        if count < here {
            self.start += count;
            return;
        }
        // Callers ask for no more than remains.
        let skipped = (count - here).min(self.behind);
        self.behind -= skipped;
        match self.file.seek(SeekFrom::Current(skipped as i64)) {
            Ok(_) => self.fill(),
            Err(error) => {
                self.window.clear();
                self.start = 0;
                self.fail(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_file_however_it_is_passed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let bytes: Vec<u8> = (0..3 * WINDOW + 17).map(|i| (i * 31 % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        for steps in [
            vec![1, 2, WINDOW - 3, 1, WINDOW],
            vec![2 * WINDOW + 5, 7],
            vec![WINDOW, WINDOW, WINDOW, 16],
            vec![3 * WINDOW + 17],
        ] {
            let mut window = FileWindow::open(&path).unwrap();
            let mut at = 0;
            for step in steps {
                window.advance(step);
                at += step;
                assert_eq!(window.remaining(), bytes.len() - at);
                assert_eq!(window.chunk().is_empty(), at == bytes.len());
                assert!(bytes[at..].starts_with(window.chunk()));
            }
            let rest = window.copy_to_bytes(window.remaining());
            assert!(rest == bytes[at..]);
            assert!(window.failure().is_none());
        }
    }

    #[test]
    fn a_file_that_becomes_shorter_ends_early_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, vec![1; 2 * WINDOW]).unwrap();
        let mut window = FileWindow::open(&path).unwrap();
        std::fs::write(&path, vec![1; WINDOW + 1]).unwrap();
        window.advance(WINDOW);
        assert_eq!(window.remaining(), 1);
        window.advance(1);
        assert_eq!(window.failure().unwrap().kind(), ErrorKind::UnexpectedEof);
    }
}
