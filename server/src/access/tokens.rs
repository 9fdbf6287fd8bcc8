//! The tokens file: who there is, what each may do, and how each proves that it is the one.
//!
//! ```toml
//! [[token]]
//! principal = "ci"                    # several tokens may be one principal's: that is how to rotate
//! roles = ["submit"]                  # submit, worker, admin, scaler, urgent
//! sha256 = "64 hex digits"            # of the token: `dual16-server token new` prints the entry
//! expires = 2027-01-31T00:00:00Z      # optional
//!
//! [[certificate]]                     # a client certificate, verified against --tls-client-ca
//! principal = "workers"
//! roles = ["worker"]
//! name = "worker.dual16.example"      # a DNS name or URI among its subject alternative names
//! ```
//!
//! Errors name the entry and the field, never a value: a token may have been put where its hash belongs.

use std::{fmt, fs, path::Path, str::FromStr};

use serde::Deserialize;

use super::{
    Denied,
    caller::{Caller, Role, Roles},
    secret::TokenHash,
};
use crate::{clock::Timestamp, principal::Principal};

/// Everyone who may call.
#[derive(Debug, Default)]
pub struct Tokens {
    tokens: Vec<TokenEntry>,
    certificates: Vec<CertificateEntry>,
}

#[derive(Debug)]
struct TokenEntry {
    caller: Caller,
    hash: TokenHash,
    expires: Option<Timestamp>,
}

#[derive(Debug)]
struct CertificateEntry {
    caller: Caller,
    name: String,
}

/// Why a tokens file is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokensError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Read(String),
    /// Not TOML, or not the tables and keys that there are.
    #[error("line {line}: {problem}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// What the parser said.
        problem: String,
    },
    /// An entry makes no sense.
    #[error("{table} {number}: {field} {problem}")]
    Entry {
        /// `token` or `certificate`.
        table: &'static str,
        /// Which of them, from 1.
        number: usize,
        /// The key.
        field: &'static str,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// The file lets nobody in.
    #[error("it has neither a [[token]] nor a [[certificate]], so nobody could call")]
    Empty,
}

impl Tokens {
    /// Reads a tokens file.
    ///
    /// # Errors
    /// [`TokensError`]; the path is the caller's to add.
    pub fn read(path: &Path) -> Result<Self, TokensError> {
        let text =
            fs::read_to_string(path).map_err(|error| TokensError::Read(error.to_string()))?;
        text.parse()
    }

    /// The caller whose token this is, at `now`.
    ///
    /// Looks at every entry, and compares in constant time: the time it takes tells nothing.
    ///
    /// # Errors
    /// [`Denied::UnknownToken`], [`Denied::ExpiredToken`].
    pub fn caller_of_token(&self, token: &str, now: Timestamp) -> Result<&Caller, Denied> {
        let hash = TokenHash::of(token);
        let mut found = None;
        for entry in &self.tokens {
            if entry.hash.matches(&hash) {
                found = Some(entry);
            }
        }
        let entry = found.ok_or(Denied::UnknownToken)?;
        if entry.expires.is_some_and(|expires| expires <= now) {
            return Err(Denied::ExpiredToken);
        }
        Ok(&entry.caller)
    }

    /// The caller that a verified client certificate with these names stands for.
    pub fn caller_of_certificate(&self, names: &[String]) -> Option<&Caller> {
        let named = |entry: &&CertificateEntry| names.contains(&entry.name);
        self.certificates
            .iter()
            .find(named)
            .map(|entry| &entry.caller)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.tokens.len() + self.certificates.len()
    }

