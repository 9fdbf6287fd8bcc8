//! Blobs between files and messages: what server, client and worker do alike. Reading runs ahead of
//! the network, hashing and writing run behind it, both by a fixed number of chunks, so that disk,
//! hash and network work at the same time and memory does not depend on a blob's size or on how
//! slow the other side is.
//!
//! It must not know calls, retries or where blobs are kept.

mod durable_file;
mod hashed;
mod read_ahead;
mod write_behind;

pub use self::{
    durable_file::DurableFile,
    hashed::Hashed,
    read_ahead::read_ahead,
    write_behind::{Consume, WriteBehind},
};

/// Largest piece of a blob in one message, in bytes.
pub const CHUNK_BYTES: usize = 1 << 20;

/// Chunks of one transfer between its file and the network, at most.
pub const CHUNKS_IN_FLIGHT: usize = 4;

/// HTTP/2 window of a stream, in bytes: what may be under way before the receiver has taken it. Far
/// above bandwidth times delay of a data centre.
pub const STREAM_WINDOW_BYTES: u32 = 8 << 20;

/// HTTP/2 window of a connection, in bytes: one stalled transfer does not stop the others.
pub const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Largest HTTP/2 frame that is accepted, in bytes. With the protocol's default of 16 KiB a chunk
/// costs 64 system calls on each side; a whole chunk in a frame would hold up small calls on the
/// same connection.
pub const FRAME_BYTES: u32 = 256 << 10;
