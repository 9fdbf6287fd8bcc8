//! The flags by which a program is given its credentials.

use std::path::PathBuf;

use clap::{Args, builder::BoolishValueParser};

use super::{ClientIdentity, Credentials, CredentialsError, TokenSource};

/// What a server may ask for before it listens.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Access to a server")]
pub struct AccessArgs {
    /// File with the token, read again when it changes; without one, the variable DUAL16_TOKEN may hold the
    /// token itself
    #[arg(long, global = true, env = "DUAL16_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// PEM file of the authority that signed the server's certificate [default: the system's]
    #[arg(long, global = true, env = "DUAL16_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// PEM file of a client certificate, where the server asks for one
    #[arg(long, global = true, env = "DUAL16_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file of the client certificate's private key
    #[arg(long, global = true, env = "DUAL16_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Send the token over http:// to other machines, where something else encrypts the way
    #[arg(long, global = true, env = "DUAL16_INSECURE", value_parser = BoolishValueParser::new())]
    pub insecure: bool,
}

impl AccessArgs {
    /// The credentials that these flags and DUAL16_TOKEN name.
    ///
    /// # Errors
    /// A file that cannot be read or does not hold what it must, a certificate without its key.
    pub fn credentials(&self) -> Result<Credentials, CredentialsError> {
        Ok(Credentials {
            token: TokenSource::of(self.token_file.clone())?,
            tls_ca: self.tls_ca.clone(),
            identity: ClientIdentity::of(self.tls_cert.clone(), self.tls_key.clone())?,
            insecure: self.insecure,
        })
    }
}
