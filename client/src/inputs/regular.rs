//! Only files that can be read twice are inputs: they are hashed first and sent afterwards. A FIFO would be
//! waited for for ever, and a link to nothing be passed over as if it were not there.

use std::{fs, path::Path};

use super::InputError;

/// Says so where a path that was given, or stands where a batch would, is neither file nor folder.
///
/// # Errors
/// [`InputError::Irregular`] names it.
pub(super) fn check(path: &Path) -> Result<(), InputError> {
    let is = match fs::metadata(path) {
        Ok(found) if found.is_file() || found.is_dir() => return Ok(()),
        Ok(found) => kind(found.file_type()),
        // A link is there though what it names is not.
        Err(_) if path.is_symlink() => "a link to a file that is not there",
        // Whoever opens it has the system's own words.
        Err(_) => return Ok(()),
    };
    Err(InputError::Irregular {
        path: path.to_owned(),
        is,
    })
}

#[cfg(unix)]
fn kind(found: fs::FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt as _;
    match () {
        () if found.is_fifo() => "a FIFO",
        () if found.is_socket() => "a socket",
        () => "a device",
    }
}

#[cfg(not(unix))]
fn kind(_: fs::FileType) -> &'static str {
    "a device"
}

#[cfg(all(test, unix))]
mod tests {
    use std::{os::unix::net::UnixListener, process::Command};

    use super::*;

    #[test]
    fn what_is_neither_file_nor_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let made = Command::new("mkfifo").arg(at("fifo")).status().unwrap();
        assert!(made.success());
        let _listener = UnixListener::bind(at("socket")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("link")).unwrap();
        fs::write(at("file"), b"x").unwrap();
        std::os::unix::fs::symlink("file", at("good")).unwrap();
        let said = |name: &str| check(&at(name)).err().map(|error| error.to_string());
        for (name, is) in [
            ("fifo", "a FIFO"),
            ("socket", "a socket"),
            ("link", "a link to a file that is not there"),
        ] {
            let said = said(name).unwrap();
            assert!(said.contains(name) && said.contains(is), "{said}");
        }
        assert_eq!(
            said("/dev/null")
                .as_deref()
                .map(|said| said.contains("a device")),
            Some(true)
        );
        for name in ["file", "good", "", "not there at all"] {
            assert_eq!(said(name), None, "{name}");
        }
    }
}
