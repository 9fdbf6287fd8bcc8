//! How the `dual16.v1` API is called. Everything that calls a server calls it by this: one
//! [`Connection`] with credentials and TLS, one rule for what is tried again, transfers that go on
//! where they broke off. What a failure means to whom, and how long it is borne, is the caller's to
//! say by a [`Policy`].
//!
//! It knows the API and nothing of jobs, tasks, terminals or caches.
//!
//! # Layout
//! - [`credentials`]: how a caller proves who it is, and knows whom it talks to.
//! - `connection`: where a server is, the services of a connection, one call; `contact`: the first
//!   call, which tells a dual16 server from anything else.
//! - `retry`: what is tried again, after which pause, and who is told.
//! - `direct`: bytes from where the server says they are, past it.
//! - `upload`, `download`: blobs between the server and whatever can be read or written.
//! - [`blob`]: what the server's side of a transfer is made of as well.

pub mod blob;
mod connection;
mod contact;
pub mod credentials;
mod direct;
mod download;
mod retry;
mod transfer;
mod upload;

pub use self::{
    connection::{Address, AddressError, CALL_TIMEOUT, Channel, Connection, deadline},
    contact::{Contact, ContactError},
    retry::{Backoff, CallError, Delays, Policy, Retry, Retrying, is_transient, made_here, reason},
    transfer::{Blob, Moved, TransferError},
};
