//! A server in a temporary folder, workers for it, and a job that the server accepts.

use std::{
    net::SocketAddr,
    num::NonZeroUsize,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use dual16_proto::{
    digest::Digest,
    v1::{
        CreateJobRequest, DownloadRequest, EventDetail, GetJobRequest, InputFile, Job, JobSpec,
        JobState, Lease, Notice, OnnxModel, UploadRequest, WatchJobRequest,
        blob_service_client::BlobServiceClient, event_detail::Detail,
        job_service_client::JobServiceClient, job_spec,
    },
};
use dual16_quant::flow::FileRef;
use dual16_server::{RunningServer, ServerOptions, job::Backoff};
use dual16_worker::{
    Blobs, Control, Next, QueuedStage, RunningWorker, TaskError, TaskOutput, TaskRunner,
    WorkerOptions,
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::transport::Channel;

/// Nothing in these tests takes longer, on a busy machine neither.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Short, so that renewal and revocation happen within a test.
pub(crate) const LEASE_TTL: Duration = Duration::from_millis(600);

pub(crate) struct Cluster {
    dir: TempDir,
    pub(crate) addr: SocketAddr,
    lease_ttl: Duration,
    server: Option<RunningServer>,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::leasing_for(LEASE_TTL).await
    }

    pub(crate) async fn leasing_for(lease_ttl: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut cluster = Self {
            dir: tempfile::tempdir().unwrap(),
            addr,
            lease_ttl,
            server: None,
        };
        cluster.serve(listener).await;
        cluster
    }

    pub(crate) async fn stop_server(&mut self) {
        let server = self.server.take().unwrap();
        server.shutdown(Duration::from_millis(200)).await;
    }

    /// A new server on the old address and data.
    pub(crate) async fn start_server(&mut self) {
        let listener = TcpListener::bind(self.addr).await.unwrap();
        self.serve(listener).await;
    }

    async fn serve(&mut self, listener: TcpListener) {
        let mut options = ServerOptions::new(self.dir.path().join("server"));
        options.lease_ttl = self.lease_ttl;
        options.backoff = Backoff::NONE;
        self.server = Some(dual16_server::start(options, listener).await.unwrap());
    }

    pub(crate) fn options(&self, name: &str, runner: impl TaskRunner + 'static) -> WorkerOptions {
        let two = NonZeroUsize::new(2).unwrap();
        let cache = self.dir.path().join(name);
        WorkerOptions {
            name: name.to_owned(),
            slots: two,
            threads: two,
            connect_timeout: Some(PATIENCE),
            runner: Some(Arc::new(runner)),
            ..WorkerOptions::new(format!("http://{}", self.addr), cache)
        }
    }

    pub(crate) async fn worker(
        &self,
        name: &str,
        runner: impl TaskRunner + 'static,
    ) -> RunningWorker {
        dual16_worker::start(self.options(name, runner))
            .await
            .unwrap()
    }

    async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.addr)).unwrap();
        endpoint.connect().await.unwrap()
    }

    pub(crate) async fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.channel().await)
    }

    /// Queues a job over two small blobs and returns its name.
    pub(crate) async fn create_job(&self) -> String {
        self.create_job_over(b"a model").await
    }

    /// The same with these bytes as its model.
    pub(crate) async fn create_job_over(&self, model: &[u8]) -> String {
        let mut files = Vec::new();
        for (name, bytes) in [("model.onnx", model), ("000.npz", b"a batch")] {
            files.push(self.upload(name, bytes).await);
        }
        let [model, batch] = <[InputFile; 2]>::try_from(files).unwrap();
        let onnx = OnnxModel {
            model: Some(model),
            external_data: Vec::new(),
        };
        let spec = JobSpec {
            model: Some(job_spec::Model::Onnx(onnx)),
            calibration: vec![batch],
            ..JobSpec::default()
        };
        let request = CreateJobRequest {
            spec: Some(spec),
            ..CreateJobRequest::default()
        };
        self.jobs()
            .await
            .create_job(request)
            .await
            .unwrap()
            .into_inner()
            .name
    }

    async fn upload(&self, name: &str, bytes: &[u8]) -> InputFile {
        let digest = digest(bytes);
        let size = bytes.len() as u64;
        let message = UploadRequest {
            digest: digest.clone(),
            size,
            offset: 0,
            data: bytes.to_vec().into(),
        };
        let mut blobs = BlobServiceClient::new(self.channel().await);
        blobs.upload(tokio_stream::once(message)).await.unwrap();
        InputFile {
            name: name.to_owned(),
            digest,
            size,
        }
    }

    pub(crate) async fn download(&self, digest: &str) -> Vec<u8> {
        let request = DownloadRequest {
            digest: digest.to_owned(),
            offset: 0,
            accept_url: false,
        };
        let mut blobs = BlobServiceClient::new(self.channel().await);
        let mut stream = blobs.download(request).await.unwrap().into_inner();
        let mut bytes = Vec::new();
        while let Some(message) = stream.message().await.unwrap() {
            bytes.extend_from_slice(&message.data);
        }
        bytes
    }

    /// Watches a job to its end; returns it, and its events.
    pub(crate) async fn ended(&self, job: &str) -> (Job, Vec<Detail>) {
        let mut jobs = self.jobs().await;
        let watch = async {
            let request = WatchJobRequest {
                name: job.to_owned(),
                after_sequence: 0,
            };
            let mut stream = jobs.watch_job(request).await.unwrap().into_inner();
            let mut events = Vec::new();
            while let Some(event) = stream.message().await.unwrap() {
                events.push(event.detail.unwrap().detail.unwrap());
            }
            let request = GetJobRequest {
                name: job.to_owned(),
            };
            (jobs.get_job(request).await.unwrap().into_inner(), events)
        };
        tokio::time::timeout(PATIENCE, watch)
            .await
            .expect("the job did not end in time")
    }

    /// As [`ended`](Self::ended), for a job that must succeed without a single retry.
    pub(crate) async fn succeeded_at_once(&self, job: &str) -> (Job, Vec<Detail>) {
        let (job, events) = self.ended(job).await;
        assert_eq!(job.state(), JobState::Succeeded, "{:?}", job.error);
        let retried = events
            .iter()
            .find(|event| matches!(event, Detail::TaskRetried(_)));
        assert_eq!(retried, None);
        (job, events)
    }
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

