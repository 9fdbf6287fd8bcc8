//! What a process takes: memory as the kernel counts it, and bytes on disk.

use std::{fs, path::Path};

/// Most memory that a process has had, in bytes.
pub(crate) fn peak(process: u32) -> u64 {
    status(process, "VmHWM:")
}

/// Memory that a process has, in bytes.
pub(crate) fn resident(process: u32) -> u64 {
    status(process, "VmRSS:")
}

/// Bytes of everything below a folder. What vanishes meanwhile has none.
pub(crate) fn on_disk(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => on_disk(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.map(|entry| bytes(entry.unwrap())).sum()
}

/// Files below a folder.
pub(crate) fn files_in(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    let files = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => files_in(&entry.path()),
        Ok(_) => 1,
        Err(_) => 0,
    };
    entries.map(|entry| files(entry.unwrap())).sum()
}

fn status(process: u32, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kilobytes.unwrap().parse::<u64>().unwrap() << 10
}
