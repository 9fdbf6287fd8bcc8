//! Every request message, decoded and judged as its handler does, with no server behind it: the
//! entry point of the fuzz targets. What a handler finds out only from the store is not here.

use dual16_proto::v1;
use prost::Message;
use tonic::Status;

use super::{ApiError, validate};
use crate::limits::Limits;

/// Decodes `message` as the request that `method` selects and judges it under the default limits.
/// `None` where it does not decode or is well-formed, else the refusal as a client gets it.
pub fn judge(method: u8, message: &[u8]) -> Option<Status> {
    let limits = Limits::default();
    let limits = &limits;
    let verdict = match method % 12 {
        0 => with(message, |m| validate::create_job(limits, m).map(drop)),
        1 => with(message, |m: v1::GetJobRequest| job(limits, &m.name)),
        2 => with(message, |m: v1::ListJobsRequest| {
            validate::states(limits, &m.states).map(drop)
        }),
        3 => with(message, |m: v1::CancelJobRequest| job(limits, &m.name)),
        4 => with(message, |m: v1::RetryJobRequest| job(limits, &m.name)),
        5 => with(message, |m: v1::WatchJobRequest| job(limits, &m.name)),
        6 => with(message, |m: v1::FindMissingRequest| {
            validate::digests(limits, &m.digests).map(drop)
        }),
        7 => with(message, |m: v1::DownloadRequest| {
            validate::digest(limits, &m.digest).map(drop)
        }),
        8 => with(message, |m: v1::HeartbeatRequest| {
            validate::leases(limits, &m.worker, "leases", &m.leases).map(drop)
        }),
        9 => with(message, |m| validate::completion(limits, m).map(drop)),
        10 => with(message, |m| validate::failure(limits, m).map(drop)),
        _ => with(message, |m: v1::ReleaseRequest| {
            validate::leases(limits, &m.worker, "leases", &m.leases).map(drop)
        }),
    };
    verdict.err().map(Status::from)
}

/// A message that does not decode never reaches a handler: tonic refuses it.
fn with<M: Message + Default>(
    message: &[u8],
    judged: impl FnOnce(M) -> Result<(), ApiError>,
) -> Result<(), ApiError> {
    M::decode(message).map_or(Ok(()), judged)
}

fn job(limits: &Limits, name: &str) -> Result<(), ApiError> {
    validate::job_name(limits, name).map(drop)
}
