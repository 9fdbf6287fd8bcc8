//! A token and its hash.
//!
//! A token is 256 bits from the system's generator, so a plain SHA-256 is the right thing to keep
//! of it: there is no dictionary to try, and a slow password hash would only make every call slow.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// What tokens begin with, so that scanners for leaked secrets find them.
const PREFIX: &str = "dual16_";
const SECRET_BYTES: usize = 32;

/// A new token, in the clear. Exists in the process that makes it, and nowhere else.
pub struct Token(String);

impl Token {
    /// Draws a token.
    ///
    /// # Errors
    /// The system's generator failed.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret)?;
        Ok(Self(format!("{PREFIX}{}", hex::encode(secret))))
    }

    /// The token as the caller sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What the server keeps.
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(&self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// SHA-256 of a token.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a token as a caller sent it.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Reads 64 hex digits; `None` if it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).ok()?;
        Some(Self(hash))
    }

    /// Whether they are equal; how long that takes tells nothing.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_long_different_and_known_by_their_hash() {
        let (one, other) = (Token::generate().unwrap(), Token::generate().unwrap());
        assert_eq!(one.reveal().len(), PREFIX.len() + 2 * SECRET_BYTES);
        assert_ne!(one.reveal(), other.reveal());
        let kept = TokenHash::parse(&one.hash().to_string()).unwrap();
        assert!(kept.matches(&TokenHash::of(one.reveal())));
        assert!(!kept.matches(&other.hash()));
        for bad in ["", "00", &"g".repeat(64), &"0".repeat(65)] {
            assert!(TokenHash::parse(bad).is_none(), "{bad:?}");
        }
        assert!(!format!("{one:?} {kept:?}").contains(&one.reveal()[PREFIX.len()..]));
    }
}
