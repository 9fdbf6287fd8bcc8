//! How a caller of the API proves who it is, and knows whom it talks to: a bearer token with every
//! call, TLS, and a client certificate. Shared by everything that calls a server; what is called,
//! and what a refused call means, is not known here.
//!
//! A secret is never a value on a command line, where every process of the machine can read it: a
//! token comes from a file or from the environment.

mod args;
mod explain;
mod token;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tonic::{
    service::interceptor::InterceptedService,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

pub use self::{
    args::AccessArgs,
    explain::explain,
    token::{Bearer, TOKEN_VARIABLE, TokenSource},
};

/// A channel whose every call carries the caller's token.
pub type AuthorizedChannel = InterceptedService<Channel, Bearer>;

/// What a caller brings along. The default is nothing: plain HTTP and no token.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// Where the token is.
    pub token: Option<TokenSource>,
    /// PEM file of the authorities that servers are trusted by, instead of the system's.
    pub tls_ca: Option<PathBuf>,
    /// PEM files of a client certificate and its key.
    pub identity: Option<ClientIdentity>,
    /// Send the token over plain HTTP to other machines.
    pub insecure: bool,
}

/// A client certificate.
#[derive(Clone, Debug)]
pub struct ClientIdentity {
    /// PEM file of the certificate chain.
    pub certificate: PathBuf,
    /// PEM file of the private key.
    pub key: PathBuf,
}

/// Credentials that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file cannot be read.
    #[error("{flag} {}: {source}", .path.display())]
    Read {
        /// The flag that names it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file does not hold what it must.
    #[error("{flag} {}: holds no {wanted}", .path.display())]
    Content {
        /// The flag that names it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What it must hold.
        wanted: &'static str,
    },
    /// The variable holds no token.
    #[error("{TOKEN_VARIABLE} holds no token: it must be one line of visible ASCII characters")]
    Variable,
    /// Two tokens.
    #[error("both {TOKEN_VARIABLE} and a token file are given; leave one out")]
    TwoTokens,
    /// Half a client certificate.
    #[error("{given} needs {missing}: a certificate is of no use without its key, nor a key alone")]
    HalfIdentity {
        /// The flag that is there.
        given: &'static str,
        /// The flag that is not.
        missing: &'static str,
    },
    /// TLS for a server that is called without it.
    #[error("{0} is given, but the server's URL does not begin with https://")]
    NotHttps(&'static str),
    /// A token that others could read on its way.
    #[error(
        "the token would cross the network in the clear; use https://, or --insecure if something \
         else encrypts the way"
    )]
    ExposedToken,
    /// The TLS library refuses what is in the files.
    #[error("TLS: {0}")]
    Tls(String),
}

impl ClientIdentity {
    /// From two flags that only make sense together.
    ///
    /// # Errors
    /// [`CredentialsError::HalfIdentity`].
    pub fn of(
        certificate: Option<PathBuf>,
        key: Option<PathBuf>,
    ) -> Result<Option<Self>, CredentialsError> {
        let half = |given, missing| Err(CredentialsError::HalfIdentity { given, missing });
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some(Self { certificate, key })),
            (None, None) => Ok(None),
            (Some(_), None) => half("--tls-cert", "--tls-key"),
            (None, Some(_)) => half("--tls-key", "--tls-cert"),
        }
    }
}

impl Credentials {
    /// Sets up TLS on the endpoint of a server, and the token for the calls to it.
    ///
    /// # Errors
    /// [`CredentialsError`]: a file is missing or wrong, or the URL does not go with what is given.
    pub fn apply(&self, endpoint: Endpoint) -> Result<(Endpoint, Bearer), CredentialsError> {
        let https = endpoint.uri().scheme_str() == Some("https");
        let host = endpoint.uri().host().unwrap_or_default().to_owned();
        let bearer = match &self.token {
            None => Bearer::none(),
            Some(_) if !https && !self.insecure && !is_loopback(&host) => {
                return Err(CredentialsError::ExposedToken);
            }
            Some(source) => source.open()?,
        };
        if https {
            return Ok((self.with_tls(endpoint, &host)?, bearer));
        }
        match (&self.tls_ca, &self.identity) {
            (Some(_), _) => Err(CredentialsError::NotHttps("--tls-ca")),
            (_, Some(_)) => Err(CredentialsError::NotHttps("--tls-cert")),
            (None, None) => Ok((endpoint, bearer)),
        }
    }

