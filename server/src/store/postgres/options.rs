//! The URL of a database.

use std::str::FromStr as _;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

/// A statement that takes longer is stuck: none reads more than a page.
const STATEMENT_TIMEOUT: &str = "30s";
/// Waiting for the row of a job.
const LOCK_TIMEOUT: &str = "10s";
/// A server that stands still in the middle of a transaction keeps its locks no longer.
const IDLE_TIMEOUT: &str = "20s";

/// The URL names no database.
#[derive(Debug, thiserror::Error)]
#[error("the URL is not of the form postgres://USER:PASSWORD@HOST:PORT/DATABASE: {0}")]
pub struct InvalidUrl(String);

/// Refuses a URL that names no database.
///
/// # Errors
/// [`InvalidUrl`].
pub fn check(url: &str) -> Result<(), InvalidUrl> {
    parse(url).map(drop)
}

/// Reads a URL. Hosts other than this machine are verified by certificate unless `sslmode` says otherwise.
pub(super) fn parse(url: &str) -> Result<PgConnectOptions, InvalidUrl> {
    let schemes = ["postgres://", "postgresql://"];
    if !schemes.iter().any(|scheme| url.starts_with(scheme)) {
        return Err(InvalidUrl("it begins with another scheme".into()));
    }
    let options = PgConnectOptions::from_str(url).map_err(|error| InvalidUrl(error.to_string()))?;
    let here = options.get_socket().is_some()
        || ["localhost", "127.0.0.1", "::1", "[::1]"].contains(&options.get_host())
        || options.get_host().starts_with('/');
    let says = url.contains("sslmode=") || url.contains("ssl-mode=");
    let options = match here || says {
        true => options,
        false => options.ssl_mode(PgSslMode::VerifyFull),
    };
    Ok(options.application_name("dual16-server").options([
        ("statement_timeout", STATEMENT_TIMEOUT),
        ("lock_timeout", LOCK_TIMEOUT),
        ("idle_in_transaction_session_timeout", IDLE_TIMEOUT),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_machine_is_verified_unless_the_url_says_otherwise() {
        let mode = |url| format!("{:?}", parse(url).unwrap().get_ssl_mode());
        assert_eq!(mode("postgres://u@db.example/jobs"), "VerifyFull");
        assert_eq!(
            mode("postgres://u@db.example/jobs?sslmode=require"),
            "Require"
        );
        assert_eq!(mode("postgres://u@127.0.0.1/jobs"), "Prefer");
        assert_eq!(mode("postgres:///jobs?host=/run/postgresql"), "Prefer");
        assert!(parse("mysql://u@db.example/jobs").is_err());
    }
}
