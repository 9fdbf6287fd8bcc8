//! What stands between the network and the services, from its options: tokens, TLS, the audit log,
//! and the reading of all three again.

use std::sync::Arc;

use tokio_rustls::rustls::ServerConfig;

use super::StartError;
use crate::{
    access::{AccessOptions, Guard, audit::Audit, tokens::Tokens},
    clock::Clock,
    reload::{Latest, Reload, Reloaded, Reloader},
    tls::TlsFiles,
};

pub(super) struct Protection {
    pub(super) guard: Guard,
    pub(super) tls: Option<Latest<ServerConfig>>,
    pub(super) reloader: Reloader,
    pub(super) audit: Arc<Audit>,
}

impl Protection {
    /// Reads every file for the first time; here a wrong one is an error.
    pub(super) fn open(options: AccessOptions, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        let AccessOptions {
            tokens,
            tls_cert,
            tls_key,
            tls_client_ca,
            audit_log,
            insecure: _,
        } = options;
        let mut watched: Vec<Arc<dyn Reload>> = Vec::new();

        let audit = Audit::open(Arc::clone(&clock), audit_log.clone()).map_err(|source| {
            let path = audit_log.unwrap_or_default();
            StartError::AuditLog { path, source }
        })?;
        let audit = Arc::new(audit);
        watched.push(audit.clone());

        let tokens = match tokens {
            None => None,
            Some(path) => {
                let file = path.clone();
                let load = move || Tokens::read(&file);
                let (reloaded, latest) = Reloaded::open("--tokens", vec![path.clone()], load)
                    .map_err(|source| StartError::Tokens { path, source })?;
                watched.push(Arc::new(reloaded));
                Some(latest)
            }
        };

        let tls = match tls_cert.zip(tls_key) {
            None => None,
            Some((certificate, key)) => {
                let files = TlsFiles {
                    certificate,
                    key,
                    client_ca: tls_client_ca,
                };
                let paths = files.paths();
                let (reloaded, latest) =
                    Reloaded::open("--tls-cert, --tls-key", paths, move || files.load())?;
                watched.push(Arc::new(reloaded));
                Some(latest)
            }
        };

        Ok(Self {
            guard: Guard { tokens, clock },
            tls,
            reloader: Reloader::new(watched),
            audit,
        })
    }
}
