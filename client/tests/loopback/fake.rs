//! A server in memory that keeps the API's promises and writes down what it was asked. What a job
//! does is scripted: it has ended as soon as it is created, and its events are there.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use dual16_proto::digest::Digest;
use dual16_proto::v1::{
    blob_service_server::{BlobService, BlobServiceServer},
    info_service_server::{InfoService, InfoServiceServer},
    job_service_server::{JobService, JobServiceServer},
    *,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

pub(crate) const JOB: &str = "jobs/1";

/// What the server has and what it was asked.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) blobs: HashMap<String, Vec<u8>>,
    pub(crate) partial: HashMap<String, Vec<u8>>,
    /// The one job, as it is once created.
    pub(crate) job: Job,
    pub(crate) events: Vec<JobEvent>,
    /// Ends the next watch politely after so many events, though there are more.
    pub(crate) end_watch_after: Option<usize>,
    /// The next watches bring nothing, and break after so long.
    pub(crate) silences: VecDeque<Duration>,
    /// The next RetryJob and DeleteJob do their work, but the answer is lost.
    pub(crate) lose_next_answer: bool,
    pub(crate) deleted: bool,
    /// Keeps watches open after the last event.
    pub(crate) job_goes_on: bool,
    pub(crate) created: Vec<CreateJobRequest>,
    pub(crate) cancelled: bool,
    /// after_sequence of each watch.
    pub(crate) watches: Vec<u64>,
    /// Offset of each download and of each upload.
    pub(crate) downloads: Vec<u64>,
    pub(crate) uploads: Vec<u64>,
}

impl State {
    /// Lets an answer through, unless it is the one to be lost.
    fn answer(&mut self) -> Result<(), Status> {
        match std::mem::take(&mut self.lose_next_answer) {
            true => Err(Status::unavailable("the answer is lost")),
            false => Ok(()),
        }
    }
}

/// A running fake server.
pub(crate) struct Fake {
    pub(crate) addr: SocketAddr,
    shared: Shared,
    serving: JoinHandle<()>,
}

