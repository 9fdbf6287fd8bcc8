//! JobService: submit, look at, stop, repeat, watch.

use std::{pin::Pin, sync::Arc};

use dual16_proto::v1::{self, job_service_server::JobService};
use dual16_telemetry::trace::traceparent;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{
    ApiError, App,
    validate::{self, CheckedSpec, Checker},
    watch,
};
use crate::{
    access::{Denied, Role, Roles, Scope},
    job::{BlobRef, JobId, NewJob, Priority},
    store::{JobQuery, StoredJob},
    wire,
};

const DEFAULT_PAGE: u32 = 50;
const MAX_PAGE: u32 = 1000;
/// Specs in one page: it must fit a message with room for the rest.
const PAGE_BYTES: usize = 2 << 20;

/// The service over the shared [`App`].
pub(crate) struct JobApi(pub(crate) Arc<App>);

#[tonic::async_trait]
impl JobService for JobApi {
    type WatchJobStream =
        Pin<Box<dyn tokio_stream::Stream<Item = Result<v1::JobEvent, Status>> + Send>>;

    async fn create_job(
        &self,
        request: Request<v1::CreateJobRequest>,
    ) -> Result<Response<v1::Job>, Status> {
        let scope = Scope::of(&request).map_err(ApiError::from)?;
        let request = request.into_inner();
        let validate_only = request.validate_only;
        let checked = validate::create_job(&self.0.limits, request)?;
        let owner = scope.caller().principal.clone();
        let urgent = Roles::of(&[Role::Urgent, Role::Admin]);
        if checked.priority > Priority::Normal && !scope.caller().roles.meets(urgent) {
            let denied = Denied::Role {
                principal: owner.to_string(),
                rpc: "JobService/CreateJob with a high priority",
                needed: urgent.to_string(),
            };
            return Err(ApiError::from(denied).into());
        }
        self.require_files(&checked).await?;
        if validate_only {
            scope.about("validate_only");
            return Ok(Response::new(v1::Job {
                display_name: checked.display_name,
                spec_digest: checked.digest.to_string(),
                spec: Some(checked.spec),
                owner: owner.into(),
                priority: v1::Priority::from(checked.priority).into(),
                ..v1::Job::default()
            }));
        }
        let CheckedSpec {
            spec,
            digest,
            display_name,
            priority,
            request_id,
            files,
            ..
        } = checked;
        let blobs = files.iter().map(|file| BlobRef {
            digest: file.digest,
            size: file.size,
        });
        let blobs = blobs.collect();
        let trace = traceparent();
        let create = self.0.change_with(|store, now| async move {
            let id = JobId::generate();
            let new = NewJob {
                id,
                owner,
                priority,
                display_name,
                spec_digest: digest,
                request_id,
                blobs,
                trace,
            };
            let created = store.create_job(new, &spec, now).await?;
            Ok((created.job, created.changes))
        });
        let job = create.await?;
        scope.about(job.job.id);
        tracing::info!(job = %job.job.id, "job queued");
        Ok(answer(job))
    }

    async fn get_job(
        &self,
        request: Request<v1::GetJobRequest>,
    ) -> Result<Response<v1::Job>, Status> {
        let id = self.visible_job(&request, |request| &request.name).await?;
        Ok(answer(
            self.0
                .store(|store, _| async move { store.get_job(id).await })
                .await?,
        ))
    }

