//! TLS as the server speaks it: from PEM files to a configuration, with or without client
//! certificates. Which connection uses which configuration is `accept`'s to know.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio_rustls::rustls::{
    self, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};

/// The one protocol that is spoken.
const HTTP_2: &[u8] = b"h2";

/// The files of a server's TLS.
#[derive(Clone, Debug)]
pub(crate) struct TlsFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// Callers must have a certificate of one of these authorities.
    pub(crate) client_ca: Option<PathBuf>,
}

/// Why TLS cannot be had from the files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{flag}: cannot be read: {source}")]
    Read {
        /// The flag that names it.
        flag: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file does not hold what it must.
    #[error("{flag}: holds no {wanted} in PEM form")]
    Pem {
        /// The flag that names it.
        flag: &'static str,
        /// What it must hold.
        wanted: &'static str,
    },
    /// The certificates and the key do not go together, or are of a kind that is not supported.
    #[error("--tls-cert and --tls-key: {0}")]
    Identity(rustls::Error),
    /// The authorities cannot be used.
    #[error("--tls-client-ca: {0}")]
    ClientCa(String),
    /// The library's own settings.
    #[error("TLS: {0}")]
    Protocol(rustls::Error),
}

impl TlsFiles {
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let mut paths = vec![self.certificate.clone(), self.key.clone()];
        paths.extend(self.client_ca.clone());
        paths
    }

    /// Reads the files; what comes out serves connections from then on.
    pub(crate) fn load(&self) -> Result<ServerConfig, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Protocol)?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates("--tls-client-ca", path)? {
                    let added = roots.add(authority);
                    added.map_err(|error| TlsError::ClientCa(error.to_string()))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                let verifier = verifier.map_err(|error| TlsError::ClientCa(error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let chain = certificates("--tls-cert", &self.certificate)?;
        let mut config = builder
            .with_single_cert(chain, key(&self.key)?)
            .map_err(TlsError::Identity)?;
        config.alpn_protocols = vec![HTTP_2.to_vec()];
        Ok(config)
    }
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read { flag, source })
}

fn certificates(flag: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(flag, path)?;
    let wrong = TlsError::Pem {
        flag,
        wanted: "certificate",
    };
    match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(wrong),
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let flag = "--tls-key";
    let pem = read(flag, path)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| TlsError::Pem {
        flag,
        wanted: "private key",
    })
}

/// DNS names and URIs of a client certificate that the handshake has verified.
pub(crate) fn names_of(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else {
        return Vec::new();
    };
    let names = certificate.valid_dns_names();
    let names = names.chain(certificate.valid_uri_names());
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    #[test]
    fn files_are_read_and_errors_name_the_flag() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, contents: &str| {
            let path = directory.path().join(name);
            fs::write(&path, contents).unwrap();
            path
        };
        let made = || rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let (one, other) = (made(), made());
        let certificate = file("cert", &one.cert.pem());
        let key = file("key", &one.signing_key.serialize_pem());
        let other_key = file("other", &other.signing_key.serialize_pem());
        let load = |certificate: &Path, key: &Path, client_ca: Option<&Path>| {
            let files = TlsFiles {
                certificate: certificate.to_owned(),
                key: key.to_owned(),
                client_ca: client_ca.map(Path::to_owned),
            };
            files.load().map(|_| ()).map_err(|error| error.to_string())
        };
        assert_eq!(load(&certificate, &key, None), Ok(()));
        assert_eq!(load(&certificate, &key, Some(&certificate)), Ok(()));
        let missing = directory.path().join("missing");
        let cases = [
            (load(&missing, &key, None), "--tls-cert: cannot be read"),
            (load(&key, &key, None), "--tls-cert: holds no certificate"),
            (
                load(&certificate, &certificate, None),
                "--tls-key: holds no private key",
            ),
            (
                load(&certificate, &other_key, None),
                "--tls-cert and --tls-key",
            ),
            (
                load(&certificate, &key, Some(&key)),
                "--tls-client-ca: holds no certificate",
            ),
        ];
        for (outcome, expected) in cases {
            let error = outcome.unwrap_err();
            assert!(error.contains(expected), "{error}");
            let path = directory.path().to_str().unwrap();
            assert!(!error.contains(path), "{error}");
        }
    }

    #[test]
    fn a_certificates_names_are_its_dns_names_and_uris() {
        let mut params =
            CertificateParams::new(vec!["w.example".into(), "10.0.0.1".into()]).unwrap();
        let uri = "spiffe://example/worker".try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert_eq!(
            names_of(certificate.der()),
            ["w.example", "spiffe://example/worker"]
        );
    }
}
