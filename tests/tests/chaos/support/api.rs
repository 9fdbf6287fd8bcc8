//! The API as a patient program calls it: what failed because nobody was there is called again, what
//! the server refused is a failure of the test.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use dual16_proto::{
    digest::Digest,
    v1::{
        self, blob_service_client::BlobServiceClient, job_service_client::JobServiceClient,
        worker_service_client::WorkerServiceClient,
    },
};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

/// Bytes of a message of an upload; a server takes no more.
const CHUNK_BYTES: usize = 1 << 20;
/// How long a call is tried.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(20);

/// A connection that comes back by itself.
#[derive(Clone)]
pub(crate) struct Api {
    channel: Channel,
}

impl Api {
    /// Connects when the first call is made.
    pub(crate) fn to(url: &str) -> Self {
        let endpoint = Endpoint::from_shared(url.to_owned()).unwrap();
        let endpoint = endpoint.connect_timeout(Duration::from_secs(2));
        Self {
            channel: endpoint.connect_lazy(),
        }
    }

    pub(crate) fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.channel.clone())
    }

    pub(crate) fn blobs(&self) -> BlobServiceClient<Channel> {
        BlobServiceClient::new(self.channel.clone())
    }

    pub(crate) fn workers(&self) -> WorkerServiceClient<Channel> {
        WorkerServiceClient::new(self.channel.clone())
    }

    /// Stores a blob and names it as a file.
    pub(crate) async fn upload(&self, name: &str, bytes: &[u8]) -> v1::InputFile {
        let digest = Digest::of(bytes).to_string();
        let chunks = bytes.chunks(CHUNK_BYTES);
        let mut messages: Vec<_> = chunks
            .map(|chunk| v1::UploadRequest {
                data: chunk.to_vec().into(),
                ..v1::UploadRequest::default()
            })
            .collect();
        messages[0].digest.clone_from(&digest);
        messages[0].size = bytes.len() as u64;
        patiently("Upload", || {
            let (mut blobs, messages) = (self.blobs(), tokio_stream::iter(messages.clone()));
            async move { blobs.upload(messages).await }
        })
        .await;
        v1::InputFile {
            name: name.to_owned(),
            digest,
            size: bytes.len() as u64,
        }
    }

    /// The bytes of a blob.
    pub(crate) async fn download(&self, digest: &str) -> Vec<u8> {
        patiently("Download", || async {
            self.try_download(digest).await.map(tonic::Response::new)
        })
        .await
    }

    /// The bytes of a blob, asked for once.
    pub(crate) async fn try_download(&self, digest: &str) -> Result<Vec<u8>, Status> {
        let request = v1::DownloadRequest {
            digest: digest.to_owned(),
            offset: 0,
        };
        let mut stream = self.blobs().download(request).await?.into_inner();
        let mut bytes = Vec::new();
        while let Some(message) = stream.message().await? {
            bytes.extend_from_slice(&message.data);
        }
        Ok(bytes)
    }

    /// Queues a job; the answer is the server's word that it will not be lost.
    pub(crate) async fn create(&self, spec: &v1::JobSpec, request_id: &str) -> v1::Job {
        patiently("CreateJob", || async {
            let job = self.try_create(spec, request_id).await;
            job.map(tonic::Response::new)
        })
        .await
    }

    /// The same, asked for once.
    pub(crate) async fn try_create(
        &self,
        spec: &v1::JobSpec,
        request_id: &str,
    ) -> Result<v1::Job, Status> {
        let request = v1::CreateJobRequest {
            spec: Some(spec.clone()),
            request_id: request_id.to_owned(),
            ..v1::CreateJobRequest::default()
        };
        let answer = self.jobs().create_job(request).await?;
        Ok(answer.into_inner())
    }

    pub(crate) async fn job(&self, name: &str) -> v1::Job {
        let request = v1::GetJobRequest {
            name: name.to_owned(),
        };
        patiently("GetJob", || {
            let (mut jobs, request) = (self.jobs(), request.clone());
            async move { jobs.get_job(request).await }
        })
        .await
    }

    /// Names of all jobs.
    pub(crate) async fn all_jobs(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = v1::ListJobsRequest {
                page_size: 1000,
                page_token: page_token.clone(),
                states: Vec::new(),
            };
            let page = patiently("ListJobs", || {
                let (mut jobs, request) = (self.jobs(), request.clone());
                async move { jobs.list_jobs(request).await }
            })
            .await;
            names.extend(page.jobs.into_iter().map(|job| job.name));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return names;
            }
        }
    }
}

/// Calls until the server answers.
///
/// # Panics
/// Where the server refuses the call, or does not answer for [`PATIENCE`].
pub(crate) async fn patiently<T, F>(what: &str, call: impl Fn() -> F) -> T
where
    F: Future<Output = Result<tonic::Response<T>, Status>>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        match call().await {
            Ok(answer) => return answer.into_inner(),
            Err(status) if is_absence(&status) => {
                assert!(Instant::now() < deadline, "{what}: no answer: {status}");
                tokio::time::sleep(PAUSE).await;
            }
            Err(status) => panic!("{what} was refused: {status}"),
        }
    }
}

/// Whether nobody was there to answer, or somebody who said to try again. Whatever the server says
/// has details; what a broken connection says has none.
pub(crate) fn is_absence(status: &Status) -> bool {
    status.details().is_empty() || status.get_details_retry_info().is_some()
}