    async fn list_jobs(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        let scope = Scope::of(&request).map_err(ApiError::from)?;
        let v1::ListJobsRequest {
            page_size,
            page_token,
            states,
        } = request.into_inner();
        let limit = if page_size == 0 {
            DEFAULT_PAGE
        } else {
            page_size.min(MAX_PAGE)
        };
        let before = validate::check(&self.0.limits, |checker| {
            if page_token.is_empty() {
                return Some(None);
            }
            let before = read_page_token(&page_token);
            if before.is_none() {
                let description = "is not a token of this server: begin with an empty one";
                checker.reject("page_token", "INVALID_PAGE_TOKEN", description);
            }
            before.map(Some)
        })?;
        let states = validate::states(&self.0.limits, &states)?;
        let query = JobQuery {
            before,
            owner: scope.caller().confined_to().cloned(),
            states,
            limit: limit as usize,
            max_bytes: PAGE_BYTES,
        };
        let page = self
            .0
            .store(|store, _| async move { store.list_jobs(&query).await })
            .await?;
        let oldest = page.jobs.last().filter(|_| page.more);
        let next_page_token = oldest
            .map(|oldest| page_token_of(oldest.job.id))
            .unwrap_or_default();
        let jobs = page
            .jobs
            .into_iter()
            .map(|stored| wire::job(stored.job, stored.spec));
        Ok(Response::new(v1::ListJobsResponse {
            jobs: jobs.collect(),
            next_page_token,
        }))
    }

    async fn cancel_job(
        &self,
        request: Request<v1::CancelJobRequest>,
    ) -> Result<Response<v1::Job>, Status> {
        let id = self.visible_job(&request, |request| &request.name).await?;
        let job = self
            .0
            .change_with(|store, now| async move { store.cancel(id, now).await })
            .await?;
        tracing::info!(job = %id, "job cancelled");
        Ok(answer(job))
    }

    async fn retry_job(
        &self,
        request: Request<v1::RetryJobRequest>,
    ) -> Result<Response<v1::Job>, Status> {
        let id = self.visible_job(&request, |request| &request.name).await?;
        let job = self
            .0
            .change_with(|store, now| async move { store.retry(id, now).await })
            .await?;
        tracing::info!(job = %id, "job retried");
        Ok(answer(job))
    }

    async fn delete_job(
        &self,
        request: Request<v1::DeleteJobRequest>,
    ) -> Result<Response<()>, Status> {
        let id = self.visible_job(&request, |request| &request.name).await?;
        self.0
            .change(|store, _| async move { store.delete(id).await })
            .await?;
        tracing::info!(job = %id, "job deleted");
        Ok(Response::new(()))
    }

    async fn watch_job(
        &self,
        request: Request<v1::WatchJobRequest>,
    ) -> Result<Response<Self::WatchJobStream>, Status> {
        let id = self.visible_job(&request, |request| &request.name).await?;
        let after_sequence = request.get_ref().after_sequence;
        let events = watch::start(Arc::clone(&self.0), id, after_sequence).await?;
        Ok(Response::new(Box::pin(ReceiverStream::new(events))))
    }
}

impl JobApi {
    /// The job that a request names, if its caller may see it.
    async fn visible_job<T>(
        &self,
        request: &Request<T>,
        name: impl FnOnce(&T) -> &str,
    ) -> Result<JobId, ApiError> {
        let scope = Scope::of(request)?;
        let id = validate::job_name(&self.0.limits, name(request.get_ref()))?;
        self.0.require_visible(&scope, id).await?;
        Ok(id)
    }

    /// Every file of the spec is stored, with the size that the spec claims.
    async fn require_files(&self, checked: &CheckedSpec) -> Result<(), ApiError> {
        let fields = checked
            .files
            .iter()
            .map(|file| (format!("{}.digest", file.field), file.digest));
        let sizes = self.0.require_blobs(&fields.collect::<Vec<_>>()).await?;
        let mut checker = Checker::new(&self.0.limits);
        for (file, found) in checked.files.iter().zip(sizes) {
            if found != file.size {
                let description = format!("is {}, but the blob has {found} bytes", file.size);
                checker.reject(format!("{}.size", file.field), "SIZE_MISMATCH", description);
            }
        }
        checker.finish()
    }
}

fn answer(stored: StoredJob) -> Response<v1::Job> {
    Response::new(wire::job(stored.job, stored.spec))
}

/// A page goes on with the jobs older than the last one told.
fn page_token_of(oldest: JobId) -> String {
    hex::encode(oldest.as_bytes())
}

fn read_page_token(token: &str) -> Option<JobId> {
    let mut id = [0; 16];
    hex::decode_to_slice(token, &mut id).ok()?;
    Some(JobId::from_bytes(id))
}
