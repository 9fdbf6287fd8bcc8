//! Where the live page listens, and why it may not.

use std::{io, net::SocketAddr, path::PathBuf};

use clap::Args;
use dual16_telemetry::files::write_whole;
use tokio::net::TcpListener;

/// Flags of the live page.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Operations")]
pub struct PageArgs {
    /// Address of the plain HTTP port with the live page of jobs; it asks for the tokens that the API asks for;
    /// port 0 takes a free one [default: none]
    #[arg(long, env = "DUAL16_PAGE_LISTEN", value_name = "ADDRESS:PORT")]
    pub page_listen: Option<SocketAddr>,
    /// Write the address of the live page to this file, once it listens
    #[arg(
        long,
        env = "DUAL16_PAGE_PORT_FILE",
        value_name = "FILE",
        requires = "page_listen"
    )]
    pub page_port_file: Option<PathBuf>,
}

/// Why there is no live page.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// Tokens would be readable on their way.
    #[error(
        "--page-listen {0} can be reached from other machines, and the page has no TLS: listen on a loopback address \
         and put a proxy with TLS before it, or add --insecure where something else encrypts the way"
    )]
    Exposed(SocketAddr),
    /// The address cannot be listened on.
    #[error("--page-listen {addr}: {source}")]
    Listen {
        /// As given.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("--page-port-file {}: {source}", .file.display())]
    PortFile {
        /// As given.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl PageArgs {
    /// Listens, if that was asked for; `insecure` allows other machines.
    ///
    /// # Errors
    /// The flag, and what is wrong with it.
    pub async fn listen(&self, insecure: bool) -> Result<Option<TcpListener>, PageError> {
        let Some(addr) = self.page_listen else {
            return Ok(None);
        };
        if !addr.ip().to_canonical().is_loopback() {
            if !insecure {
                return Err(PageError::Exposed(addr));
            }
            tracing::warn!(%addr, "--insecure: the live page is reachable from other machines without TLS");
        }
        let failed = |source| PageError::Listen { addr, source };
        let listener = TcpListener::bind(addr).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        if let Some(file) = &self.page_port_file {
            write_whole(file, &format!("{addr}\n")).map_err(|source| PageError::PortFile {
                file: file.clone(),
                source,
            })?;
        }
        tracing::info!(%addr, "live page listens");
        Ok(Some(listener))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn other_machines_are_let_in_only_when_somebody_says_so() {
        let args = PageArgs {
            page_listen: Some("0.0.0.0:0".parse().unwrap()),
            page_port_file: None,
        };
        let error = args.listen(false).await.unwrap_err().to_string();
        assert!(
            error.contains("--insecure") && error.contains("TLS"),
            "{error}"
        );
        assert!(args.listen(true).await.unwrap().is_some());
        assert!(PageArgs::default().listen(false).await.unwrap().is_none());
    }
}
