//! Who owns a job: the name of a principal. What a principal may do, and how it proves who it is,
//! is not known here.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest name, in bytes.
const MAX_BYTES: usize = 64;
const ANONYMOUS: &str = "anonymous";

/// A principal's name: 1 to 64 of `A-Z a-z 0-9 . _ @ -`. Never a NUL, so that keys of the store can
/// end it with one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Principal(String);

impl Principal {
    /// Everyone, on a server that asks nobody who they are.
    pub fn anonymous() -> Self {
        Self(ANONYMOUS.to_owned())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is [`Principal::anonymous`].
    pub fn is_anonymous(&self) -> bool {
        self.0 == ANONYMOUS
    }
}

/// Records of before there were principals belong to everyone.
impl Default for Principal {
    fn default() -> Self {
        Self::anonymous()
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no principal's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a principal's name: it must be 1 to 64 letters, digits, '.', '_', '@' or '-'"
)]
pub struct InvalidPrincipal(String);

impl TryFrom<String> for Principal {
    type Error = InvalidPrincipal;

    fn try_from(name: String) -> Result<Self, InvalidPrincipal> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._@-".contains(&byte);
        if name.is_empty() || name.len() > MAX_BYTES || !name.bytes().all(known) {
            return Err(InvalidPrincipal(name));
        }
        Ok(Self(name))
    }
}

impl FromStr for Principal {
    type Err = InvalidPrincipal;

    fn from_str(name: &str) -> Result<Self, InvalidPrincipal> {
        name.to_owned().try_into()
    }
}

impl From<Principal> for String {
    fn from(principal: Principal) -> Self {
        principal.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_short() {
        for good in ["ci", "train-07@cluster.local", &"a".repeat(64)] {
            assert_eq!(good.parse::<Principal>().unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a/b", "a\0", "ä", &"a".repeat(65)] {
            assert!(bad.parse::<Principal>().is_err(), "{bad:?}");
        }
        assert!(Principal::default().is_anonymous());
    }
}
