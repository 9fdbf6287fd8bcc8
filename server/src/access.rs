//! Who calls, and whether it may: deny by default.
//!
//! A caller proves who it is by a bearer token or by its client certificate ([`tokens`]); what its
//! roles allow is the table of every method ([`policy`](crate::policy)). What was found out goes on as
//! the [`Scope`] in the request's extensions: a handler that wants it cannot be reached without. What a
//! job is, is not known here.

pub(crate) mod audit;
mod caller;
mod guard;
mod options;
mod scope;
pub mod secret;
pub mod tokens;

pub use self::{
    caller::{Caller, Role, Roles},
    options::{AccessOptions, Exposed},
};
pub(crate) use self::{
    guard::Guard,
    scope::{Scope, Subject},
};

/// Why a call is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Neither a token nor a certificate that stands for a principal.
    #[error(
        "this server asks who is calling: send a token as the metadata `authorization: Bearer TOKEN`"
    )]
    NoCredentials,
    /// A token that nobody was given, or an `authorization` that is no bearer token.
    #[error("the token is not known to this server")]
    UnknownToken,
    /// A token of the past.
    #[error("the token has expired: ask for a new one")]
    ExpiredToken,
    /// The caller is known, and may not.
    #[error("{principal} may not call {rpc}: it needs the role {needed}")]
    Role {
        /// Who called.
        principal: String,
        /// What was called, such as `JobService/CreateJob`.
        rpc: &'static str,
        /// The roles of which one would do.
        needed: String,
    },
    /// What is no method of the API.
    #[error("this server has no such method")]
    NoMethod,
}

impl Denied {
    /// Stable reason, for programs.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::NoCredentials => "CREDENTIALS_MISSING",
            Self::UnknownToken => "TOKEN_UNKNOWN",
            Self::ExpiredToken => "TOKEN_EXPIRED",
            Self::Role { .. } => "ROLE_MISSING",
            Self::NoMethod => "METHOD_UNKNOWN",
        }
    }

    /// Whether it is the identity that is missing, rather than the permission.
    pub(crate) fn unauthenticated(&self) -> bool {
        match self {
            Self::NoCredentials | Self::UnknownToken | Self::ExpiredToken => true,
            Self::Role { .. } | Self::NoMethod => false,
        }
    }
}
