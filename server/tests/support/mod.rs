//! A server in process, clients over loopback, and a fake worker that computes nothing.

#![allow(dead_code, reason = "every test binary uses its own part of this")]

use std::{fs, path::Path, sync::Arc, time::Duration};

use dual16_proto::v1::{
    self, blob_service_client::BlobServiceClient, complete_request::Next,
    info_service_client::InfoServiceClient, job_service_client::JobServiceClient, payload::Kind,
    worker_service_client::WorkerServiceClient,
};
use dual16_server::{
    RunningServer, ServerOptions,
    clock::{ManualClock, Timestamp},
    digest::Digest,
    job::Backoff,
    limits::Limits,
    start,
    upkeep::Keeping,
};
use sqlx::Connection as _;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::{Code, Request, Response, Status, Streaming, client::Grpc, transport::Channel};
use tonic_prost::ProstCodec;
use tonic_types::{ErrorDetails, StatusExt as _};

pub(crate) struct TestServer {
    pub(crate) server: RunningServer,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) jobs: JobServiceClient<Channel>,
    pub(crate) blobs: BlobServiceClient<Channel>,
    pub(crate) workers: WorkerServiceClient<Channel>,
    pub(crate) info: InfoServiceClient<Channel>,
    folder: Option<TempDir>,
}

/// A server on a folder of its own, which goes with it.
pub(crate) async fn serve_new() -> TestServer {
    serve_limited(Limits::default()).await
}

pub(crate) async fn serve_limited(limits: Limits) -> TestServer {
    let folder = tempfile::tempdir().unwrap();
    let mut server = serve_with(folder.path(), limits).await;
    server.folder = Some(folder);
    server
}

pub(crate) async fn serve(data: &Path) -> TestServer {
    serve_with(data, Limits::default()).await
}

pub(crate) async fn serve_with(data: &Path, limits: Limits) -> TestServer {
    serve_keeping(data, limits, Keeping::default()).await
}

pub(crate) async fn serve_keeping(data: &Path, limits: Limits, keeping: Keeping) -> TestServer {
    serve_from(ServerOptions {
        limits,
        keeping,
        ..ServerOptions::new(data)
    })
    .await
}

