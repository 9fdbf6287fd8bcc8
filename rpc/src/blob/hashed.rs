//! Bytes on their way to a writer, hashed as they pass.

use std::io::{self, Write};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::Consume;
use dual16_proto::digest::Digest;

/// A writer and the SHA-256 of everything written to it.
pub struct Hashed<W> {
    writer: W,
    hasher: Sha256,
    bytes: u64,
}

impl<W> Hashed<W> {
    /// Nothing is written yet.
    pub fn new(writer: W) -> Self {
        Self::resumed(writer, Sha256::new(), 0)
    }

    /// The writer stands behind `bytes` bytes, which `hasher` has taken in.
    pub fn resumed(writer: W, hasher: Sha256, bytes: u64) -> Self {
        Self {
            writer,
            hasher,
            bytes,
        }
    }

    /// Bytes written so far, those before a resumption included.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The writer, and the digest of all bytes.
    pub fn finish(self) -> (W, Digest) {
        (self.writer, Digest::finish(self.hasher))
    }
}

impl<W: Write> Hashed<W> {
    /// Writes all of `data`.
    ///
    /// # Errors
    /// The writer's. What it has written of `data` is then unknown.
    pub fn write_all(&mut self, data: &[u8]) -> io::Result<()> {
        self.writer.write_all(data)?;
        self.hasher.update(data);
        self.bytes += data.len() as u64;
        Ok(())
    }
}

impl<W: Write + Send + 'static> Consume for Hashed<W> {
    type Error = io::Error;

    fn consume(&mut self, chunk: Bytes) -> io::Result<()> {
        self.write_all(&chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_of_all_bytes_also_after_a_resumption() {
        let mut whole = Hashed::new(Vec::new());
        whole.write_all(b"ab").unwrap();
        whole.write_all(b"c").unwrap();
        assert_eq!(whole.bytes(), 3);
        assert_eq!(whole.finish(), (b"abc".to_vec(), Digest::of(b"abc")));

        let kept = Sha256::new_with_prefix(b"ab");
        let mut resumed = Hashed::resumed(Vec::new(), kept, 2);
        resumed.write_all(b"c").unwrap();
        assert_eq!(resumed.bytes(), 3);
        assert_eq!(resumed.finish(), (b"c".to_vec(), Digest::of(b"abc")));
    }
}
