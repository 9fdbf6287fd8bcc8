//! dual16's own server and client, on the code of their binaries.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use dual16::api::{Client, ConnectOptions, SourceBlob};
use dual16_proto::v1::Artifact;
use dual16_server::{RunningServer, ServerOptions};
use tokio::net::TcpListener;

use crate::Source;

pub(crate) struct Served {
    _server: RunningServer,
    client: Client,
    data: PathBuf,
    out: PathBuf,
}

impl Served {
    pub(crate) async fn start(source: &Source) -> Self {
        let data = source.folder.path().join("server");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server = dual16_server::start(ServerOptions::new(&data), listener)
            .await
            .unwrap();
        let url = format!("http://{}", server.addr());
        let client = Client::connect(ConnectOptions::new(url)).await.unwrap();
        Self {
            _server: server,
            client,
            data,
            out: source.folder.path().join("out"),
        }
    }

    pub(crate) async fn upload(&self, source: &Source, times: u64) -> Duration {
        let blob = SourceBlob {
            path: source.path.clone(),
            digest: source.digest.to_string(),
            size: source.size,
        };
        let mut taken = Duration::ZERO;
        for _ in 0..times {
            forget(&self.data, &source.digest.hex());
            let begun = Instant::now();
            self.client.upload(&blob, &|_| {}).await.unwrap();
            taken += begun.elapsed();
        }
        taken
    }

    pub(crate) async fn download(&self, source: &Source, times: u64) -> Duration {
        let blob = SourceBlob {
            path: source.path.clone(),
            digest: source.digest.to_string(),
            size: source.size,
        };
        self.client.upload(&blob, &|_| {}).await.unwrap();
        let artifact = Artifact {
            name: "blob".to_owned(),
            digest: source.digest.to_string(),
            size: source.size,
        };
        let artifacts = [artifact];
        let mut taken = Duration::ZERO;
        for _ in 0..times {
            let _ = fs::remove_file(self.out.join("blob"));
            let begun = Instant::now();
            let fetched = self.client.fetch(&artifacts, &self.out, &|_| {}).await;
            assert_eq!(fetched.unwrap().len(), 1);
            taken += begun.elapsed();
        }
        taken
    }
}

/// Takes a blob away from a server that is not using it.
fn forget(data: &Path, hex: &str) {
    let (shard, name) = hex.split_at(2);
    let _ = fs::remove_file(data.join("blobs/sha256").join(shard).join(name));
}
