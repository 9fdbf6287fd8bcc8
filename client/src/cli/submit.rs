//! From files on this disk to a job on a server: hash, check, upload what is missing, create.

use std::sync::Arc;

use dual16_proto::v1::{CreateJobRequest, Job, QuantizeSpec, job_spec::Kind};
use tokio::task::JoinSet;
use tonic::Code;
use tracing::Instrument as _;

use super::InputArgs;
use crate::{
    api::{ApiError, Client, SourceBlob},
    error::Error,
    inputs::{self, PreparedJob},
    render::{Progress, Transfer},
};

/// Uploads at the same time: hides the round trips of many small batches.
const UPLOADS: usize = 4;
/// Times a blob may disappear between its upload and the job's creation.
const CREATE_TRIES: usize = 3;

/// Finds and hashes the files.
pub(super) async fn prepare(
    inputs: &InputArgs,
    quantize: QuantizeSpec,
    kind: Option<Kind>,
    progress: &Progress,
) -> Result<PreparedJob, Error> {
    let (inputs, progress) = (inputs.clone(), progress.clone());
    blocking(move || {
        let sources = inputs.sources()?;
        for remark in &sources.remarks {
            progress.warning(remark);
        }
        let transfer = progress.transfer("hash", sources.total_bytes());
        let mut job = inputs::prepare(sources, quantize, kind, &|bytes| transfer.moved(bytes))?;
        if let Some(name) = inputs.name {
            job.display_name = name;
        }
        job.priority = inputs.priority.into();
        job.spec.deadline_seconds = inputs.deadline.unwrap_or_default();
        Ok(job)
    })
    .await
}

/// Brings the job and its files to the server.
pub(super) async fn submit(
    client: &Client,
    job: PreparedJob,
    request_id: String,
    progress: &Progress,
) -> Result<Job, Error> {
    let limits = client.info().await?.limits;
    job.holdings.within(&limits)?;
    let request = CreateJobRequest {
        spec: Some(job.spec),
        display_name: job.display_name,
        request_id,
        validate_only: false,
        priority: job.priority.into(),
    };
    // A wrong setting should not cost an upload. That blobs are missing is no news yet.
    let check = CreateJobRequest {
        validate_only: true,
        ..request.clone()
    };
    match client.create_job(check).await {
        Err(error) if error.code() != Some(Code::FailedPrecondition) => return Err(error.into()),
        _ => {}
    }
    let mut tries = 0;
    loop {
        upload(client, &job.blobs, progress).await?;
        tries += 1;
        match client.create_job(request.clone()).await {
            Ok(job) => {
                tracing::info!(job = %job.name, "job submitted");
                return Ok(job);
            }
            // A blob was collected as garbage in between.
            Err(error)
                if error.code() == Some(Code::FailedPrecondition) && tries < CREATE_TRIES => {}
            Err(error) => return Err(error.into()),
        }
    }
}

async fn upload(client: &Client, blobs: &[SourceBlob], progress: &Progress) -> Result<(), Error> {
    let missing = client.find_missing(blobs).await?;
    if missing.is_empty() {
        return Ok(());
    }
    let bytes = missing.iter().map(|blob| blob.size).sum();
    let transfer = Arc::new(progress.transfer("upload", bytes));
    // Dropped with this future, the set stops its uploads; what was sent is kept by the server.
    let mut running = JoinSet::new();
    for blob in missing {
        if running.len() >= UPLOADS {
            finish_one(&mut running).await?;
        }
        let upload = upload_one(client.clone(), blob, Arc::clone(&transfer));
        running.spawn(upload.in_current_span());
    }
    while !running.is_empty() {
        finish_one(&mut running).await?;
    }
    Ok(())
}

async fn upload_one(
    client: Client,
    blob: SourceBlob,
    transfer: Arc<Transfer>,
) -> Result<(), ApiError> {
    client.upload(&blob, &|bytes| transfer.moved(bytes)).await
}

async fn finish_one(running: &mut JoinSet<Result<(), ApiError>>) -> Result<(), Error> {
    match running.join_next().await {
        Some(Ok(result)) => Ok(result?),
        Some(Err(error)) => Err(Error::Local(format!("an upload ended abnormally: {error}"))),
        None => Ok(()),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::Local(format!("reading the inputs ended abnormally: {error}")))?
}
