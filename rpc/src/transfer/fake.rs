//! For tests: a blob service of one blob that misbehaves on demand, as a real one does too rarely.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use dual16_proto::{
    digest::Digest,
    v1::{
        DownloadRequest, DownloadResponse, FindMissingRequest, FindMissingResponse,
        QueryUploadRequest, QueryUploadResponse, UploadRequest, UploadResponse,
        blob_service_server::{BlobService, BlobServiceServer},
    },
};
use tokio::net::TcpListener;
use tokio_stream::Stream;
use tonic::{
    Code, Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    Address, Connection, Delays, Policy, Retrying, credentials::Credentials, is_transient,
};

/// Size of the pieces that uploads and downloads move in these tests.
pub(crate) const CHUNK: usize = 1000;

/// How the service misbehaves; the default is not at all.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Fault {
    #[default]
    None,
    /// Every stream breaks with UNAVAILABLE after so many bytes.
    Break(usize),
    /// Every download ends after so many bytes of the blob as if that were all.
    EndAt(usize),
    /// A byte is wrong.
    Corrupt,
    /// There is no room for an upload.
    Full,
    /// What was kept of an upload is gone when it goes on.
    Lost,
}

/// What the service holds and has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Offset of each download.
    pub(crate) downloads: Vec<u64>,
    /// Offset of each upload.
    pub(crate) uploads: Vec<u64>,
    /// Digest that the upload is to have.
    pub(crate) named: String,
    /// Bytes kept of the upload.
    pub(crate) kept: Vec<u8>,
    /// The upload is whole.
    pub(crate) complete: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct FakeBlobs {
    blob: Arc<Vec<u8>>,
    fault: Fault,
    pub(crate) seen: Arc<Mutex<Seen>>,
}

impl FakeBlobs {
    /// Serves `blob` for downloads; the connection is to it.
    pub(crate) async fn serve(blob: Vec<u8>, fault: Fault) -> (Self, Connection) {
        let fake = Self {
            blob: Arc::new(blob),
            fault,
            seen: Arc::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Server::builder().add_service(BlobServiceServer::new(fake.clone()));
        tokio::spawn(router.serve_with_incoming(TcpIncoming::from(listener)));
        let address = Address::new(&url, &Credentials::default(), || None).unwrap();
        let mut connection = Connection::new(&address, Arc::new(Brief));
        connection.chunk_bytes = CHUNK;
        (fake, connection)
    }
}

/// Bears an absence for long, and a full server for a moment.
#[derive(Debug)]
struct Brief;

impl Policy for Brief {
    fn patience(&self, status: &Status) -> Option<Duration> {
        let full = status.code() == Code::ResourceExhausted;
        let borne = Duration::from_millis(if full { 50 } else { 60_000 });
        is_transient(status).then_some(borne)
    }

    fn delays(&self) -> Delays {
        let first = Duration::from_millis(10);
        Delays {
            first,
            longest: first,
        }
    }

    fn retrying(&self, _: &Retrying<'_>) {}
}

#[tonic::async_trait]
impl BlobService for FakeBlobs {
    type DownloadStream = Pin<Box<dyn Stream<Item = Result<DownloadResponse, Status>> + Send>>;

    async fn find_missing(
        &self,
        _: Request<FindMissingRequest>,
    ) -> Result<Response<FindMissingResponse>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn query_upload(
        &self,
        _: Request<QueryUploadRequest>,
    ) -> Result<Response<QueryUploadResponse>, Status> {
        let seen = self.seen.lock().unwrap();
        Ok(Response::new(QueryUploadResponse {
            committed: seen.kept.len() as u64,
            complete: seen.complete,
        }))
    }

    async fn upload(
        &self,
        request: Request<Streaming<UploadRequest>>,
    ) -> Result<Response<UploadResponse>, Status> {
        let mut stream = request.into_inner();
        if matches!(self.fault, Fault::Full) {
            self.seen.lock().unwrap().uploads.push(0);
            let mut details = ErrorDetails::new();
            details.set_error_info("QUOTA_EXCEEDED", "dual16", HashMap::new());
            details.set_retry_info(Some(Duration::from_millis(10)));
            let full = Code::ResourceExhausted;
            return Err(Status::with_error_details(full, "no room", details));
        }
        let (mut size, mut taken) = (0, 0);
        while let Some(message) = stream.message().await? {
            let mut seen = self.seen.lock().unwrap();
            if !message.digest.is_empty() {
                size = message.size;
                if matches!(self.fault, Fault::Lost) && message.offset > 0 {
                    seen.uploads.push(message.offset);
                    seen.kept.clear();
                    return Err(Status::out_of_range("less is kept"));
                }
                seen.uploads.push(message.offset);
                seen.named = message.digest;
                seen.kept.truncate(message.offset as usize);
            }
            taken += message.data.len();
            seen.kept.extend_from_slice(&message.data);
            if matches!(self.fault, Fault::Break(limit) if taken >= limit) {
                return Err(Status::unavailable("broken off"));
            }
        }
        let mut seen = self.seen.lock().unwrap();
        if Digest::of(&seen.kept).to_string() != seen.named {
            seen.kept.clear();
            return Err(Status::data_loss("the bytes are others"));
        }
        seen.complete = true;
        Ok(Response::new(UploadResponse { size }))
    }

    async fn download(
        &self,
        request: Request<DownloadRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        let offset = request.into_inner().offset;
        self.seen.lock().unwrap().downloads.push(offset);
        let mut rest = self
            .blob
            .get(offset as usize..)
            .unwrap_or_default()
            .to_vec();
        let mut broken = false;
        match self.fault {
            Fault::None | Fault::Full | Fault::Lost => {}
            Fault::Break(limit) => {
                broken = rest.len() > limit;
                rest.truncate(limit);
            }
            Fault::EndAt(end) => rest.truncate(end.saturating_sub(offset as usize)),
            Fault::Corrupt => rest[0] ^= 1,
        }
        let size = self.blob.len() as u64;
        let mut messages = vec![Ok(DownloadResponse {
            size,
            ..DownloadResponse::default()
        })];
        messages.extend(rest.chunks(CHUNK).map(|data| {
            Ok(DownloadResponse {
                size: 0,
                data: data.to_vec().into(),
                url: String::new(),
            })
        }));
        if broken {
            messages.push(Err(Status::unavailable("broken off")));
        }
        Ok(Response::new(Box::pin(tokio_stream::iter(messages))))
    }
}
