//! Connections of the ops port, and of other ports beside the API. Whoever reaches one needs no token to connect, so
//! there are few of them at a time and each ends soon: file descriptors that silent callers hold would be missing
//! elsewhere.

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet, time::timeout};

/// Pause after the system refused a connection: no file descriptor is left, most likely.
const PAUSE: Duration = Duration::from_millis(100);

/// What connections may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// At a time; further ones wait in the system's queue.
    pub connections: usize,
    /// From the connection to the last header of its one request.
    pub headers: Duration,
    /// From the connection to its end.
    pub lifetime: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 64,
            headers: Duration::from_secs(2),
            // Longer than any probe or scrape waits.
            lifetime: Duration::from_secs(30),
        }
    }
}

/// Serves `router` until it is dropped, and its connections with it.
pub async fn serve(listener: TcpListener, router: Router, bounds: Bounds) {
    let places = Arc::new(Semaphore::new(bounds.connections));
    let mut connections = JoinSet::new();
    // Closed it is never.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let service = TowerToHyperService::new(router.clone());
        connections.spawn(async move {
            let _place = place;
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(bounds.headers)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            // How it ended is the caller's to know.
            let _ = timeout(bounds.lifetime, connection).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
        time::Instant,
    };

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    async fn start(bounds: Bounds) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/livez", get(async || "ok\n"))
            .route("/never", get(std::future::pending::<&str>));
        tokio::spawn(serve(listener, router, bounds));
        addr
    }

    async fn connect(addr: SocketAddr, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    async fn answer(mut stream: TcpStream) -> String {
        let mut answer = Vec::new();
        let read = timeout(LIMIT, stream.read_to_end(&mut answer)).await;
        read.expect("it ends").unwrap();
        String::from_utf8(answer).unwrap()
    }

    fn get_of(path: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
    }

    #[tokio::test]
    async fn silent_callers_and_slow_ones_make_room_for_the_next() {
        let bounds = Bounds {
            connections: 3,
            headers: Duration::from_millis(300),
            lifetime: Duration::from_millis(600),
        };
        let addr = start(bounds).await;
        let began = Instant::now();
        let silent = connect(addr, "").await;
        let halfway = connect(addr, "GET /livez HTTP/1.1\r\nHost:").await;
        let waiting = connect(addr, &get_of("/never")).await;
        let next = answer(connect(addr, &get_of("/livez")).await).await;
        assert!(
            next.starts_with("HTTP/1.1 200") && next.ends_with("ok\n"),
            "{next}"
        );
        assert!(began.elapsed() >= bounds.headers, "all places were taken");
        assert_eq!(answer(silent).await, "");
        assert!(!answer(halfway).await.contains("200"));
        assert_eq!(answer(waiting).await, "");
        assert!(began.elapsed() >= bounds.lifetime);
    }

    #[tokio::test]
    async fn a_connection_carries_one_request() {
        let addr = start(Bounds::default()).await;
        let twice = get_of("/livez").repeat(2);
        let answer = answer(connect(addr, &twice).await).await;
        assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
}
