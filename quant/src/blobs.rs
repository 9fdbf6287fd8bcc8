//! The one thing the flow asks of storage. Who keeps the bytes, and where, is the caller's affair.

use std::{
    io,
    path::{Path, PathBuf},
};

/// The content-addressed bytes a task reads and writes.
pub trait Blobs: Send + Sync {
    /// A local, verified copy of a blob; it stays readable while the task runs.
    fn path(&self, digest: &str) -> io::Result<PathBuf>;
    /// Stores bytes and returns their digest.
    fn put(&self, bytes: Vec<u8>) -> io::Result<String>;
    /// Stores a file's bytes and returns their digest.
    fn put_file(&self, file: &Path) -> io::Result<String>;
}
