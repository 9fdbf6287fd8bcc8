//! Requests that no client of ours would send.

use dual16_proto::{
    digest::Digest,
    v1::{
        self, blob_service_client::BlobServiceClient, job_service_client::JobServiceClient,
        worker_service_client::WorkerServiceClient,
    },
};
use tokio::runtime::Runtime;
use tonic::{Code, Status, transport::Channel};

use super::wire::{create, get, upload};

const NO_JOB: &str = "jobs/01890a5d-ac96-774b-bcce-b302099a8057";

/// One request, what it must be refused with, and what the refusal must say.
pub(super) struct Request {
    pub(super) name: &'static str,
    pub(super) call: fn(&Runtime, Channel) -> Option<Status>,
    pub(super) code: Code,
    pub(super) says: &'static [&'static str],
}

macro_rules! request {
    ($name:literal, $code:ident, [$($says:literal),+], |$channel:ident| $call:expr) => {
        Request {
            name: $name,
            call: |runtime, $channel| runtime.block_on(async { $call.await.err() }),
            code: Code::$code,
            says: &[$($says),+],
        }
    };
}

pub(super) const REQUESTS: &[Request] = &[
    request!(
        "no spec",
        InvalidArgument,
        ["spec", "is missing"],
        |channel| async move {
            let nothing = v1::CreateJobRequest::default();
            JobServiceClient::new(channel).create_job(nothing).await
        }
    ),
    request!(
        "a file that leaves its folder",
        InvalidArgument,
        ["spec.calibration[0].name", "relative path"],
        |channel| {
            create(channel, |spec| {
                spec.calibration[0].name = "../../etc/passwd".to_owned()
            })
        }
    ),
    request!(
        "two files of one name",
        InvalidArgument,
        ["spec.calibration[1].name", "names must differ"],
        |channel| {
            create(channel, |spec| {
                spec.calibration.push(spec.calibration[0].clone())
            })
        }
    ),
    request!(
        "a digest that is none",
        InvalidArgument,
        [
            "spec.calibration[0].digest",
            "md5:00",
            "64 lower-case hex digits"
        ],
        |channel| {
            create(channel, |spec| {
                spec.calibration[0].digest = "md5:00".to_owned()
            })
        }
    ),
    request!(
        "blobs that were never uploaded",
        FailedPrecondition,
        ["spec.calibration[0].digest", "upload it"],
        |channel| { create(channel, |_| ()) }
    ),
    request!(
        "a size beyond the limit",
        ResourceExhausted,
        ["spec.calibration[0].size", "at most"],
        |channel| { create(channel, |spec| spec.calibration[0].size = u64::MAX) }
    ),
    request!(
        "a setting without a value",
        InvalidArgument,
        ["spec.quantize.settings[0]", "set way, dtype, fixed_scale"],
        |channel| {
            create(channel, |spec| {
                let setting = v1::LayerSetting {
                    name: "fc".to_owned(),
                    value: None,
                };
                spec.quantize = Some(v1::QuantizeSpec {
                    settings: vec![setting],
                    ..Default::default()
                });
            })
        }
    ),
    request!(
        "a job name that is a path",
        InvalidArgument,
        ["name", "../../etc/passwd"],
        |channel| { get(channel, "../../etc/passwd") }
    ),
    request!(
        "a job name without end",
        ResourceExhausted,
        ["65536"],
        |channel| get(channel, &"x".repeat(1 << 20))
    ),
    request!(
        "a job that nobody made",
        NotFound,
        ["01890a5d-ac96-774b-bcce-b302099a8057"],
        |channel| get(channel, NO_JOB)
    ),
    request!(
        "a page that is none",
        InvalidArgument,
        ["page_token", "begin with an empty one"],
        |channel| {
            let list = v1::ListJobsRequest {
                page_token: "next".to_owned(),
                ..Default::default()
            };
            async move { JobServiceClient::new(channel).list_jobs(list).await }
        }
    ),
    request!(
        "a state that is none",
        InvalidArgument,
        ["states[0]", "99"],
        |channel| {
            let list = v1::ListJobsRequest {
                states: vec![99],
                ..Default::default()
            };
            async move { JobServiceClient::new(channel).list_jobs(list).await }
        }
    ),
    request!(
        "a digest of another length",
        InvalidArgument,
        ["digests[0]", "64 lower-case hex digits"],
        |channel| {
            let find = v1::FindMissingRequest {
                digests: vec!["sha256:00".to_owned()],
            };
            async move { BlobServiceClient::new(channel).find_missing(find).await }
        }
    ),
    request!(
        "a blob that nobody has",
        NotFound,
        ["does not exist"],
        |channel| {
            let download = v1::DownloadRequest {
                digest: Digest::of(b"nobody").to_string(),
                offset: 0,
                accept_url: false,
            };
            async move { BlobServiceClient::new(channel).download(download).await }
        }
    ),
    request!(
        "an upload of nothing",
        InvalidArgument,
        ["digest", "first message"],
        |channel| {
            async move {
                BlobServiceClient::new(channel)
                    .upload(tokio_stream::iter(Vec::new()))
                    .await
            }
        }
    ),
    request!(
        "bytes of another digest",
        DataLoss,
        ["have the digest", "upload them again"],
        |channel| { upload(channel, |message| message.data = b"wrong".to_vec().into()) }
    ),
    request!(
        "more bytes than announced",
        InvalidArgument,
        ["more than its declared 5 bytes"],
        |channel| { upload(channel, |message| message.data = vec![0; 6].into()) }
    ),
    request!(
        "fewer bytes than announced",
        Aborted,
        ["ended at byte 2 of 5"],
        |channel| { upload(channel, |message| message.data = vec![0; 2].into()) }
    ),
    request!(
        "an offset beyond the end",
        InvalidArgument,
        ["offset", "beyond the size of 5"],
        |channel| { upload(channel, |message| message.offset = 6) }
    ),
    request!(
        "a chunk beyond the limit",
        ResourceExhausted,
        ["data", "at most 1048576"],
        |channel| {
            upload(channel, |message| {
                (message.size, message.data) = (3 << 20, vec![0; 3 << 20].into())
            })
        }
    ),
    request!(
        "a message beyond the limit",
        ResourceExhausted,
        ["4194304"],
        |channel| {
            upload(channel, |message| {
                (message.size, message.data) = (5 << 20, vec![0; 5 << 20].into())
            })
        }
    ),
    request!(
        "a worker without a name",
        InvalidArgument,
        ["worker", "must be given"],
        |channel| {
            let lease = v1::LeaseRequest::default();
            async move { WorkerServiceClient::new(channel).lease(lease).await }
        }
    ),
    request!(
        "a worker that has what is no job",
        InvalidArgument,
        ["jobs[1]"],
        |channel| {
            let lease = v1::LeaseRequest {
                worker: "w".to_owned(),
                jobs: vec![
                    "jobs/00000000-0000-7000-8000-000000000000".to_owned(),
                    "jobs/x".to_owned(),
                ],
                ..Default::default()
            };
            async move { WorkerServiceClient::new(channel).lease(lease).await }
        }
    ),
    request!(
        "a wait in the past",
        InvalidArgument,
        ["max_wait", "time to wait"],
        |channel| {
            let max_wait = Some(prost_types::Duration {
                seconds: -5,
                nanos: 0,
            });
            let lease = v1::LeaseRequest {
                worker: "w".to_owned(),
                max_wait,
                ..Default::default()
            };
            async move { WorkerServiceClient::new(channel).lease(lease).await }
        }
    ),
    request!(
        "a result without a lease",
        InvalidArgument,
        ["lease", "is missing"],
        |channel| {
            let complete = v1::CompleteRequest {
                worker: "w".to_owned(),
                ..Default::default()
            };
            async move { WorkerServiceClient::new(channel).complete(complete).await }
        }
    ),
    request!(
        "a result of a task that is none",
        InvalidArgument,
        ["lease.task", "lease.lease_id", "lease.attempt"],
        |channel| {
            let lease = Some(v1::LeaseRef {
                task: "task 1".to_owned(),
                ..Default::default()
            });
            let complete = v1::CompleteRequest {
                worker: "w".to_owned(),
                lease,
                ..Default::default()
            };
            async move { WorkerServiceClient::new(channel).complete(complete).await }
        }
    ),
    request!(
        "events that only the server writes",
        InvalidArgument,
        ["events[0]", "only the server writes"],
        |channel| {
            let detail = Some(v1::event_detail::Detail::StateChanged(
                v1::StateChanged::default(),
            ));
            let events = vec![v1::EventDetail { detail }];
            let complete = v1::CompleteRequest {
                worker: "w".to_owned(),
                events,
                ..Default::default()
            };
            async move { WorkerServiceClient::new(channel).complete(complete).await }
        }
    ),
];
