//! The API as a patient program calls it: what failed because nobody was there is called again, what
//! the server refused is a failure of the test.

use std::{io::Cursor, sync::Arc, time::Duration};

use dual16_proto::{
    digest::Digest,
    v1::{self, job_service_client::JobServiceClient, worker_service_client::WorkerServiceClient},
};
use dual16_rpc::{
    Address, Blob, Channel, Connection, Delays, Policy, Retrying, credentials::Credentials,
};
use tonic::Status;
use tonic_types::StatusExt as _;

/// Who calls until the server answers, for two minutes.
#[derive(Debug)]
struct Patient;

impl Policy for Patient {
    fn patience(&self, status: &Status) -> Option<Duration> {
        is_absence(status).then_some(Duration::from_secs(120))
    }

    fn delays(&self) -> Delays {
        let first = Duration::from_millis(20);
        Delays {
            first,
            longest: first,
        }
    }

    fn retrying(&self, _: &Retrying<'_>) {}
}

/// A connection that comes back by itself. Its calls panic where the server refuses them.
#[derive(Clone)]
pub(crate) struct Api {
    connection: Connection,
}

impl Api {
    /// Connects when the first call is made.
    pub(crate) fn to(url: &str) -> Self {
        let address = Address::new(url, &Credentials::default(), || None).unwrap();
        Self {
            connection: Connection::new(&address, Arc::new(Patient)),
        }
    }

    pub(crate) fn jobs(&self) -> JobServiceClient<Channel> {
        self.connection.jobs()
    }

    pub(crate) fn workers(&self) -> WorkerServiceClient<Channel> {
        self.connection.worker()
    }

    /// Stores a blob and names it as a file.
    pub(crate) async fn upload(&self, name: &str, bytes: &[u8]) -> v1::InputFile {
        let digest = Digest::of(bytes).to_string();
        let size = bytes.len() as u64;
        let blob = Blob {
            digest: &digest,
            size,
        };
        let bytes = bytes.to_vec();
        let open = move || Ok(Cursor::new(bytes.clone()));
        self.connection.upload(blob, open, &|_| {}).await.unwrap();
        v1::InputFile {
            name: name.to_owned(),
            digest,
            size,
        }
    }

    /// The bytes of a blob.
    pub(crate) async fn download(&self, digest: &str) -> Vec<u8> {
        let done = self.connection.download(digest, None, Vec::new(), &|_| {});
        done.await.unwrap().0
    }

    /// The same, asked for once.
    pub(crate) async fn try_download(&self, digest: &str) -> Result<Vec<u8>, Status> {
        let request = v1::DownloadRequest {
            digest: digest.to_owned(),
            offset: 0,
            accept_url: false,
        };
        let mut stream = self
            .connection
            .blobs()
            .download(request)
            .await?
            .into_inner();
        let mut bytes = Vec::new();
        while let Some(message) = stream.message().await? {
            bytes.extend_from_slice(&message.data);
        }
        Ok(bytes)
    }

    /// Queues a job; the answer is the server's word that it will not be lost.
    pub(crate) async fn create(&self, spec: &v1::JobSpec, request_id: &str) -> v1::Job {
        let request = creation(spec, request_id);
        let call = self.connection.call("CreateJob", self.jobs(), request, {
            |mut jobs, request| async move { jobs.create_job(request).await }
        });
        call.await.unwrap()
    }

    /// The same, asked for once.
    pub(crate) async fn try_create(
        &self,
        spec: &v1::JobSpec,
        request_id: &str,
    ) -> Result<v1::Job, Status> {
        let created = self.jobs().create_job(creation(spec, request_id)).await?;
        Ok(created.into_inner())
    }

    pub(crate) async fn job(&self, name: &str) -> v1::Job {
        let request = v1::GetJobRequest {
            name: name.to_owned(),
        };
        let call = self.connection.call("GetJob", self.jobs(), request, {
            |mut jobs, request| async move { jobs.get_job(request).await }
        });
        call.await.unwrap()
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
            let call = self.connection.call("ListJobs", self.jobs(), request, {
                |mut jobs, request| async move { jobs.list_jobs(request).await }
            });
            let page = call.await.unwrap();
            names.extend(page.jobs.into_iter().map(|job| job.name));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return names;
            }
        }
    }
}

fn creation(spec: &v1::JobSpec, request_id: &str) -> v1::CreateJobRequest {
    v1::CreateJobRequest {
        spec: Some(spec.clone()),
        request_id: request_id.to_owned(),
        ..v1::CreateJobRequest::default()
    }
}

/// Whether nobody was there to answer, or somebody who said to try again. Whatever the server says
/// has details; what a broken connection says has none.
pub(crate) fn is_absence(status: &Status) -> bool {
    status.details().is_empty() || status.get_details_retry_info().is_some()
}
