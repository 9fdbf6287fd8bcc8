//! Small files that other programs wait for.

use std::{fs, io, path::Path};

/// Writes a file that a reader sees whole or not at all.
///
/// # Errors
/// As the system's own: no such folder, no permission, no space.
pub fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    fs::write(&temporary, text)?;
    fs::rename(&temporary, path)
}
