//! The article's model from submit to artifacts on a running server and worker, with MSE observers,
//! eight batches and all ways of its middle Linear, and its counterparts in the same run:
//!
//! - `all_ways`: one job that measures every way, as many tasks at a time as there are cores.
//! - `all_ways_one_slot`: the same, one task at a time.
//! - `a_job_for_each_way`: what a script does that knows one configuration at a time, as the
//!   article's: five jobs, one after the other.
//!
//! Each begins with a server that has seen nothing: hashing and uploading the inputs is a part of
//! it, starting the processes is not.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what criterion's macros make; and a bench that cannot run says so by a panic"
)]

use std::{
    num::NonZeroUsize,
    path::Path,
    time::{Duration, Instant},
};

use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use dual16::{
    api::{Client, ConnectOptions, Fetched, JobName},
    inputs::{ModelPath, Sources, prepare},
    local::{LocalCluster, State, Workers},
};
use dual16_proto::v1::{
    CreateJobRequest, JobState, LayerSetting, QuantizeSpec, layer_setting::Value,
};
use dual16_tests::data::smallmodel;
use tokio::runtime::{Builder, Runtime};

const WAYS: [&str; 5] = ["a16w8", "a8w16", "mul_sum", "split", "a16w16"];

/// MSE observers, and one way or "auto" for the Linear that int8 hurts. The toolchain is the one
/// that runs all five.
fn settings_of(way: &str) -> QuantizeSpec {
    QuantizeSpec {
        observer: "mse".to_owned(),
        toolchain: "oe-3.2".to_owned(),
        settings: vec![LayerSetting {
            name: "linear2".to_owned(),
            value: Some(Value::Way(way.to_owned())),
        }],
        ..QuantizeSpec::default()
    }
}

/// One job, from its files to the folder `out`.
async fn run_job(client: &Client, quantize: QuantizeSpec, out: &Path) {
    let model = smallmodel();
    let sources = Sources::find(
        ModelPath::Onnx(model.join("model.onnx")),
        &model.join("calib"),
        Some(&model.join("eval.safetensors")),
    );
    let job = prepare(sources.unwrap(), quantize, None, &|_| {}).unwrap();
    for blob in client.find_missing(&job.blobs).await.unwrap() {
        client.upload(&blob, &|_| {}).await.unwrap();
    }
    let request = CreateJobRequest {
        spec: Some(job.spec),
        display_name: job.display_name,
        ..CreateJobRequest::default()
    };
    let created = client.create_job(request).await.unwrap();
    let name: JobName = created.name.parse().unwrap();
    let mut events = client.watch(&name, 0);
    while events.next().await.unwrap().is_some() {}
    let ended = client.get_job(&name).await.unwrap();
    assert_eq!(ended.state(), JobState::Succeeded, "{:?}", ended.error);
    let fetched = client.fetch(&ended.artifacts, out, &|_| {}).await.unwrap();
    let converted = |file: &Fetched| file.path.ends_with("converted.safetensors");
    assert!(fetched.iter().any(converted), "{fetched:?}");
}

/// Time of jobs with these ways, one after the other, on a new cluster.
async fn on_new_cluster(workers: Workers, ways: &[&str]) -> Duration {
    let state = tempfile::tempdir().unwrap();
    let data = state.path().join("state");
    let cluster = LocalCluster::start(&data, State::OfOneCommand, workers, None)
        .await
        .unwrap();
    let client = Client::connect(ConnectOptions::new(cluster.url()));
    let client = client.await.unwrap();
    let begun = Instant::now();
    for way in ways {
        run_job(&client, settings_of(way), &state.path().join(way)).await;
    }
    let taken = begun.elapsed();
    drop(client);
    cluster.shutdown().await;
    taken
}

fn bench(
    criterion: &mut Criterion,
    runtime: &Runtime,
    name: &str,
    workers: Workers,
    ways: &[&str],
) {
    let mut group = criterion.benchmark_group("article_job");
    group.sampling_mode(SamplingMode::Flat);
    group.bench_function(name, |bench| {
        bench.iter_custom(|times| {
            (0..times)
                .map(|_| runtime.block_on(on_new_cluster(workers, ways)))
                .sum()
        });
    });
    group.finish();
}

fn jobs(criterion: &mut Criterion) {
    let runtime = Builder::new_multi_thread().enable_all().build().unwrap();
    // First: the first worker of a process decides how many threads compute.
    bench(criterion, &runtime, "all_ways", Workers::Cores, &["auto"]);
    let one = Workers::Count(NonZeroUsize::MIN);
    bench(criterion, &runtime, "all_ways_one_slot", one, &["auto"]);
    bench(
        criterion,
        &runtime,
        "a_job_for_each_way",
        Workers::Cores,
        &WAYS,
    );
}

fn settings() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(5))
}

criterion_group! { name = benches; config = settings(); targets = jobs }
criterion_main!(benches);