    fn with_tls(&self, endpoint: Endpoint, host: &str) -> Result<Endpoint, CredentialsError> {
        // An IPv6 address is bracketed in a URL, and is not in a certificate.
        let mut tls = ClientTlsConfig::new().domain_name(host.trim_matches(['[', ']']));
        tls = match &self.tls_ca {
            None => tls.with_native_roots(),
            Some(path) => {
                tls.ca_certificate(Certificate::from_pem(certificates("--tls-ca", path)?))
            }
        };
        if let Some(ClientIdentity { certificate, key }) = &self.identity {
            let chain = certificates("--tls-cert", certificate)?;
            let flag = "--tls-key";
            let pem = read(flag, key)?;
            PrivateKeyDer::from_pem_slice(&pem)
                .map_err(|_| content(flag, key, "private key in PEM form"))?;
            tls = tls.identity(Identity::from_pem(chain, pem));
        }
        let with_tls = endpoint.tls_config(tls);
        with_tls.map_err(|error| {
            let problem = explain::innermost(&error);
            CredentialsError::Tls(match &self.tls_ca {
                Some(_) => problem,
                None => format!("{problem}; --tls-ca can name an authority"),
            })
        })
    }
}

/// Whether what is sent to this host stays on this machine.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    address.map_or(host == "localhost", |ip| ip.to_canonical().is_loopback())
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, CredentialsError> {
    fs::read(path).map_err(|source| CredentialsError::Read {
        flag,
        path: path.to_owned(),
        source,
    })
}

fn content(flag: &'static str, path: &Path, wanted: &'static str) -> CredentialsError {
    CredentialsError::Content {
        flag,
        path: path.to_owned(),
        wanted,
    }
}

/// The file, once it is sure that it holds certificates: the library would pass over a file of
/// something else without a word.
fn certificates(flag: &'static str, path: &Path) -> Result<Vec<u8>, CredentialsError> {
    let pem = read(flag, path)?;
    match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
        Ok(found) if !found.is_empty() => Ok(pem),
        _ => Err(content(flag, path, "certificate in PEM form")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(url: &'static str, credentials: &Credentials) -> Result<(), String> {
        let applied = credentials.apply(Endpoint::from_static(url));
        applied.map(|_| ()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_token_does_not_leave_the_machine_in_the_clear() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        fs::write(&file, "dual16_ab\n").unwrap();
        let mut credentials = Credentials {
            token: Some(TokenSource::File(file)),
            ..Credentials::default()
        };
        for local in ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1"] {
            assert_eq!(apply(local, &credentials), Ok(()), "{local}");
        }
        for remote in ["http://10.0.0.1:1", "http://localhost.example:1"] {
            let error = apply(remote, &credentials).unwrap_err();
            assert!(error.contains("https://"), "{error}");
        }
        assert_eq!(apply("https://10.0.0.1:1", &credentials), Ok(()));
        credentials.insecure = true;
        assert_eq!(apply("http://10.0.0.1:1", &credentials), Ok(()));
    }

    #[test]
    fn what_does_not_go_together_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let text = directory.path().join("text");
        fs::write(&text, "no pem").unwrap();
        let credentials = Credentials {
            tls_ca: Some(text.clone()),
            ..Credentials::default()
        };
        let plain = apply("http://127.0.0.1:1", &credentials).unwrap_err();
        assert!(
            plain.contains("--tls-ca") && plain.contains("https://"),
            "{plain}"
        );
        let wrong = apply("https://127.0.0.1:1", &credentials).unwrap_err();
        assert!(wrong.contains("holds no certificate"), "{wrong}");
        let missing = Credentials {
            tls_ca: Some(directory.path().join("missing")),
            ..Credentials::default()
        };
        let missing = apply("https://127.0.0.1:1", &missing).unwrap_err();
        assert!(missing.contains("--tls-ca"), "{missing}");
        let half = ClientIdentity::of(None, Some(text))
            .unwrap_err()
            .to_string();
        assert!(half.contains("--tls-key needs --tls-cert"), "{half}");
    }
}
