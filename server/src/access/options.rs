//! The flags of who may call and how, and the rule that a server is not exposed by accident.

use std::{net::SocketAddr, path::PathBuf};

/// Who may call, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Access")]
pub struct AccessOptions {
    /// TOML file of who may call: tokens (by their hash) and client certificates, each with a
    /// principal and its roles; read again when it changes. Without it everyone may do everything
    #[arg(long, env = "DUAL16_TOKENS", value_name = "FILE")]
    pub tokens: Option<PathBuf>,
    /// PEM file of the server's certificate chain: callers must use TLS; read again when it changes
    #[arg(
        long,
        env = "DUAL16_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key"
    )]
    pub tls_cert: Option<PathBuf>,
    /// PEM file of the certificate's private key; read again when it changes
    #[arg(
        long,
        env = "DUAL16_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    pub tls_key: Option<PathBuf>,
    /// PEM file of the authorities of client certificates: callers must have one
    #[arg(
        long,
        env = "DUAL16_TLS_CLIENT_CA",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    pub tls_client_ca: Option<PathBuf>,
    /// Append a JSON line for every call that would change something; opened again on SIGHUP
    #[arg(long, env = "DUAL16_AUDIT_LOG", value_name = "FILE")]
    pub audit_log: Option<PathBuf>,
    /// Listen beyond loopback without TLS or without --tokens, where something else keeps strangers
    /// away
    #[arg(long, env = "DUAL16_INSECURE", value_parser = clap::builder::BoolishValueParser::new())]
    pub insecure: bool,
}

/// A server that strangers could reach.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{addr} can be reached from other machines, but it {missing}; give {flags}, or listen on \
     127.0.0.1, or say --insecure if something else keeps strangers away"
)]
pub struct Exposed {
    /// Where it would have listened.
    pub addr: SocketAddr,
    missing: &'static str,
    flags: &'static str,
}

impl AccessOptions {
    /// Refuses an address that other machines can reach, unless callers need TLS and a name.
    ///
    /// # Errors
    /// [`Exposed`], which names the flags; never with [`AccessOptions::insecure`].
    pub fn check_exposure(&self, addr: SocketAddr) -> Result<(), Exposed> {
        if addr.ip().to_canonical().is_loopback() {
            return Ok(());
        }
        let (missing, flags) = match (&self.tls_cert, &self.tokens) {
            (Some(_), Some(_)) => return Ok(()),
            (None, None) => (
                "has neither TLS nor authentication",
                "--tls-cert, --tls-key and --tokens",
            ),
            (None, Some(_)) => ("has no TLS", "--tls-cert and --tls-key"),
            (Some(_), None) => ("has no authentication", "--tokens"),
        };
        if self.insecure {
            tracing::warn!(%addr, "--insecure: reachable from other machines, but {missing}");
            return Ok(());
        }
        Err(Exposed {
            addr,
            missing,
            flags,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_needs_neither_tls_nor_tokens() {
        let open = AccessOptions::default();
        let check = |options: &AccessOptions, addr: &str| {
            options.check_exposure(format!("{addr}:7016").parse().unwrap())
        };
        for addr in ["127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]"] {
            assert_eq!(check(&open, addr), Ok(()), "{addr}");
        }
        let file = || Some(PathBuf::from("f"));
        let tls = AccessOptions {
            tls_cert: file(),
            tls_key: file(),
            ..open.clone()
        };
        let tokens = AccessOptions {
            tokens: file(),
            ..open.clone()
        };
        let both = AccessOptions {
            tokens: file(),
            ..tls.clone()
        };
        for addr in ["0.0.0.0", "[::]", "192.168.0.1", "[::ffff:10.0.0.1]"] {
            for (options, flags) in [
                (&open, "--tls-cert, --tls-key and --tokens"),
                (&tls, "give --tokens"),
                (&tokens, "give --tls-cert and --tls-key"),
            ] {
                let error = check(options, addr).unwrap_err().to_string();
                assert!(
                    error.contains(flags) && error.contains("--insecure"),
                    "{error}"
                );
                let insecure = AccessOptions {
                    insecure: true,
                    ..options.clone()
                };
                assert_eq!(check(&insecure, addr), Ok(()));
            }
            assert_eq!(check(&both, addr), Ok(()));
        }
    }
}
