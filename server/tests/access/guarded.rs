//! A server that asks who is calling, and callers with and without an answer.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use dual16_proto::v1::{
    self, blob_service_client::BlobServiceClient, job_service_client::JobServiceClient,
};
use dual16_server::{
    RunningServer, ServerOptions,
    access::{AccessOptions, secret::Token},
    clock::{ManualClock, Timestamp},
    digest::Digest,
    start,
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    metadata::{Ascii, MetadataValue},
    service::interceptor::InterceptedService,
    transport::Channel,
};
use tonic_prost::ProstCodec;

/// No call of these tests takes as long, whatever the machine.
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Guarded {
    pub(crate) server: RunningServer,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) folder: TempDir,
    pub(crate) channel: Channel,
}

/// A caller with a token.
pub(crate) struct Caller {
    pub(crate) principal: &'static str,
    token: Token,
    /// Or several, with a plus between them.
    role: &'static str,
}

impl Caller {
    pub(crate) fn new(principal: &'static str, role: &'static str) -> Self {
        let token = Token::generate().unwrap();
        Self {
            principal,
            token,
            role,
        }
    }

    pub(crate) fn secret(&self) -> &str {
        self.token.reveal()
    }

    /// Its entry in a tokens file.
    pub(crate) fn entry(&self) -> String {
        let Self {
            principal,
            token,
            role,
        } = self;
        let hash = token.hash();
        let roles: Vec<_> = role.split('+').collect();
        format!("[[token]]\nprincipal = \"{principal}\"\nroles = {roles:?}\nsha256 = \"{hash}\"\n")
    }
}

pub(crate) fn entries(callers: &[&Caller]) -> String {
    callers.iter().map(|caller| caller.entry()).collect()
}

impl Guarded {
    /// A server for `callers`, on plain HTTP.
    pub(crate) async fn start(callers: &[&Caller]) -> Self {
        Self::start_with(&entries(callers), |_| {}).await
    }

    pub(crate) async fn start_with(tokens: &str, change: impl FnOnce(&mut ServerOptions)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tokens"), tokens).unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
        let mut options = ServerOptions {
            clock: clock.clone(),
            access: AccessOptions {
                tokens: Some(folder.path().join("tokens")),
                audit_log: Some(folder.path().join("audit")),
                ..AccessOptions::default()
            },
            // Only when told to, unless a test is about it.
            look_for_changes: Duration::from_secs(3600),
            ..ServerOptions::new(folder.path().join("data"))
        };
        change(&mut options);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = start(options, listener).await.unwrap();
        let endpoint = Channel::from_shared(format!("http://{}", server.addr())).unwrap();
        Self {
            channel: endpoint.connect_lazy(),
            server,
            clock,
            folder,
        }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Calls any RPC with a message whose field 1 is a text, which is what jobs are named by; takes
    /// the first answer.
    pub(crate) async fn call(
        &self,
        path: &str,
        field_1: &str,
        authorization: Option<&str>,
    ) -> Result<(), Status> {
        let calling = call(self.channel.clone(), path, field_1, authorization);
        tokio::time::timeout(LIMIT, calling).await.expect("in time")
    }

    /// As [`Guarded::call`], with the token of `caller`.
    pub(crate) async fn call_as(
        &self,
        caller: &Caller,
        path: &str,
        field_1: &str,
    ) -> Result<(), Status> {
        let authorization = format!("Bearer {}", caller.secret());
        self.call(path, field_1, Some(&authorization)).await
    }

    /// The code of GetInfo, the least that a known caller may do.
    pub(crate) async fn code_as(&self, caller: &Caller) -> Code {
        let outcome = self.call_as(caller, "/dual16.v1.InfoService/GetInfo", "");
        outcome
            .await
            .map_or_else(|status| status.code(), |()| Code::Ok)
    }

    /// Submits a job as `caller`; returns its name.
    pub(crate) async fn submit(&self, caller: &Caller, request_id: &str) -> String {
        let request = v1::CreateJobRequest {
            request_id: request_id.into(),
            ..v1::CreateJobRequest::default()
        };
        let job = self.create(caller, request).await.unwrap();
        assert_eq!(job.owner, caller.principal);
        job.name
    }

    /// Creates a job as `caller`, of a spec whose files are stored.
    pub(crate) async fn create(
        &self,
        caller: &Caller,
        request: v1::CreateJobRequest,
    ) -> Result<v1::Job, Status> {
        let file = |name: &str, data: &[u8]| v1::InputFile {
            name: name.into(),
            digest: Digest::of(data).to_string(),
            size: data.len() as u64,
        };
        let channel = || InterceptedService::new(self.channel.clone(), authorize(caller));
        for data in [b"model", b"batch"] {
            let file = file("", data);
            let message = v1::UploadRequest {
                digest: file.digest,
                size: file.size,
                offset: 0,
                data: data.to_vec().into(),
            };
            let mut blobs = BlobServiceClient::new(channel());
            blobs.upload(tokio_stream::once(message)).await.unwrap();
        }
        let onnx = v1::OnnxModel {
            model: Some(file("model.onnx", b"model")),
            external_data: Vec::new(),
        };
        let spec = v1::JobSpec {
            model: Some(v1::job_spec::Model::Onnx(onnx)),
            calibration: vec![file("calib/0.npz", b"batch")],
            ..v1::JobSpec::default()
        };
        let request = v1::CreateJobRequest {
            spec: Some(spec),
            ..request
        };
        let created = JobServiceClient::new(channel()).create_job(request).await;
        created.map(tonic::Response::into_inner)
    }

    /// Names of the jobs that `caller` sees.
    pub(crate) async fn jobs_of(&self, caller: &Caller) -> Vec<String> {
        let channel = InterceptedService::new(self.channel.clone(), authorize(caller));
        let listed = JobServiceClient::new(channel)
            .list_jobs(v1::ListJobsRequest::default())
            .await;
        let jobs = listed.unwrap().into_inner().jobs;
        jobs.into_iter().map(|job| job.name).collect()
    }
}

type Authorize = Box<dyn FnMut(Request<()>) -> Result<Request<()>, Status> + Send + Sync>;

fn authorize(caller: &Caller) -> Authorize {
    let value: MetadataValue<Ascii> = format!("Bearer {}", caller.secret()).parse().unwrap();
    Box::new(move |mut request| {
        let metadata = request.metadata_mut();
        metadata.insert("authorization", value.clone());
        Ok(request)
    })
}

/// One call, as unknown RPCs are called: a stream of one message looks like a message.
pub(crate) async fn call(
    channel: Channel,
    path: &str,
    field_1: &str,
    authorization: Option<&str>,
) -> Result<(), Status> {
    let mut client = Grpc::new(channel);
    let ready = client.ready().await;
    ready.map_err(|error| Status::unavailable(error.to_string()))?;
    let mut request = Request::new(tokio_stream::once(field_1.to_owned()));
    if let Some(value) = authorization {
        let metadata = request.metadata_mut();
        metadata.insert("authorization", value.parse().unwrap());
    }
    let codec = ProstCodec::<String, ()>::default();
    let path: PathAndQuery = path.parse().unwrap();
    let answer = client.streaming(request, path, codec).await?;
    answer.into_inner().message().await.map(|_| ())
}
