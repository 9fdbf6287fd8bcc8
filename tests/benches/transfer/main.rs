//! A blob over loopback, from a file to a file, checked by SHA-256 and synced to the disk: dual16's
//! own server and client between a bound and a naive counterpart, all in one run.
//!
//! - `tcp`: the bound. What any transfer has to do, and nothing else: read, send, receive, hash,
//!   write, sync, over a plain socket.
//! - `dual16`: the server and the client as they are.
//! - `naive`: gRPC as one writes it first: 64 KiB messages, the transport's default windows, each
//!   piece awaited before the next.
//!
//! Every transfer is of a blob that the receiving side does not have.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what criterion's macros make; and a bench that cannot run says so by a panic"
)]

mod naive;
mod served;
mod tcp;

use std::{fs, path::PathBuf, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dual16_proto::digest::Digest;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// Bytes of the blob: a small model, and far more than all windows and queues hold together.
const BLOB_BYTES: usize = 64 << 20;

/// The file that is sent, and a folder for what arrives.
struct Source {
    folder: TempDir,
    path: PathBuf,
    digest: Digest,
    size: u64,
}

impl Source {
    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("source");
        let bytes = noise(BLOB_BYTES);
        fs::write(&path, &bytes).unwrap();
        let digest = Digest::of(&bytes);
        Self {
            folder,
            path,
            digest,
            size: bytes.len() as u64,
        }
    }

    fn new_file(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        // Left by the transfer before; a new file is written as one, not over old pages.
        let _ = fs::remove_file(&path);
        path
    }
}

/// Bytes that no layer could make smaller.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    (0..len / 8)
        .flat_map(|_| {
            // xorshift64, Marsaglia (2003).
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .collect()
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().enable_all().build().unwrap()
}

fn transfers(criterion: &mut Criterion) {
    let (runtime, source) = (runtime(), Source::make());
    let tcp = runtime.block_on(tcp::Peer::start(&source));
    let served = runtime.block_on(served::Served::start(&source));
    let naive = runtime.block_on(naive::Naive::start(&source));

    let mut group = criterion.benchmark_group("upload");
    group.throughput(Throughput::Bytes(source.size));
    group.bench_function("tcp", |bench| {
        bench.iter_custom(|times| tcp.transfer(&source, times));
    });
    group.bench_function("dual16", |bench| {
        bench.iter_custom(|times| runtime.block_on(served.upload(&source, times)));
    });
    group.bench_function("naive", |bench| {
        bench.iter_custom(|times| runtime.block_on(naive.upload(&source, times)));
    });
    group.finish();

    let mut group = criterion.benchmark_group("download");
    group.throughput(Throughput::Bytes(source.size));
    group.bench_function("tcp", |bench| {
        bench.iter_custom(|times| tcp.transfer(&source, times));
    });
    group.bench_function("dual16", |bench| {
        bench.iter_custom(|times| runtime.block_on(served.download(&source, times)));
    });
    group.bench_function("naive", |bench| {
        bench.iter_custom(|times| runtime.block_on(naive.download(&source, times)));
    });
    group.finish();
}

fn settings() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(4))
}

criterion_group! { name = benches; config = settings(); targets = transfers }
criterion_main!(benches);
