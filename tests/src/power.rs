//! Loss of power: a server whose data directory, afterwards, holds what it has synced and nothing else.
//!
//! `tests/power/recorder.c` is loaded into the server and records every sync. This is the harshest
//! reading of what a disk may forget; a real one keeps more.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/power/recorder.c");

/// A disk that remembers which of its bytes are safe.
pub struct Disk {
    recorder: PathBuf,
    folder: TempDir,
}

impl Disk {
    /// Builds the recorder.
    ///
    /// # Panics
    /// Without a C compiler, which Rust needs as well.
    #[allow(clippy::new_without_default, reason = "it runs a compiler")]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let recorder = folder.path().join("recorder.so");
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let built = Command::new(&compiler)
            .args([
                "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-o",
            ])
            .arg(&recorder)
            .arg(SOURCE)
            .args(["-ldl", "-pthread"])
            .output()
            .unwrap_or_else(|error| panic!("{} cannot be run: {error}", compiler.display()));
        let errors = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "{SOURCE}: {errors}");
        let disk = Self { recorder, folder };
        disk.forget();
        disk
    }

    /// What a program needs in its environment for its directory `data` to be on this disk.
    pub fn environment(&self, data: &Path) -> Vec<(OsString, OsString)> {
        vec![
            ("LD_PRELOAD".into(), self.recorder.clone().into()),
            ("POWER_DATA".into(), data.into()),
            ("POWER_IMAGE".into(), self.image().into()),
        ]
    }

    /// Puts in the place of `data`, whose program is dead, what was safe of it; from here on all of
    /// that is. Returns how many files lost something.
    pub fn cut_power(&self, data: &Path) -> usize {
        let fresh = data.with_extension("fresh");
        let root = fs::metadata(data).unwrap().ino();
        self.rebuild(root, &fresh).unwrap();
        let lost = differences(data, &fresh).unwrap();
        fs::remove_dir_all(data).unwrap();
        fs::rename(&fresh, data).unwrap();
        self.forget();
        self.remember(data).unwrap();
        lost
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn forget(&self) {
        let image = self.image();
        let _ = fs::remove_dir_all(&image);
        for part in ["files", "dirs", "fresh"] {
            fs::create_dir_all(image.join(part)).unwrap();
        }
    }

    fn rebuild(&self, inode: u64, target: &Path) -> io::Result<()> {
        fs::create_dir(target)?;
        let names = fs::read_to_string(self.image().join(format!("dirs/{inode}")));
        // A directory that was never synced is empty.
        for line in names.unwrap_or_default().lines() {
            let mut parts = line.splitn(3, ' ');
            let (kind, inode, name) = (parts.next(), parts.next(), parts.next());
            let target = target.join(name.unwrap());
            let inode: u64 = inode.unwrap().parse().unwrap();
            if kind == Some("d") {
                self.rebuild(inode, &target)?;
                continue;
            }
            match fs::copy(self.image().join(format!("files/{inode}")), &target) {
                Ok(_) => {}
                // It has a name, and no bytes.
                Err(error) if error.kind() == io::ErrorKind::NotFound => fs::write(target, "")?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Everything as it is now is safe.
    fn remember(&self, directory: &Path) -> io::Result<()> {
        let mut names = String::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let inode = entry.metadata()?.ino();
            let kind = if entry.file_type()?.is_dir() {
                self.remember(&entry.path())?;
                'd'
            } else {
                fs::copy(entry.path(), self.image().join(format!("files/{inode}")))?;
                'f'
            };
            names += &format!("{kind} {inode} {}\n", entry.file_name().to_str().unwrap());
        }
        let inode = fs::metadata(directory)?.ino();
        fs::write(self.image().join(format!("dirs/{inode}")), names)
    }
}

/// Files of `before` that `after` does not have with the same bytes.
fn differences(before: &Path, after: &Path) -> io::Result<usize> {
    let mut found = 0;
    for entry in fs::read_dir(before)? {
        let entry = entry?;
        let (old, new) = (entry.path(), after.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            found += differences(&old, &new)?;
        } else if fs::read(&new).ok() != fs::read(&old).ok() {
            found += 1;
        }
    }
    Ok(found)
}
