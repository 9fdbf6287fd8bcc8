//! One accepted connection, plain or TLS, and what is known of the other side.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::{
    line::Line,
    seat::{Seat, Watch},
};
use crate::tls;

/// The other side of a connection; in the extensions of every request on it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) addr: Option<SocketAddr>,
    /// DNS names and URIs of the verified client certificate; none without one.
    pub(crate) certificate_names: Arc<Vec<String>>,
    /// The connection itself.
    pub(crate) line: Line,
}

/// A connection and its peer.
pub(crate) struct Connection {
    stream: Stream,
    peer: Peer,
    watch: Watch,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    pub(super) fn plain(stream: TcpStream, seat: Seat) -> Self {
        let watch = Watch::new(seat);
        let peer = Peer {
            addr: stream.peer_addr().ok(),
            certificate_names: Arc::default(),
            line: watch.line.clone(),
        };
        Self {
            stream: Stream::Plain(stream),
            peer,
            watch,
        }
    }

    pub(super) fn tls(stream: TlsStream<TcpStream>, seat: Seat) -> Self {
        let watch = Watch::new(seat);
        let (tcp, session) = stream.get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        let peer = Peer {
            addr: tcp.peer_addr().ok(),
            certificate_names: Arc::new(certificate.map(tls::names_of).unwrap_or_default()),
            line: watch.line.clone(),
        };
        Self {
            stream: Stream::Tls(Box::new(stream)),
            peer,
            watch,
        }
    }
}

impl Connection {
    fn count(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &written {
            self.watch.line.wrote(*bytes);
        }
        written
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.watch.check(context)?;
        let filled = buffer.filled().len();
        let read = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        self.watch.has_read(buffer.filled().len() - filled);
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.watch.check(context)?;
        let written = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        };
        self.count(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch.check(context)?;
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.watch.check(context)?;
        let written = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        };
        self.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