#[derive(Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<State>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Shared::default();
        let router = Server::builder()
            .add_service(InfoServiceServer::new(shared.clone()))
            .add_service(BlobServiceServer::new(shared.clone()))
            .add_service(JobServiceServer::new(shared.clone()));
        let serving = tokio::spawn(async move {
            router
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .unwrap();
        });
        Self {
            addr,
            shared,
            serving,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    /// Stores a blob and makes it an artifact of the job.
    pub(crate) fn add_artifact(&self, name: &str, bytes: &[u8]) -> Artifact {
        let digest = digest_of(bytes);
        let artifact = Artifact {
            name: name.to_owned(),
            digest: digest.clone(),
            size: bytes.len() as u64,
        };
        let mut state = self.state();
        state.blobs.insert(digest, bytes.to_vec());
        state.job.artifacts.push(artifact.clone());
        artifact
    }

    /// Scripts the job's events; the last one says how it ended.
    pub(crate) fn script(&self, details: Vec<event_detail::Detail>, state: JobState) {
        let ended = event_detail::Detail::StateChanged(StateChanged {
            state: state.into(),
            ..StateChanged::default()
        });
        let events = details
            .into_iter()
            .chain([ended])
            .zip(1..)
            .map(|(detail, sequence)| JobEvent {
                sequence,
                time: None,
                detail: Some(EventDetail {
                    detail: Some(detail),
                }),
            });
        let mut shared = self.state();
        shared.events = events.collect();
        shared.job.name = JOB.to_owned();
        shared.job.state = state.into();
        shared.job.last_sequence = shared.events.len() as u64;
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

pub(crate) fn digest_of(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

#[tonic::async_trait]
impl InfoService for Shared {
    async fn get_info(
        &self,
        _: Request<GetInfoRequest>,
    ) -> Result<Response<GetInfoResponse>, Status> {
        let limits = HashMap::from([("chunk_bytes".to_owned(), 1 << 20)]);
        Ok(Response::new(GetInfoResponse {
            version: "9.9.9".to_owned(),
            limits,
            ..GetInfoResponse::default()
        }))
    }
}

#[tonic::async_trait]
impl BlobService for Shared {
    type DownloadStream = ReceiverStream<Result<DownloadResponse, Status>>;

    async fn find_missing(
        &self,
        request: Request<FindMissingRequest>,
    ) -> Result<Response<FindMissingResponse>, Status> {
        let state = self.lock();
        let mut missing = request.into_inner().digests;
        missing.retain(|digest| !state.blobs.contains_key(digest));
        Ok(Response::new(FindMissingResponse { missing }))
    }

    async fn query_upload(
        &self,
        request: Request<QueryUploadRequest>,
    ) -> Result<Response<QueryUploadResponse>, Status> {
        let digest = request.into_inner().digest;
        let state = self.lock();
        let complete = state.blobs.get(&digest);
        let kept = complete.or(state.partial.get(&digest)).map_or(0, Vec::len);
        let complete = complete.is_some();
        Ok(Response::new(QueryUploadResponse {
            committed: kept as u64,
            complete,
        }))
    }

    async fn upload(
        &self,
        request: Request<Streaming<UploadRequest>>,
    ) -> Result<Response<UploadResponse>, Status> {
        let mut messages = request.into_inner();
        let first = messages
            .message()
            .await?
            .ok_or(Status::invalid_argument("empty"))?;
        let (digest, size) = (first.digest.clone(), first.size);
        {
            let mut state = self.lock();
            state.uploads.push(first.offset);
            let kept = state.partial.entry(digest.clone()).or_default();
            if first.offset > kept.len() as u64 {
                return Err(Status::out_of_range("beyond what is kept"));
            }
            kept.truncate(first.offset as usize);
        }
        let mut message = Some(first);
        while let Some(UploadRequest { data, .. }) = message {
            if data.len() > 1 << 20 {
                return Err(Status::invalid_argument("a chunk above 1 MiB"));
            }
            self.lock()
                .partial
                .entry(digest.clone())
                .or_default()
                .extend_from_slice(&data);
            message = messages.message().await?;
        }
        let mut state = self.lock();
        let bytes = state.partial.remove(&digest).unwrap_or_default();
        if digest_of(&bytes) != digest {
            return Err(Status::data_loss("the bytes do not match the digest"));
        }
        state.blobs.insert(digest, bytes);
        Ok(Response::new(UploadResponse { size }))
    }

    async fn download(
        &self,
        request: Request<DownloadRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        let DownloadRequest { digest, offset, .. } = request.into_inner();
        let mut state = self.lock();
        state.downloads.push(offset);
        let blob = state
            .blobs
            .get(&digest)
            .ok_or(Status::not_found("no such blob"))?
            .clone();
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            let size = blob.len() as u64;
            for chunk in blob[offset as usize..].chunks(256 << 10) {
                let message = DownloadResponse {
                    size,
                    data: chunk.to_vec().into(),
                    url: String::new(),
                };
                if sender.send(Ok(message)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

#[tonic::async_trait]
impl JobService for Shared {
    type WatchJobStream = ReceiverStream<Result<JobEvent, Status>>;

    async fn create_job(
        &self,
        request: Request<CreateJobRequest>,
    ) -> Result<Response<Job>, Status> {
        let request = request.into_inner();
        let mut state = self.lock();
        if request.validate_only {
            return Ok(Response::new(Job::default()));
        }
        state.created.push(request);
        Ok(Response::new(state.job.clone()))
    }

    async fn get_job(&self, request: Request<GetJobRequest>) -> Result<Response<Job>, Status> {
        match request.into_inner().name.as_str() {
            JOB => Ok(Response::new(self.lock().job.clone())),
            other => Err(Status::not_found(format!("{other} does not exist"))),
        }
    }

    async fn list_jobs(
        &self,
        _: Request<ListJobsRequest>,
    ) -> Result<Response<ListJobsResponse>, Status> {
        let jobs = vec![self.lock().job.clone()];
        Ok(Response::new(ListJobsResponse {
            jobs,
            next_page_token: String::new(),
        }))
    }

    async fn cancel_job(&self, _: Request<CancelJobRequest>) -> Result<Response<Job>, Status> {
        let mut state = self.lock();
        state.cancelled = true;
        state.job.state = JobState::Cancelled.into();
        Ok(Response::new(state.job.clone()))
    }

    async fn retry_job(&self, _: Request<RetryJobRequest>) -> Result<Response<Job>, Status> {
        let mut state = self.lock();
        if matches!(state.job.state(), JobState::Pending | JobState::Running) {
            return Err(Status::failed_precondition("it has not ended"));
        }
        // A job's end is scripted: only the test of repeats sees it begin again.
        if state.lose_next_answer {
            state.job.state = JobState::Pending.into();
        }
        state.answer()?;
        Ok(Response::new(state.job.clone()))
    }

    async fn delete_job(&self, _: Request<DeleteJobRequest>) -> Result<Response<()>, Status> {
        let mut state = self.lock();
        if std::mem::replace(&mut state.deleted, true) {
            return Err(Status::not_found("no such job"));
        }
        state.answer()?;
        Ok(Response::new(()))
    }

    async fn watch_job(
        &self,
        request: Request<WatchJobRequest>,
    ) -> Result<Response<Self::WatchJobStream>, Status> {
        let after = request.into_inner().after_sequence;
        let mut state = self.lock();
        state.watches.push(after);
        if let Some(silence) = state.silences.pop_front() {
            let (sender, receiver) = tokio::sync::mpsc::channel(1);
            tokio::spawn(async move {
                tokio::time::sleep(silence).await;
                // The client may have gone.
                let _ = sender.send(Err(Status::unavailable("cut"))).await;
            });
            return Ok(Response::new(ReceiverStream::new(receiver)));
        }
        let wanted = |event: &&JobEvent| event.sequence > after;
        let mut events: Vec<_> = state.events.iter().filter(wanted).cloned().collect();
        if let Some(count) = state.end_watch_after.take() {
            events.truncate(count);
        }
        let stays_open = state.job_goes_on;
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            for event in events {
                if sender.send(Ok(event)).await.is_err() {
                    return;
                }
            }
            if stays_open {
                sender.closed().await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