/// What a scripted task sees.
pub(crate) struct Task<'a> {
    pub(crate) lease: &'a Lease,
    pub(crate) spec: &'a JobSpec,
    pub(crate) payload: &'a [u8],
    pub(crate) inputs: &'a [Vec<u8>],
    pub(crate) blobs: &'a dyn Blobs,
    pub(crate) control: &'a dyn Control,
}

/// A runner made of a closure.
pub(crate) struct Script<F>(pub(crate) F);

impl<F> TaskRunner for Script<F>
where
    F: Fn(Task<'_>) -> Result<TaskOutput, TaskError> + Send + Sync,
{
    fn run(
        &self,
        lease: &Lease,
        spec: &Arc<JobSpec>,
        payload: &[u8],
        inputs: &[Vec<u8>],
        blobs: &dyn Blobs,
        control: &dyn Control,
    ) -> Result<TaskOutput, TaskError> {
        (self.0)(Task {
            lease,
            spec,
            payload,
            inputs,
            blobs,
            control,
        })
    }
}

pub(crate) fn stage(name: &str, maps: Vec<Vec<u8>>) -> TaskOutput {
    let next = QueuedStage {
        name: name.to_owned(),
        maps,
        reduce: Vec::new(),
        seconds: 0,
    };
    TaskOutput {
        next: Some(Next::Stage(next)),
        ..TaskOutput::default()
    }
}

pub(crate) fn finish(files: Vec<FileRef>) -> TaskOutput {
    TaskOutput {
        next: Some(Next::Finish(files)),
        ..TaskOutput::default()
    }
}

pub(crate) fn notice(code: &str) -> EventDetail {
    EventDetail {
        detail: Some(Detail::Notice(Notice {
            code: code.to_owned(),
            ..Notice::default()
        })),
    }
}

/// A door that scripted tasks wait at, and that tells when one has come.
#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gate {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Called by a task.
    pub(crate) fn wait(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 += 1;
        self.changed.notify_all();
        let open = |state: &mut (usize, bool)| !state.1;
        let (_state, timeout) = self
            .changed
            .wait_timeout_while(state, PATIENCE * 2, open)
            .unwrap();
        assert!(!timeout.timed_out(), "the gate was never opened");
    }

    /// Waits until so many tasks have come.
    pub(crate) async fn arrived(self: &Arc<Self>, tasks: usize) {
        let gate = Arc::clone(self);
        let come = tokio::task::spawn_blocking(move || {
            let state = gate.state.lock().unwrap();
            let missing = |state: &mut (usize, bool)| state.0 < tasks;
            gate.changed
                .wait_timeout_while(state, PATIENCE, missing)
                .unwrap()
                .1
                .timed_out()
        });
        assert!(!come.await.unwrap(), "no {tasks} tasks came to the gate");
    }

    pub(crate) fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
}
