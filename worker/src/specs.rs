//! The specs of the jobs whose tasks run here: a lease names its job's by digest, and each is fetched
//! once. A job of a thousand batches has a spec that names them all, and a thousand tasks.

use std::sync::Arc;

use dual16_proto::v1::{GetJobSpecRequest, JobSpec, Lease, LeaseRef};
use dual16_rpc::{CallError, Connection};
use prost::Message as _;
use thiserror::Error;
use tokio::sync::Mutex;

use crate::{digest::Digest, runner::TaskError};

/// Specs that are kept: more than there are jobs at work in a worker but for a moment. With 1 MiB at
/// most for each.
const KEPT: usize = 16;

/// Shared by all tasks of a worker.
#[derive(Debug)]
pub(crate) struct Specs {
    connection: Connection,
    /// By digest, the one used last at the end. Locked while one is fetched: tasks of one job begin
    /// together.
    kept: Mutex<Vec<(String, Arc<JobSpec>)>>,
}

/// Why there is no spec.
#[derive(Debug, Error)]
pub(crate) enum SpecMissing {
    #[error("cannot read the job's spec: {0}")]
    Call(#[from] CallError),
    #[error(
        "the spec that the server sent has the digest {found} and not {named}: if it is of a newer \
         version, this worker does not know all of it and must be updated"
    )]
    Other { found: Digest, named: String },
}

impl From<SpecMissing> for TaskError {
    fn from(error: SpecMissing) -> Self {
        Self::io(error.to_string())
    }
}

impl Specs {
    pub(crate) fn new(connection: Connection) -> Self {
        Self {
            connection,
            kept: Mutex::default(),
        }
    }

    /// The spec of the job of a leased task. Waits for as long as the server is away.
    pub(crate) async fn of(&self, lease: &Lease) -> Result<Arc<JobSpec>, SpecMissing> {
        let mut kept = self.kept.lock().await;
        let named = &lease.spec_digest;
        let spec = match kept.iter().position(|(digest, _)| digest == named) {
            Some(place) => kept.remove(place).1,
            None => Arc::new(self.fetch(lease).await?),
        };
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push((named.clone(), Arc::clone(&spec)));
        Ok(spec)
    }

    async fn fetch(&self, lease: &Lease) -> Result<JobSpec, SpecMissing> {
        let request = GetJobSpecRequest {
            lease: Some(LeaseRef {
                task: lease.task.clone(),
                lease_id: lease.lease_id.clone(),
                attempt: lease.attempt,
            }),
        };
        let service = self.connection.worker();
        let call = self.connection.call("GetJobSpec", service, request, {
            |mut worker, request| async move { worker.get_job_spec(request).await }
        });
        let spec = call.await?.spec.unwrap_or_default();
        // Written anew it is what the server wrote, unless it has fields that are not known here: they
        // would be left out without a word.
        let found = Digest::of(&spec.encode_to_vec());
        if found.to_string() != lease.spec_digest {
            let named = lease.spec_digest.clone();
            return Err(SpecMissing::Other { found, named });
        }
        Ok(spec)
    }
}
