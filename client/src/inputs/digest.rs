//! Digests of files, with progress: inputs can be large.

use std::{fs::File, io, io::Read as _, path::Path};

use dual16_proto::digest::Digest;
use sha2::{Digest as _, Sha256};

/// The digest and size of the file at `path`; `moved` is told of each piece that was hashed.
///
/// # Errors
/// Whatever the system says when the file cannot be read.
pub fn digest_file(path: &Path, moved: &dyn Fn(i64)) -> io::Result<(Digest, u64)> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let count = match file.read(&mut buffer) {
            Ok(0) => return Ok((Digest::finish(hasher), size)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..count]);
        size += count as u64;
        moved(count as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_the_standard_one() {
        // FIPS 180-2, appendix B.1.
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"abc").unwrap();
        let (digest, size) = digest_file(file.path(), &|_| {}).unwrap();
        assert_eq!(size, 3);
        assert_eq!(
            digest.to_string(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
