//! How many workers are wanted: a client of KEDA's own contract asks a running server, as KEDA does.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use dual16_proto::externalscaler::{
    GetMetricsRequest, ScaledObjectRef, external_scaler_client::ExternalScalerClient,
};
use dual16_tests::{Dual16, ServerProcess, WorkerProcess, data::smallmodel};
use tokio::time::timeout;
use tonic::{Code, transport::Channel};

const LIMIT: Duration = Duration::from_secs(120);

type Scaler = ExternalScalerClient<Channel>;

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_wanted_from_the_first_task_to_the_last() {
    let server = ServerProcess::start();
    let mut scaler = Scaler::connect(server.url()).await.unwrap();
    let spec = scaler.get_metric_spec(object("4")).await.unwrap();
    let spec = spec.into_inner().metric_specs;
    assert_eq!(spec.len(), 1, "{spec:?}");
    assert_eq!((spec[0].target_size, spec[0].target_size_float), (4, 4.0));
    let metric = spec[0].metric_name.clone();
    let active = scaler.stream_is_active(object("4")).await.unwrap();
    let mut active = active.into_inner();
    let mut change = async || {
        let change = timeout(LIMIT, active.message()).await.unwrap();
        change.unwrap().unwrap().result
    };

    assert_eq!(tasks(&mut scaler, &metric).await, 0);
    assert!(!change().await);
    // Nobody works: each job waits with its first task.
    let submit = || server.submit(Dual16::quantize(&smallmodel()));
    let first = submit();
    assert!(change().await);
    assert_eq!(tasks(&mut scaler, &metric).await, 1);
    let second = submit();
    assert_eq!(tasks(&mut scaler, &metric).await, 2);

    let worker = WorkerProcess::start(&server, "worker", 1);
    let deadline = Instant::now() + LIMIT;
    let mut most = 0;
    loop {
        let left = tasks(&mut scaler, &metric).await;
        most = left.max(most);
        if left == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{left} tasks are left");
    }
    assert!(most > 2, "a stage of many tasks was not seen: {most}");
    // Between two stages there is always a task: nobody is sent away too soon.
    for job in [&first, &second] {
        assert_eq!(server.ask(&["show", job])["state"], "SUCCEEDED");
    }
    assert!(!change().await);
    assert!(worker.drain().status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scaled_object_that_makes_no_sense_is_told_what_would() {
    let server = ServerProcess::start();
    let mut scaler = Scaler::connect(server.url()).await.unwrap();
    for bad in ["", "0", "-1", "1.5", "four", "10001", "99999999999999"] {
        let refused = scaler.get_metric_spec(object(bad)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{bad}");
        let told = refused.message();
        assert!(
            told.contains("scalerMetadata.tasksPerWorker") && told.contains("from 1 to 10000"),
            "{told}"
        );
    }
    let nothing = ScaledObjectRef::default();
    let refused = scaler.is_active(nothing.clone()).await.unwrap_err();
    assert!(refused.message().contains("is missing"), "{refused}");
    let refused = scaler.stream_is_active(nothing).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let other = GetMetricsRequest {
        scaled_object_ref: Some(object("4")),
        metric_name: "s0-other".into(),
    };
    let refused = scaler.get_metrics(other).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("dual16-tasks"), "{refused}");
}

/// As KEDA sends it, with what is KEDA's own among the metadata.
fn object(tasks_per_worker: &str) -> ScaledObjectRef {
    let metadata = [
        ("scalerAddress", "dual16-server.dual16:7016"),
        ("enableTLS", "true"),
        ("tasksPerWorker", tasks_per_worker),
    ];
    ScaledObjectRef {
        name: "dual16-worker".into(),
        namespace: "dual16".into(),
        scaler_metadata: HashMap::from(metadata.map(|(key, value)| (key.into(), value.into()))),
    }
}

/// The metric, which must agree with itself and with what is said of activity.
async fn tasks(scaler: &mut Scaler, metric: &str) -> i64 {
    let request = GetMetricsRequest {
        scaled_object_ref: Some(object("4")),
        metric_name: metric.into(),
    };
    let values = scaler.get_metrics(request).await.unwrap().into_inner();
    let [value] = &values.metric_values[..] else {
        panic!("{values:?}")
    };
    assert_eq!(value.metric_name, metric);
    assert_eq!(value.metric_value as f64, value.metric_value_float);
    value.metric_value
}
