//! A server whose disk takes no more.

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use dual16_proto::v1;
use tonic::transport::Channel;

use super::{support::*, terminate, wait_for};

/// A disk that takes no more, by way of the system's limit on the size of a file.
#[tokio::test]
async fn after_a_failed_write_the_server_says_that_it_does_not_serve() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

    let data = tempfile::tempdir().unwrap();
    let port_file = data.path().join("port");
    let mut shell = Command::new("sh");
    // In blocks of 512 bytes: 5 MiB. Without the trap, the signal would end the process.
    shell.args(["-c", "trap '' XFSZ; ulimit -f 10240; exec \"$@\"", "sh"]);
    shell.arg(env!("CARGO_BIN_EXE_dual16-server"));
    shell.args(["--listen", "127.0.0.1:0", "--data"]);
    shell
        .arg(data.path().join("data"))
        .arg("--port-file")
        .arg(&port_file);
    shell.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = shell.spawn().unwrap();
    wait_for("the port file", || port_file.exists());
    let addr = fs::read_to_string(&port_file).unwrap().trim().to_owned();
    let channel = Channel::from_shared(format!("http://{addr}")).unwrap();
    let channel = channel.connect().await.unwrap();

    let mut blobs = v1::blob_service_client::BlobServiceClient::new(channel.clone());
    let mut jobs = v1::job_service_client::JobServiceClient::new(channel.clone());
    let digest = dual16_server::digest::Digest::of(b"batch").to_string();
    let upload = v1::UploadRequest {
        digest: digest.clone(),
        size: 5,
        offset: 0,
        data: b"batch"[..].into(),
    };
    blobs.upload(tokio_stream::once(upload)).await.unwrap();
    let file = |name: String| v1::InputFile {
        name,
        digest: digest.clone(),
        size: 5,
    };
    let onnx = v1::OnnxModel {
        model: Some(file("model.onnx".into())),
        external_data: Vec::new(),
    };
    let spec = v1::JobSpec {
        model: Some(v1::job_spec::Model::Onnx(onnx)),
        calibration: (0..8_000).map(|i| file(format!("calib/{i:06}"))).collect(),
        ..v1::JobSpec::default()
    };
    let mut created = Vec::new();
    let failed = loop {
        let request = v1::CreateJobRequest {
            spec: Some(spec.clone()),
            ..v1::CreateJobRequest::default()
        };
        match jobs.create_job(request).await {
            Ok(job) => created.push(job.into_inner().name),
            Err(failed) => break failed,
        }
        assert!(created.len() < 20, "the limit was never met");
    };
    assert_eq!(reason(&failed).0, "STORE_FAILED");
    let mut health = HealthClient::new(channel);
    for service in ["", "dual16.v1.JobService"] {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let request = HealthCheckRequest {
                service: service.into(),
            };
            let status = health.check(request).await.unwrap().into_inner().status;
            if status == 2 {
                break;
            }
            assert!(Instant::now() < deadline, "{service:?} still says {status}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    tokio::task::spawn_blocking(|| terminate(child))
        .await
        .unwrap();

    // What it said yes to is there once there is room.
    let server = serve(&data.path().join("data")).await;
    for name in created {
        assert_eq!(server.job(&name).await.name, name);
    }
}
