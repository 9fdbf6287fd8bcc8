//! The name of a blob: the SHA-256 of its bytes. Parsed once at the border, because a digest
//! becomes a file name and must never be a path of someone else's choosing.

use std::{fmt, fs::File, io, path::Path, str::FromStr};

use sha2::{Digest as _, Sha256};
use thiserror::Error;

const PREFIX: &str = "sha256:";

/// SHA-256 of a blob's bytes. Its text form is "sha256:" and 64 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Digest([u8; 32]);

/// A text that is no digest.
#[derive(Debug, Error)]
#[error("'{0}' is no digest; one is 'sha256:' and 64 lower-case hex digits")]
pub(crate) struct InvalidDigest(String);

impl Digest {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Digest and size of a file, read as a stream.
    pub(crate) fn of_file(path: &Path) -> io::Result<(Self, u64)> {
        let mut hasher = Sha256::new();
        let size = io::copy(&mut File::open(path)?, &mut HashWriter(&mut hasher))?;
        Ok((Self::from_hasher(hasher), size))
    }

    pub(crate) fn from_hasher(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }

    /// The 64 hex digits alone: a file name.
    pub(crate) fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Inverse of [`hex`](Self::hex).
    pub(crate) fn from_hex(text: &str) -> Result<Self, InvalidDigest> {
        let invalid = || InvalidDigest(text.to_owned());
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(invalid());
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| invalid())?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.hex())
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        text.strip_prefix(PREFIX)
            .and_then(|hex| Self::from_hex(hex).ok())
            .ok_or_else(|| InvalidDigest(text.to_owned()))
    }
}

struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        let digest = Digest::of(b"abc");
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse::<Digest>().unwrap(), digest);
    }

    #[test]
    fn anything_else_is_refused() {
        let hex = Digest::of(b"abc").hex();
        for text in [
            String::new(),
            hex.clone(),
            format!("sha256:{}", hex.to_uppercase()),
            format!("sha256:{}", &hex[1..]),
            format!("sha256:{hex}0"),
            "sha256:../../etc/passwd".to_owned(),
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_has_the_digest_of_its_bytes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes = vec![7_u8; 100_000];
        std::fs::write(file.path(), &bytes).unwrap();
        assert_eq!(
            Digest::of_file(file.path()).unwrap(),
            (Digest::of(&bytes), 100_000)
        );
    }
}