    /// Whether nobody may call; a file that says so is refused.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    token: Vec<RawToken>,
    #[serde(default)]
    certificate: Vec<RawCertificate>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawToken {
    principal: String,
    roles: Vec<Role>,
    sha256: String,
    expires: Option<toml::value::Datetime>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCertificate {
    principal: String,
    roles: Vec<Role>,
    name: String,
}

impl FromStr for Tokens {
    type Err = TokensError;

    fn from_str(text: &str) -> Result<Self, TokensError> {
        let file: File = toml::from_str(text).map_err(|error| syntax(text, &error))?;
        let mut tokens = Self::default();
        for (number, raw) in (1..).zip(file.token) {
            let entry = Entry("token", number);
            let caller = entry.caller(raw.principal, &raw.roles)?;
            let hash = TokenHash::parse(&raw.sha256).ok_or_else(|| {
                entry.wrong("sha256", "must be the 64 hex digits of the token's SHA-256")
            })?;
            if tokens.tokens.iter().any(|other| other.hash.matches(&hash)) {
                return Err(entry.wrong("sha256", "is that of an entry before it"));
            }
            let expires = raw.expires.map(|time| entry.time(time)).transpose()?;
            tokens.tokens.push(TokenEntry {
                caller,
                hash,
                expires,
            });
        }
        for (number, raw) in (1..).zip(file.certificate) {
            let entry = Entry("certificate", number);
            let caller = entry.caller(raw.principal, &raw.roles)?;
            if raw.name.is_empty() || raw.name.contains('*') {
                let problem =
                    "must be one whole DNS name or URI of the certificate, without wildcards";
                return Err(entry.wrong("name", problem));
            }
            let name = raw.name;
            if tokens.certificates.iter().any(|other| other.name == name) {
                return Err(entry.wrong("name", "is that of an entry before it"));
            }
            tokens.certificates.push(CertificateEntry { caller, name });
        }
        if tokens.is_empty() {
            return Err(TokensError::Empty);
        }
        Ok(tokens)
    }
}

/// Table and number of an entry.
struct Entry(&'static str, usize);

impl Entry {
    fn wrong(&self, field: &'static str, problem: impl fmt::Display) -> TokensError {
        TokensError::Entry {
            table: self.0,
            number: self.1,
            field,
            problem: problem.to_string(),
        }
    }

    fn caller(&self, principal: String, roles: &[Role]) -> Result<Caller, TokensError> {
        let named = Principal::try_from(principal).map_err(|_| {
            let problem = "must be 1 to 64 letters, digits, '.', '_', '@' or '-'";
            self.wrong("principal", problem)
        })?;
        if named.is_anonymous() {
            let problem =
                "cannot be `anonymous`, the owner of jobs that were submitted without one";
            return Err(self.wrong("principal", problem));
        }
        if roles.is_empty() {
            return Err(self.wrong(
                "roles",
                "is empty; one of submit, worker, admin, scaler, urgent is needed",
            ));
        }
        Ok(Caller {
            principal: named,
            roles: Roles::of(roles),
        })
    }

    fn time(&self, time: toml::value::Datetime) -> Result<Timestamp, TokensError> {
        let whole = time.date.is_some() && time.time.is_some() && time.offset.is_some();
        let parsed = time.to_string().parse::<prost_types::Timestamp>().ok();
        let seconds = parsed.filter(|_| whole).map(|time| time.seconds);
        let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let millis = seconds.and_then(|seconds| seconds.checked_mul(1000));
        millis.map(Timestamp::from_millis).ok_or_else(|| {
            let problem = "must be a time with an offset, such as 2027-01-31T00:00:00Z";
            self.wrong("expires", problem)
        })
    }
}

fn syntax(text: &str, error: &toml::de::Error) -> TokensError {
    let start = error.span().map_or(0, |span| span.start);
    let before = text.get(..start).unwrap_or_default();
    TokensError::Syntax {
        line: before.matches('\n').count() + 1,
        problem: without_values(error.message()),
    }
}

/// What a parser said, without what it read: serde quotes that between the kind of a mistake and the
/// last `, expected`. Other messages hold no values.
fn without_values(message: &str) -> String {
    let quoting = [
        "invalid type",
        "invalid value",
        "invalid length",
        "unknown field",
        "unknown variant",
    ];
    let Some(kind) = quoting.iter().find(|kind| message.starts_with(**kind)) else {
        return message.to_owned();
    };
    let expected = message.rfind(", expected ").map(|at| &message[at..]);
    format!("{kind}{}", expected.unwrap_or_default())
}

#[cfg(test)]
mod tests;
