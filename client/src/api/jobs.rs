//! The unary calls on jobs.

use std::{fmt, str::FromStr};

use dual16_proto::v1::{
    CancelJobRequest, CreateJobRequest, DeleteJobRequest, GetJobRequest, Job, JobState,
    ListJobsRequest, RetryJobRequest,
};
use tonic::Code;

use super::{ApiError, Client};

/// A job's resource name, "jobs/{id}".
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JobName(String);

impl JobName {
    /// "jobs/{id}".
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id alone.
    pub fn id(&self) -> &str {
        self.0.strip_prefix(PREFIX).unwrap_or(&self.0)
    }
}

const PREFIX: &str = "jobs/";

impl FromStr for JobName {
    type Err = String;

    /// Takes "jobs/{id}" and "{id}".
    fn from_str(text: &str) -> Result<Self, String> {
        let id = text.strip_prefix(PREFIX).unwrap_or(text);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if id.is_empty() || !id.chars().all(plain) {
            return Err("a job is named jobs/ID or ID, as `dual16 jobs` prints it".to_owned());
        }
        Ok(Self(format!("{PREFIX}{id}")))
    }
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Every call fails with [`ApiError::Unreachable`] when the server stays away and with
/// [`ApiError::Refused`] when it says no.
impl Client {
    /// Queues a job, or only checks it (`validate_only`). Give a `request_id`: only then is a call
    /// that was repeated after an outage sure to queue one job.
    pub async fn create_job(&self, request: CreateJobRequest) -> Result<Job, ApiError> {
        let jobs = self.connection.jobs();
        let call = self.call("CreateJob", jobs, request, {
            |mut jobs, request| async move { jobs.create_job(request).await }
        });
        call.await
    }

    /// The job as it stands.
    pub async fn get_job(&self, name: &JobName) -> Result<Job, ApiError> {
        let request = GetJobRequest {
            name: name.to_string(),
        };
        let jobs = self.connection.jobs();
        let call = self.call("GetJob", jobs, request, {
            |mut jobs, request| async move { jobs.get_job(request).await }
        });
        call.await
    }

    /// Up to `limit` jobs, newest first, following page tokens; no `states` = all.
    pub async fn list_jobs(&self, states: &[JobState], limit: usize) -> Result<Vec<Job>, ApiError> {
        let mut jobs = Vec::new();
        let mut page_token = String::new();
        while jobs.len() < limit {
            let request = ListJobsRequest {
                page_size: u32::try_from(limit - jobs.len())
                    .unwrap_or(u32::MAX)
                    .min(100),
                page_token,
                states: states.iter().map(|state| i32::from(*state)).collect(),
            };
            let service = self.connection.jobs();
            let call = self.call("ListJobs", service, request, {
                |mut jobs, request| async move { jobs.list_jobs(request).await }
            });
            let page = call.await?;
            jobs.extend(page.jobs);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        jobs.truncate(limit);
        Ok(jobs)
    }

    /// Stops a job; one that has ended stays as it is.
    pub async fn cancel_job(&self, name: &JobName) -> Result<Job, ApiError> {
        let request = CancelJobRequest {
            name: name.to_string(),
        };
        let jobs = self.connection.jobs();
        let call = self.call("CancelJob", jobs, request, {
            |mut jobs, request| async move { jobs.cancel_job(request).await }
        });
        call.await
    }

    /// Queues the failed tasks of a FAILED or CANCELLED job again; what succeeded is kept. When the
    /// answer to a first try was lost, a job that works again is taken for its success.
    pub async fn retry_job(&self, name: &JobName) -> Result<Job, ApiError> {
        let request = RetryJobRequest {
            name: name.to_string(),
        };
        let jobs = self.connection.jobs();
        let retried = self.connection.call("RetryJob", jobs, request, {
            |mut jobs, request| async move { jobs.retry_job(request).await }
        });
        match retried.await {
            Ok(job) => Ok(job),
            Err(refused)
                if refused.repeated && refused.status.code() == Code::FailedPrecondition =>
            {
                let job = self.get_job(name).await?;
                match job.state() {
                    JobState::Pending | JobState::Running => Ok(job),
                    _ => Err(self.failed(refused)),
                }
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Removes a job that has ended, with its events. When the answer to a first try was lost, a job
    /// that is not there is taken for its success.
    pub async fn delete_job(&self, name: &JobName) -> Result<(), ApiError> {
        let request = DeleteJobRequest {
            name: name.to_string(),
        };
        let jobs = self.connection.jobs();
        let deleted = self.connection.call("DeleteJob", jobs, request, {
            |mut jobs, request| async move { jobs.delete_job(request).await }
        });
        match deleted.await {
            Ok(_) => Ok(()),
            Err(gone) if gone.repeated && gone.status.code() == Code::NotFound => Ok(()),
            Err(error) => Err(self.failed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_with_and_without_their_collection() {
        let name: JobName = "0199-ab".parse().unwrap();
        assert_eq!(name, "jobs/0199-ab".parse().unwrap());
        assert_eq!((name.as_str(), name.id()), ("jobs/0199-ab", "0199-ab"));
        for bad in ["", "jobs/", "jobs/a/b", "a b"] {
            assert!(bad.parse::<JobName>().is_err(), "{bad:?}");
        }
    }
}
