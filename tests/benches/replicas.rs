//! How busy workers are that share three servers of one PostgreSQL database: 200 of them, whose tasks sleep,
//! for shorter and shorter times until the queue is what they wait for. `DUAL16_BENCH_POSTGRES` names the
//! database.
//!
//! ```sh
//! cargo bench --workspace --bench replicas
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a bench that cannot run says so by a panic"
)]

use std::{
    env,
    io::{self, Write as _},
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use dual16_proto::{
    digest::Digest,
    v1::{
        CompleteRequest, CreateJobRequest, InputFile, JobSpec, LayerModel, Lease, LeaseRef,
        LeaseRequest, Payload, Stage, TaskKind, UploadRequest,
        blob_service_client::BlobServiceClient, complete_request::Next,
        job_service_client::JobServiceClient, job_spec, payload::Kind,
        worker_service_client::WorkerServiceClient,
    },
};
use dual16_server::{RunningServer, ServerOptions};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinSet};
use tonic::transport::Channel;

const SERVERS: usize = 3;
const WORKERS: usize = 200;
/// Jobs that they work on at once.
const JOBS: usize = 8;
const MAPS: usize = 1_000;
const TASK_MILLIS: [u64; 4] = [2_000, 1_000, 500, 250];
const MEASURED: Duration = Duration::from_secs(20);
const MODEL: &[u8] = b"a model, as far as a queue knows";

#[tokio::main]
async fn main() {
    // Cargo asks for a list when it collects tests.
    if env::args().any(|argument| argument == "--list" || argument == "--test") {
        return;
    }
    let mut out = io::stdout();
    let Ok(url) = env::var("DUAL16_BENCH_POSTGRES") else {
        writeln!(out, "replicas: DUAL16_BENCH_POSTGRES names no database").unwrap();
        return;
    };
    let mut servers = Vec::new();
    for _ in 0..SERVERS {
        servers.push(serve(&url).await);
    }
    for millis in TASK_MILLIS {
        let busy = busy(&servers, Duration::from_millis(millis)).await;
        let asked = WORKERS as f64 * 1e3 / millis as f64;
        writeln!(
            out,
            "{WORKERS} workers, {SERVERS} servers, tasks of {millis} ms ({asked:.0} a second at most): {:.1} % busy",
            busy * 100.0
        )
        .unwrap();
    }
}

async fn serve(url: &str) -> (Channel, RunningServer, TempDir) {
    let data = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let options = ServerOptions {
        store: Some(url.to_owned()),
        ..ServerOptions::new(data.path())
    };
    let server = dual16_server::start(options, listener).await.unwrap();
    let channel = Channel::from_shared(format!("http://{}", server.addr())).unwrap();
    let channel = channel.connect().await.unwrap();
    let upload = UploadRequest {
        digest: Digest::of(MODEL).to_string(),
        size: MODEL.len() as u64,
        offset: 0,
        data: MODEL.into(),
    };
    let mut blobs = BlobServiceClient::new(channel.clone());
    blobs.upload(tokio_stream::once(upload)).await.unwrap();
    (channel, server, data)
}

/// The part of their time that workers spent in tasks.
async fn busy(servers: &[(Channel, RunningServer, TempDir)], task: Duration) -> f64 {
    let mut jobs = JobServiceClient::new(servers[0].0.clone());
    let mut created = Vec::new();
    for _ in 0..JOBS {
        let job = jobs.create_job(creation()).await.unwrap().into_inner();
        created.push(job.name);
    }
    let worked = Arc::new(AtomicU64::new(0));
    let (counts, ended) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let mut working = JoinSet::new();
    for (worker, (channel, ..)) in (0..WORKERS).zip(servers.iter().cycle()) {
        let mut client = WorkerServiceClient::new(channel.clone());
        let (worked, counts, ended) =
            (Arc::clone(&worked), Arc::clone(&counts), Arc::clone(&ended));
        working.spawn(async move {
            let worker = format!("worker {worker}");
            while !ended.load(Ordering::Relaxed) {
                for lease in lease(&mut client, &worker).await {
                    let sleeps = match lease.stage.as_str() {
                        "plan" => Duration::ZERO,
                        _ => task,
                    };
                    tokio::time::sleep(sleeps).await;
                    if counts.load(Ordering::Relaxed) {
                        let micros = u64::try_from(sleeps.as_micros()).unwrap();
                        worked.fetch_add(micros, Ordering::Relaxed);
                    }
                    complete(&mut client, &worker, lease).await;
                }
            }
        });
    }
    // Plans are made, and everybody has begun.
    tokio::time::sleep(2 * task + Duration::from_secs(2)).await;
    counts.store(true, Ordering::Relaxed);
    let began = Instant::now();
    tokio::time::sleep(MEASURED).await;
    counts.store(false, Ordering::Relaxed);
    let share = worked.load(Ordering::Relaxed) as f64
        / (began.elapsed().as_micros() as f64 * WORKERS as f64);
    ended.store(true, Ordering::Relaxed);
    for name in created {
        let cancelled = jobs.cancel_job(dual16_proto::v1::CancelJobRequest { name });
        cancelled.await.unwrap();
    }
    working.shutdown().await;
    share
}

fn creation() -> CreateJobRequest {
    let file = |name: &str| InputFile {
        name: name.to_owned(),
        digest: Digest::of(MODEL).to_string(),
        size: MODEL.len() as u64,
    };
    CreateJobRequest {
        spec: Some(JobSpec {
            model: Some(job_spec::Model::Layers(LayerModel {
                weights: Some(file("weights.safetensors")),
            })),
            calibration: vec![file("0.safetensors")],
            ..JobSpec::default()
        }),
        ..CreateJobRequest::default()
    }
}

async fn lease(client: &mut WorkerServiceClient<Channel>, worker: &str) -> Vec<Lease> {
    let request = LeaseRequest {
        worker: worker.to_owned(),
        max_tasks: 1,
        max_wait: prost_types::Duration::try_from(Duration::from_secs(5)).ok(),
        jobs: Vec::new(),
    };
    client.lease(request).await.unwrap().into_inner().leases
}

async fn complete(client: &mut WorkerServiceClient<Channel>, worker: &str, lease: Lease) {
    let next = (lease.kind() == TaskKind::Reduce).then(|| {
        Next::Stage(Stage {
            name: "measure".to_owned(),
            maps: (0..MAPS).map(|_| inline()).collect(),
            reduce: Some(inline()),
            expected_seconds: 0,
        })
    });
    let request = CompleteRequest {
        lease: Some(LeaseRef {
            task: lease.task,
            lease_id: lease.lease_id,
            attempt: lease.attempt,
        }),
        worker: worker.to_owned(),
        result: Some(inline()),
        next,
        ..CompleteRequest::default()
    };
    // Of a job that was cancelled at the end.
    let _ = client.complete(request).await;
}

/// As large as the results of most maps are.
fn inline() -> Payload {
    Payload {
        kind: Some(Kind::Inline(vec![7; 1000])),
    }
}
