//! Errors of the system without the paths that some libraries put into them. What a worker reports is
//! read by the job's owner, and a server's log by more people than its disk: neither must tell where
//! files are kept.

use std::io;

/// The same error, which says what happened and not to which file.
#[must_use]
pub fn nameless(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => error.kind().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tempfile_says_of_a_folder_is_left_out() {
        let gone = tempfile::tempdir().unwrap().path().join("gone");
        let error = tempfile::NamedTempFile::new_in(&gone).unwrap_err();
        assert!(error.to_string().contains("gone"), "{error}");
        let told = nameless(error);
        assert_eq!(told.kind(), io::ErrorKind::NotFound);
        assert!(!told.to_string().contains("gone"), "{told}");
    }
}
