//! The bound: a file over a plain socket, hashed, written and synced by the receiver.
//!
//! A thread on each side, no framing, no gRPC. One direction serves for both: there is no protocol
//! that could make them differ.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use dual16_proto::digest::Digest;
use sha2::{Digest as _, Sha256};

use crate::Source;

const BUFFER_BYTES: usize = 1 << 20;

pub(crate) struct Peer {
    listener: TcpListener,
    received: PathBuf,
}

impl Peer {
    pub(crate) async fn start(source: &Source) -> Self {
        Self {
            listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
            received: source.folder.path().join("tcp"),
        }
    }

    /// Time that `times` transfers take, one after the other.
    pub(crate) fn transfer(&self, source: &Source, times: u64) -> Duration {
        let addr = self.listener.local_addr().unwrap();
        let mut taken = Duration::ZERO;
        for _ in 0..times {
            source.new_file("tcp");
            let begun = Instant::now();
            thread::scope(|scope| {
                scope.spawn(|| send(&source.path, TcpStream::connect(addr)?));
                let (stream, _) = self.listener.accept().unwrap();
                assert_eq!(receive(stream, &self.received).unwrap(), source.digest);
            });
            taken += begun.elapsed();
        }
        taken
    }
}

fn send(path: &std::path::Path, mut stream: TcpStream) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..read])?;
    }
}

fn receive(mut stream: TcpStream, path: &std::path::Path) -> io::Result<Digest> {
    let mut file = File::create(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            file.sync_all()?;
            return Ok(Digest::finish(hasher));
        }
        hasher.update(&buffer[..read]);
        file.write_all(&buffer[..read])?;
    }
}
