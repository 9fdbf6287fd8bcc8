//! gRPC as one writes it first: 64 KiB messages, default windows, every piece read, sent, hashed and
//! written in turn through tokio's own files.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    pin::Pin,
    time::{Duration, Instant},
};

use dual16_proto::{
    digest::Digest,
    v1::{
        DownloadRequest, DownloadResponse, FindMissingRequest, FindMissingResponse,
        QueryUploadRequest, QueryUploadResponse, UploadRequest, UploadResponse,
        blob_service_client::BlobServiceClient,
        blob_service_server::{BlobService, BlobServiceServer},
    },
};
use sha2::{Digest as _, Sha256};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Server, server::TcpIncoming},
};

use crate::Source;

const PIECE_BYTES: usize = 64 << 10;

pub(crate) struct Naive {
    client: BlobServiceClient<Channel>,
}

impl Naive {
    pub(crate) async fn start(source: &Source) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let service = NaiveService {
            source: source.path.clone(),
            received: source.folder.path().join("naive"),
        };
        let router = Server::builder().add_service(BlobServiceServer::new(service));
        tokio::spawn(router.serve_with_incoming(TcpIncoming::from(listener)));
        let client = BlobServiceClient::connect(url).await.unwrap();
        Self { client }
    }

    pub(crate) async fn upload(&self, source: &Source, times: u64) -> Duration {
        let mut taken = Duration::ZERO;
        for _ in 0..times {
            source.new_file("naive");
            let begun = Instant::now();
            let (sender, messages) = mpsc::channel(1);
            tokio::spawn(send(source.path.clone(), source.digest, sender));
            let mut client = self.client.clone();
            let stored = client.upload(ReceiverStream::new(messages)).await.unwrap();
            taken += begun.elapsed();
            assert_eq!(stored.into_inner().size, source.size);
        }
        taken
    }

    pub(crate) async fn download(&self, source: &Source, times: u64) -> Duration {
        let mut taken = Duration::ZERO;
        for _ in 0..times {
            let path = source.new_file("naive");
            let begun = Instant::now();
            let mut receiver = Receiver::create(&path).await;
            let request = DownloadRequest {
                digest: source.digest.to_string(),
                offset: 0,
                accept_url: false,
            };
            let mut client = self.client.clone();
            let mut messages = client.download(request).await.unwrap().into_inner();
            while let Some(message) = messages.message().await.unwrap() {
                receiver.take(&message.data).await;
            }
            let (digest, _) = receiver.finish().await;
            taken += begun.elapsed();
            assert_eq!(digest, source.digest);
        }
        taken
    }
}

/// A blob that arrives.
struct Receiver {
    file: File,
    hasher: Sha256,
    size: u64,
}

impl Receiver {
    async fn create(path: &Path) -> Self {
        Self {
            file: File::create(path).await.unwrap(),
            hasher: Sha256::new(),
            size: 0,
        }
    }

    async fn take(&mut self, data: &[u8]) {
        self.file.write_all(data).await.unwrap();
        self.hasher.update(data);
        self.size += data.len() as u64;
    }

    async fn finish(mut self) -> (Digest, u64) {
        self.file.flush().await.unwrap();
        self.file.sync_all().await.unwrap();
        (Digest::finish(self.hasher), self.size)
    }
}

async fn pieces(path: PathBuf) -> mpsc::Receiver<Vec<u8>> {
    let (sender, pieces) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut file = File::open(path).await.unwrap();
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            let read = file.read(&mut piece).await.unwrap();
            piece.truncate(read);
            if read == 0 || sender.send(piece).await.is_err() {
                return;
            }
        }
    });
    pieces
}

async fn send(path: PathBuf, digest: Digest, sender: mpsc::Sender<UploadRequest>) {
    let mut pieces = pieces(path).await;
    while let Some(piece) = pieces.recv().await {
        let message = UploadRequest {
            digest: digest.to_string(),
            data: piece.into(),
            ..UploadRequest::default()
        };
        if sender.send(message).await.is_err() {
            return;
        }
    }
}

struct NaiveService {
    source: PathBuf,
    received: PathBuf,
}

#[tonic::async_trait]
impl BlobService for NaiveService {
    type DownloadStream = Pin<Box<dyn Stream<Item = Result<DownloadResponse, Status>> + Send>>;

    async fn upload(
        &self,
        request: Request<Streaming<UploadRequest>>,
    ) -> Result<Response<UploadResponse>, Status> {
        let mut messages = request.into_inner();
        let mut receiver = Receiver::create(&self.received).await;
        let mut named = String::new();
        while let Some(message) = messages.message().await? {
            receiver.take(&message.data).await;
            named = message.digest;
        }
        let (digest, size) = receiver.finish().await;
        if digest.to_string() != named {
            return Err(Status::data_loss("other bytes than named"));
        }
        Ok(Response::new(UploadResponse { size }))
    }

    async fn download(
        &self,
        _: Request<DownloadRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        use tokio_stream::StreamExt as _;
        let pieces = pieces(self.source.clone()).await;
        let messages = ReceiverStream::new(pieces).map(|piece| {
            Ok(DownloadResponse {
                size: 0,
                data: piece.into(),
                url: String::new(),
            })
        });
        Ok(Response::new(Box::pin(messages)))
    }

    async fn find_missing(
        &self,
        _: Request<FindMissingRequest>,
    ) -> Result<Response<FindMissingResponse>, Status> {
        Err(Status::unimplemented("not a part of the comparison"))
    }

    async fn query_upload(
        &self,
        _: Request<QueryUploadRequest>,
    ) -> Result<Response<QueryUploadResponse>, Status> {
        Err(Status::unimplemented("not a part of the comparison"))
    }
}
