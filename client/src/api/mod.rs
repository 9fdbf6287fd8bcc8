//! A typed client of the `dual16.v1` API: every call retried while the server is away, blobs
//! resumed where they stopped, watches resumed where they were.
//!
//! Usable as a library by other programs. It must not know about the command line, the terminal or
//! the local cluster; whoever owns a [`Client`] hears about outages through [`ConnectOptions::on_retry`].

mod artifacts;
mod connect;
mod download;
mod error;
mod jobs;
mod upload;
mod watch;

pub use artifacts::Fetched;
pub use connect::{Client, ConnectOptions, RetryPolicy};
pub use dual16_rpc::{Moved, Retrying};
pub use error::{ApiError, Violation};
pub use jobs::JobName;
pub use upload::SourceBlob;
pub use watch::Watch;
