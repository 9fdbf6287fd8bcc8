//! Tasks through the queue, each leased and completed over gRPC and durable on sled before its
//! worker hears so: by one client, which waits for the disk twice a task, and by sixteen, whose
//! commits share their syncs.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what criterion's macros make; and a bench that cannot run says so by a panic"
)]

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use dual16_proto::{
    digest::Digest,
    v1::{
        CompleteRequest, CreateJobRequest, Finish, InputFile, JobSpec, Lease, LeaseRef,
        LeaseRequest, OnnxModel, Payload, QuantizeSpec, Stage, TaskKind, UploadRequest,
        blob_service_client::BlobServiceClient, complete_request::Next,
        job_service_client::JobServiceClient, job_spec, payload::Kind,
        worker_service_client::WorkerServiceClient,
    },
};
use dual16_server::{RunningServer, ServerOptions};
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Builder, task::JoinSet};
use tonic::transport::Channel;

/// The server does not look into a model.
const MODEL: &[u8] = b"a model, as far as a queue knows";
/// Far below the limit of a stage.
const MAPS: u64 = 2000;

struct Queue {
    url: String,
    channel: Channel,
    _server: RunningServer,
    _data: TempDir,
}

impl Queue {
    async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let options = ServerOptions::new(data.path().join("state"));
        let server = dual16_server::start(options, listener).await.unwrap();
        let url = format!("http://{}", server.addr());
        let channel = connect(&url).await;
        let upload = UploadRequest {
            digest: Digest::of(MODEL).to_string(),
            size: MODEL.len() as u64,
            offset: 0,
            data: MODEL.into(),
        };
        let mut blobs = BlobServiceClient::new(channel.clone());
        blobs.upload(tokio_stream::once(upload)).await.unwrap();
        Self {
            url,
            channel,
            _server: server,
            _data: data,
        }
    }

    /// Time that `clients` take for `tasks` tasks together.
    async fn run(&self, clients: u64, tasks: u64) -> Duration {
        let mut taken = Duration::ZERO;
        let mut left = tasks;
        while left > 0 {
            let maps = left.min(MAPS);
            self.queue(maps).await;
            taken += self.work(clients, maps).await;
            self.end().await;
            left -= maps;
        }
        taken
    }

    /// A job whose next stage has `maps` maps.
    async fn queue(&self, maps: u64) {
        let model = InputFile {
            name: "model.onnx".to_owned(),
            digest: Digest::of(MODEL).to_string(),
            size: MODEL.len() as u64,
        };
        let spec = JobSpec {
            model: Some(job_spec::Model::Onnx(OnnxModel {
                model: Some(model.clone()),
                external_data: Vec::new(),
            })),
            calibration: vec![InputFile {
                name: "calib/000.safetensors".to_owned(),
                ..model
            }],
            quantize: Some(QuantizeSpec::default()),
            ..JobSpec::default()
        };
        let request = CreateJobRequest {
            spec: Some(spec),
            ..CreateJobRequest::default()
        };
        let mut jobs = JobServiceClient::new(self.channel.clone());
        jobs.create_job(request).await.unwrap();
        let mut worker = WorkerServiceClient::new(self.channel.clone());
        let plan = lease(&mut worker).await;
        let stage = Stage {
            name: "measure".to_owned(),
            maps: (0..maps).map(|_| inline()).collect(),
            reduce: Some(inline()),
            expected_seconds: 0,
        };
        complete(&mut worker, plan, Some(Next::Stage(stage))).await;
    }

    async fn work(&self, clients: u64, tasks: u64) -> Duration {
        let mut workers = Vec::new();
        for _ in 0..clients {
            workers.push(WorkerServiceClient::new(connect(&self.url).await));
        }
        let left = Arc::new(AtomicU64::new(tasks));
        let begun = Instant::now();
        let mut running = JoinSet::new();
        for mut worker in workers {
            let left = Arc::clone(&left);
            running.spawn(async move {
                let one_less = |left: u64| left.checked_sub(1);
                while left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
                    .is_ok()
                {
                    let task = lease(&mut worker).await;
                    assert_eq!(task.kind(), TaskKind::Map);
                    complete(&mut worker, task, None).await;
                }
            });
        }
        while let Some(ended) = running.join_next().await {
            ended.unwrap();
        }
        begun.elapsed()
    }

    async fn end(&self) {
        let mut worker = WorkerServiceClient::new(self.channel.clone());
        let reduce = lease(&mut worker).await;
        assert_eq!(reduce.kind(), TaskKind::Reduce);
        complete(&mut worker, reduce, Some(Next::Finish(Finish::default()))).await;
    }
}

async fn connect(url: &str) -> Channel {
    let endpoint = Channel::from_shared(url.to_owned()).unwrap();
    endpoint.tcp_nodelay(true).connect().await.unwrap()
}

async fn lease(worker: &mut WorkerServiceClient<Channel>) -> Lease {
    let request = LeaseRequest {
        worker: "bench".to_owned(),
        max_tasks: 1,
        max_wait: None,
        jobs: Vec::new(),
    };
    let mut leases = worker.lease(request).await.unwrap().into_inner().leases;
    leases.pop().expect("a task is queued for everyone")
}

async fn complete(worker: &mut WorkerServiceClient<Channel>, task: Lease, next: Option<Next>) {
    let request = CompleteRequest {
        lease: Some(LeaseRef {
            task: task.task,
            lease_id: task.lease_id,
            attempt: task.attempt,
        }),
        worker: "bench".to_owned(),
        result: Some(inline()),
        events: Vec::new(),
        next,
        ..CompleteRequest::default()
    };
    worker.complete(request).await.unwrap();
}

/// As large as the results of most maps are.
fn inline() -> Payload {
    Payload {
        kind: Some(Kind::Inline(vec![7; 1000])),
    }
}

fn tasks(criterion: &mut Criterion) {
    let runtime = Builder::new_multi_thread().enable_all().build().unwrap();
    let queue = runtime.block_on(Queue::start());
    let mut group = criterion.benchmark_group("lease_and_complete");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(1));
    for clients in [16, 1] {
        group.bench_function(format!("clients_{clients}"), |bench| {
            bench.iter_custom(|times| runtime.block_on(queue.run(clients, times)));
        });
    }
    group.finish();
}

fn settings() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(4))
}

criterion_group! { name = benches; config = settings(); targets = tasks }
criterion_main!(benches);
