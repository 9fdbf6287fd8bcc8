//! What can go wrong between a client and a server, and how a gRPC status is read.

use std::{io, path::PathBuf, time::Duration};

use dual16_rpc::{
    CallError,
    credentials::{CredentialsError, explain},
    made_here, reason,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// A failed call, transfer or watch.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The URL cannot be one of a server.
    #[error("{url:?} is not a server URL: {reason}; an example is http://127.0.0.1:7016")]
    InvalidUrl {
        /// As given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing answered for as long as the caller was ready to wait.
    #[error(
        "cannot reach the server at {url} ({call} failed for {} s: {last}); check that dual16-server \
         runs there, that --server or DUAL16_SERVER names it, and that no firewall is between",
        .waited.as_secs()
    )]
    Unreachable {
        /// The server.
        url: String,
        /// The call that was tried.
        call: &'static str,
        /// How long it was tried.
        waited: Duration,
        /// The newest error.
        last: String,
    },
    /// The token or the certificates cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The two sides do not come to trust each other, or only one of them speaks TLS.
    #[error("cannot talk to the server at {url}: {message}")]
    Tls {
        /// The server.
        url: String,
        /// Why, and what would help.
        message: String,
    },
    /// Something answers, but it is not dual16.
    #[error(
        "{url} answers, but not as a dual16 server ({message}); is it another service's address?"
    )]
    NotDual16 {
        /// The server.
        url: String,
        /// What it answered.
        message: String,
    },
    /// The server understood and said no.
    #[error("{call}: {message}{}", describe(.message, .reason, .violations))]
    Refused {
        /// The call.
        call: &'static str,
        /// Its gRPC code.
        code: Code,
        /// The server's message.
        message: String,
        /// Stable upper-snake-case reason from ErrorInfo; empty where there is none.
        reason: String,
        /// Fields or preconditions at fault.
        violations: Vec<Violation>,
    },
    /// The server broke the API's rules.
    #[error("{call}: the server broke the protocol: {message}")]
    Protocol {
        /// The call.
        call: &'static str,
        /// What it did.
        message: String,
    },
    /// The bytes that arrived are not the bytes that were promised.
    #[error("{name}: arrived with digest {actual} instead of {expected}; nothing was kept")]
    Corrupt {
        /// File or blob.
        name: String,
        /// Digest promised.
        expected: String,
        /// Digest of what came.
        actual: String,
    },
    /// An input file changed after it was hashed.
    #[error("{} changed while it was uploaded ({message}); run the same command again", .path.display())]
    InputChanged {
        /// The file.
        path: PathBuf,
        /// How it was noticed.
        message: String,
    },
    /// A local file could not be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A local file could not be written.
    #[error("cannot write {}: {}; nothing half-written was left behind", .path.display(), write_advice(.source))]
    Write {
        /// The file, by its final name.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

fn upper_snake(camel: &str) -> String {
    let mut snake = String::new();
    for letter in camel.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_uppercase());
    }
    snake
}

/// One field or precondition that the server found wanting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Field path or subject.
    pub subject: String,
    /// What is wrong with it.
    pub description: String,
}

impl ApiError {
    /// What kind of error it is, in upper snake case: the server's own reason, where it gave one.
    pub fn reason(&self) -> String {
        let reason = match self {
            Self::Refused { reason, .. } if !reason.is_empty() => reason,
            // "NotFound" is NOT_FOUND where it comes from.
            Self::Refused { code, .. } => return upper_snake(&format!("{code:?}")),
            Self::InvalidUrl { .. } => "INVALID_URL",
            Self::Unreachable { .. } => "UNREACHABLE",
            Self::Credentials(_) => "CREDENTIALS",
            Self::Tls { .. } => "TLS",
            Self::NotDual16 { .. } => "NOT_DUAL16",
            Self::Protocol { .. } => "PROTOCOL",
            Self::Corrupt { .. } => "CORRUPT",
            Self::InputChanged { .. } => "INPUT_CHANGED",
            Self::Read { .. } => "READ_FAILED",
            Self::Write { .. } => "WRITE_FAILED",
        };
        reason.to_owned()
    }