/// A server with these options, but for its clock and its times.
pub(crate) async fn serve_from(options: ServerOptions) -> TestServer {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
    // The ticker runs in real time and often; the leases themselves live by the manual clock.
    let options = ServerOptions {
        lease_ttl: Duration::from_secs(1),
        backoff: Backoff::NONE,
        clock: clock.clone(),
        ..options
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = start(options, listener).await.unwrap();
    let channel = Channel::from_shared(format!("http://{}", server.addr())).unwrap();
    let channel = channel.connect().await.unwrap();
    TestServer {
        server,
        clock,
        jobs: JobServiceClient::new(channel.clone()),
        blobs: BlobServiceClient::new(channel.clone()),
        workers: WorkerServiceClient::new(channel.clone()),
        info: InfoServiceClient::new(channel),
        folder: None,
    }
}

impl TestServer {
    pub(crate) async fn upload(&self, data: &[u8]) -> v1::InputFile {
        upload(&self.blobs, data).await
    }

    /// A spec whose blobs are uploaded.
    pub(crate) async fn spec(&self) -> v1::JobSpec {
        uploaded_spec(&self.blobs).await
    }

    pub(crate) async fn create(&self, request_id: &str) -> v1::Job {
        let request = v1::CreateJobRequest {
            request_id: request_id.into(),
            ..submission(self.spec().await)
        };
        ok(self.jobs.clone().create_job(request)).await
    }

    pub(crate) async fn job(&self, name: &str) -> v1::Job {
        let request = v1::GetJobRequest { name: name.into() };
        ok(self.jobs.clone().get_job(request)).await
    }

    pub(crate) async fn lease(&self, max_tasks: u32, wait: Duration) -> Vec<v1::Lease> {
        let request = v1::LeaseRequest {
            worker: "fake".into(),
            max_tasks,
            max_wait: Some(wait.try_into().unwrap()),
            jobs: Vec::new(),
        };
        ok(self.workers.clone().lease(request)).await.leases
    }

    pub(crate) async fn lease_one(&self) -> v1::Lease {
        let mut leases = self.lease(1, Duration::from_secs(3)).await;
        leases.pop().expect("a task")
    }

    /// The spec of the job of a leased task.
    pub(crate) async fn job_spec(&self, lease: &v1::Lease) -> Result<v1::JobSpec, Status> {
        let lease = Some(lease_ref(lease));
        let request = v1::GetJobSpecRequest { lease };
        let answer = self.workers.clone().get_job_spec(request).await?;
        Ok(answer.into_inner().spec.unwrap())
    }

    pub(crate) async fn complete(&self, request: v1::CompleteRequest) -> Result<(), Status> {
        self.workers.clone().complete(request).await.map(|_| ())
    }

    /// Reports that a task failed.
    pub(crate) async fn fail(
        &self,
        lease: &v1::Lease,
        code: &str,
        message: &str,
        permanent: bool,
    ) -> Result<(), Status> {
        let request = v1::FailRequest {
            lease: Some(lease_ref(lease)),
            worker: "fake".into(),
            code: code.into(),
            message: message.into(),
            permanent,
        };
        self.workers.clone().fail(request).await.map(drop)
    }

    /// Begins to watch a job.
    pub(crate) async fn watching(
        &self,
        name: &str,
        after: u64,
    ) -> Result<Streaming<v1::JobEvent>, Status> {
        let request = v1::WatchJobRequest {
            name: name.into(),
            after_sequence: after,
        };
        let answer = self.jobs.clone().watch_job(request).await;
        answer.map(Response::into_inner)
    }

    /// Watches to the end of the stream.
    pub(crate) async fn watch(&self, name: &str, after: u64) -> Vec<v1::JobEvent> {
        let mut stream = self.watching(name, after).await.unwrap();
        let mut events = Vec::new();
        while let Some(event) = stream.message().await.unwrap() {
            events.push(event);
        }
        events
    }

    /// What is kept of an upload.
    pub(crate) async fn query(&self, digest: &str) -> v1::QueryUploadResponse {
        let digest = digest.into();
        ok(self
            .blobs
            .clone()
            .query_upload(v1::QueryUploadRequest { digest }))
        .await
    }

    /// Begins a download.
    pub(crate) async fn downloading(
        &self,
        digest: &str,
        offset: u64,
    ) -> Result<Streaming<v1::DownloadResponse>, Status> {
        let request = v1::DownloadRequest {
            digest: digest.into(),
            offset,
            accept_url: false,
        };
        let answer = self.blobs.clone().download(request).await;
        answer.map(Response::into_inner)
    }

    /// Does the next task as a worker would: plan -> 3 maps -> reduce -> finish.
    pub(crate) async fn work_once(&self) {
        let lease = self.lease_one().await;
        self.complete(do_task(&lease)).await.unwrap();
    }
}

/// The URL of tables of their own in the database that `./test` starts.
pub(crate) async fn database(test: &str) -> String {
    let server = std::env::var("DUAL16_TEST_POSTGRES").expect(
        "DUAL16_TEST_POSTGRES must be the URL of a PostgreSQL database for tests; ./test starts one",
    );
    let schema = format!("{test}_{}", uuid::Uuid::new_v4().simple());
    let mut connection = sqlx::PgConnection::connect(&server).await.unwrap();
    let create = sqlx::AssertSqlSafe(format!("CREATE SCHEMA {schema}"));
    sqlx::query(create).execute(&mut connection).await.unwrap();
    format!("{server}?options=-c%20search_path%3D{schema}")
}

pub(crate) async fn upload(blobs: &BlobServiceClient<Channel>, data: &[u8]) -> v1::InputFile {
    let digest = Digest::of(data).to_string();
    let message = v1::UploadRequest {
        digest: digest.clone(),
        size: data.len() as u64,
        offset: 0,
        data: data.to_vec().into(),
    };
    let stream = tokio_stream::once(message);
    blobs.clone().upload(stream).await.unwrap();
    v1::InputFile {
        name: String::new(),
        digest,
        size: data.len() as u64,
    }
}

/// A spec whose blobs are uploaded.
pub(crate) async fn uploaded_spec(blobs: &BlobServiceClient<Channel>) -> v1::JobSpec {
    let model = upload(blobs, b"model").await;
    let batch = upload(blobs, b"batch").await;
    let onnx = v1::OnnxModel {
        model: Some(v1::InputFile {
            name: "model.onnx".into(),
            ..model
        }),
        external_data: Vec::new(),
    };
    let file = |i| v1::InputFile {
        name: format!("calib/{i}.npz"),
        ..batch.clone()
    };
    v1::JobSpec {
        model: Some(v1::job_spec::Model::Onnx(onnx)),
        calibration: (0..3).map(file).collect(),
        ..v1::JobSpec::default()
    }
}

/// The request for a job of this spec.
pub(crate) fn submission(spec: v1::JobSpec) -> v1::CreateJobRequest {
    v1::CreateJobRequest {
        spec: Some(spec),
        ..v1::CreateJobRequest::default()
    }
}

pub(crate) fn inline(text: &str) -> v1::Payload {
    v1::Payload {
        kind: Some(Kind::Inline(text.as_bytes().to_vec())),
    }
}

pub(crate) fn lease_ref(lease: &v1::Lease) -> v1::LeaseRef {
    v1::LeaseRef {
        task: lease.task.clone(),
        lease_id: lease.lease_id.clone(),
        attempt: lease.attempt,
    }
}

pub(crate) fn completion(lease: &v1::Lease, result: &str) -> v1::CompleteRequest {
    v1::CompleteRequest {
        lease: Some(lease_ref(lease)),
        worker: "fake".into(),
        result: Some(inline(result)),
        ..v1::CompleteRequest::default()
    }
}

/// The fake worker's whole knowledge.
pub(crate) fn do_task(lease: &v1::Lease) -> v1::CompleteRequest {
    let next = match (lease.kind(), lease.stage.as_str()) {
        (v1::TaskKind::Map, _) => None,
        (_, "plan") => Some(Next::Stage(v1::Stage {
            name: "measure".into(),
            maps: (0..3).map(|i| inline(&format!("map {i}"))).collect(),
            reduce: Some(inline("reduce")),
            expected_seconds: 0,
        })),
        _ => Some(Next::Finish(v1::Finish::default())),
    };
    v1::CompleteRequest {
        next,
        ..completion(lease, &format!("result {}", lease.index))
    }
}

/// What a call answers, which must not be refused.
pub(crate) async fn ok<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> T {
    call.await.unwrap().into_inner()
}

/// The refusal of a call, which must be one.
pub(crate) async fn no<T>(call: impl Future<Output = Result<T, Status>>) -> Status {
    call.await.map(drop).unwrap_err()
}

/// Holds a refusal to its code and its stable reason; its details.
#[track_caller]
pub(crate) fn assert_refused(status: &Status, code: Code, why: &str) -> ErrorDetails {
    let (told, details) = reason(status);
    assert_eq!((status.code(), told.as_str()), (code, why), "{status}");
    details
}

/// The files of a folder, as kill -9 leaves them where they are still in use.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The stable reason of an error, and its details.
pub(crate) fn reason(status: &Status) -> (String, ErrorDetails) {
    let details = status.get_error_details();
    let info = details.error_info().expect("every error has an ErrorInfo");
    assert_eq!(info.domain, "dual16");
    (info.reason.clone(), details)
}

/// Opens a unary call and never ends its request: it is worked on until it is dropped. Whatever
/// else asks meanwhile may have its place, so it tries until it is let in.
pub(crate) fn hang(server: &TestServer) -> tokio::task::JoinHandle<Result<(), Status>> {
    let address = server.server.addr();
    tokio::spawn(async move {
        let channel = Channel::from_shared(format!("http://{address}")).unwrap();
        let mut grpc = Grpc::new(channel.connect().await.unwrap());
        loop {
            grpc.ready()
                .await
                .map_err(|error| Status::unknown(error.to_string()))?;
            let path = "/dual16.v1.JobService/GetJob".parse().unwrap();
            let codec = ProstCodec::<v1::GetJobRequest, v1::Job>::default();
            let never = Request::new(tokio_stream::pending());
            let answer = grpc.client_streaming(never, path, codec).await;
            let refused = |code| matches!(code, Code::Unavailable | Code::ResourceExhausted);
            match answer {
                Err(status) if refused(status.code()) => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                answer => return answer.map(|_| ()),
            }
        }
    })
}

/// Asks until the answer is what the hanging calls must lead to.
pub(crate) async fn until(
    server: &TestServer,
    mut expected: impl FnMut(Result<(), Status>) -> bool,
) {
    for _ in 0..500 {
        let answer = server.info.clone().get_info(v1::GetInfoRequest {}).await;
        if expected(answer.map(|_| ())) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the server did not come to the expected answer");
}