    /// What the failure of a call to the server at `url` means.
    pub(super) fn of_call(url: &str, error: CallError) -> Self {
        let CallError { call, status, .. } = error;
        match error.waited {
            // Nobody was there, or only somebody who asked to come back later.
            Some(waited) if made_here(&status) || status.code() == Code::Unavailable => {
                Self::Unreachable {
                    url: url.to_owned(),
                    call,
                    waited,
                    last: reason(&status),
                }
            }
            _ => Self::refused(call, url, &status),
        }
    }

    /// Reads a final status of `call` to the server at `url`.
    pub fn refused(call: &'static str, url: &str, status: &Status) -> Self {
        if let Some(message) = explain(status) {
            let url = url.to_owned();
            return Self::Tls { url, message };
        }
        let details = status.get_error_details();
        let fields = details
            .bad_request()
            .into_iter()
            .flat_map(|bad| &bad.field_violations)
            .map(|field| Violation {
                subject: field.field.clone(),
                description: field.description.clone(),
            });
        let preconditions = details
            .precondition_failure()
            .into_iter()
            .flat_map(|failure| &failure.violations)
            .map(|violation| Violation {
                subject: violation.subject.clone(),
                description: violation.description.clone(),
            });
        Self::Refused {
            call,
            code: status.code(),
            message: match status.message() {
                "" => status.code().description().to_owned(),
                message => message.to_owned(),
            },
            reason: details
                .error_info()
                .map(|info| info.reason.clone())
                .unwrap_or_default(),
            violations: fields.chain(preconditions).collect(),
        }
    }

    /// The gRPC code, where the server sent one.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// What the message does not say yet.
fn describe(message: &str, reason: &str, violations: &[Violation]) -> String {
    let mut text = match reason {
        "" => String::new(),
        // What the server says is for programs of every kind; this is the one with the flags.
        "CREDENTIALS_MISSING" => {
            " [CREDENTIALS_MISSING]\n  name a file with the token by --token-file, or put it into \
             DUAL16_TOKEN"
                .to_owned()
        }
        reason => format!(" [{reason}]"),
    };
    for violation in violations
        .iter()
        .filter(|one| !message.contains(&one.description))
    {
        text += &format!("\n  {}: {}", violation.subject, violation.description);
    }
    text
}

fn write_advice(source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::StorageFull => {
            "the disk is full; free some space or choose another --out".to_owned()
        }
        io::ErrorKind::QuotaExceeded => {
            "the disk quota is used up; free some space or choose another --out".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "permission denied; choose an --out that can be written".to_owned()
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "the file system is read-only; choose an --out that can be written".to_owned()
        }
        _ => source.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_refusal_names_reason_and_fields() {
        let mut details = ErrorDetails::new();
        details.set_error_info("INVALID_JOB", "dual16", [("a".to_owned(), "b".to_owned())]);
        details.add_bad_request_violation("spec.calibration", "is empty");
        let status = Status::with_error_details(Code::InvalidArgument, "bad job", details);

        let error = ApiError::refused("CreateJob", "http://h:1", &status);

        assert_eq!(error.code(), Some(Code::InvalidArgument));
        assert_eq!(
            error.to_string(),
            "CreateJob: bad job [INVALID_JOB]\n  spec.calibration: is empty"
        );
    }

    #[test]
    fn a_full_disk_says_so_and_names_the_file() {
        let error = ApiError::Write {
            path: PathBuf::from("out/converted.safetensors"),
            source: io::Error::from(io::ErrorKind::StorageFull),
        };
        let text = error.to_string();
        assert!(text.contains("out/converted.safetensors"), "{text}");
        assert!(text.contains("disk is full"), "{text}");
    }
}
