//! The binary as an operator sees it: port file, log, signals, and errors before it starts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the helpers of tests fail as the tests themselves do"
)]

mod disclosure;
mod disk;
mod faulty;
#[path = "../support/mod.rs"]
mod support;
mod unread;

use std::{
    fs,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use dual16_proto::v1::{self, info_service_client::InfoServiceClient};
use support::*;
use tokio_stream::StreamExt as _;
use tonic::transport::Channel;

fn command(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dual16-server"));
    command
        .args(["--listen", "127.0.0.1:0", "--data"])
        .arg(data);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !ready() {
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn terminate(mut child: Child) -> Output {
    let status = Command::new("kill")
        .arg(child.id().to_string())
        .status()
        .unwrap();
    assert!(status.success());
    wait_for("the end", || child.try_wait().unwrap().is_some());
    child.wait_with_output().unwrap()
}

#[tokio::test]
async fn the_binary_serves_on_a_free_port_and_stops_on_sigterm() {
    let data = tempfile::tempdir().unwrap();
    let port_file = data.path().join("port");
    let child = command(data.path())
        .arg("--port-file")
        .arg(&port_file)
        .spawn()
        .unwrap();
    wait_for("the port file", || port_file.exists());
    let addr = fs::read_to_string(&port_file).unwrap().trim().to_owned();
    let mut info = InfoServiceClient::connect(format!("http://{addr}"))
        .await
        .unwrap();
    let answer = info
        .get_info(v1::GetInfoRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.limits.get("chunk_bytes"), Some(&(1 << 20)));

    let second = command(data.path()).output().unwrap();
    assert!(!second.status.success());
    let message = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(message.contains("in use by another server"), "{message}");

    // `info` stays connected, and silent: the server must stop all the same.
    let output = tokio::task::spawn_blocking(|| terminate(child))
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(log.contains(&format!("listening addr={addr}")), "{log}");
}

#[test]
fn what_the_server_keeps_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
    let port_file = data.join("port");
    let mut server = command(&data);
    let child = server
        .arg("--port-file")
        .arg(&port_file)
        .arg("--audit-log")
        .arg(data.join("audit"))
        .spawn()
        .unwrap();
    wait_for("the port file", || port_file.exists());
    terminate(child);
    let mut left = vec![data];
    let mut seen = 0;
    while let Some(path) = left.pop() {
        let found = fs::metadata(&path).unwrap();
        let mode = found.permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
        seen += 1;
        if found.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            left.extend(entries.map(|entry| entry.unwrap().path()));
        }
    }
    assert!(seen > 5, "{seen} files and folders");
}

#[test]
fn sigterm_ends_a_server_that_is_still_opening_its_store() {
    let data = tempfile::tempdir().unwrap();
    // Whoever opens a pipe to read waits for someone who writes: a disk that takes its time.
    fs::create_dir(data.path().join("store")).unwrap();
    let pipe = data.path().join("store/conf");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let ports = data.path().join("ops");
    let mut child = command(data.path())
        .args(["--ops-listen", "127.0.0.1:0", "--ops-port-file"])
        .arg(&ports)
        .spawn()
        .unwrap();
    // By then signals are caught.
    wait_for("the ops port", || ports.exists());
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "it does not wait");
    let output = terminate(child);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_data_directory_that_cannot_be_made_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let output = command(&file.join("data")).output().unwrap();
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        message.contains("data directory") && message.contains("file"),
        "{message}"
    );
}

#[tokio::test]
async fn health_and_reflection_are_served() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };

    let server = serve_new().await;
    let channel = Channel::from_shared(format!("http://{}", server.server.addr())).unwrap();
    let channel = channel.connect().await.unwrap();
    let mut health = HealthClient::new(channel.clone());
    for service in ["", "dual16.v1.JobService"] {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        let status = health.check(request).await.unwrap().into_inner().status;
        assert_eq!(status, 1, "SERVING");
    }
    let mut reflection = ServerReflectionClient::new(channel);
    let request = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let stream = reflection
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap();
    let answer = stream
        .into_inner()
        .next()
        .await
        .unwrap()
        .unwrap()
        .message_response;
    let Some(MessageResponse::ListServicesResponse(services)) = answer else {
        panic!()
    };
    let names: Vec<_> = services
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    for service in ["JobService", "BlobService", "WorkerService", "InfoService"] {
        assert!(
            names.contains(&format!("dual16.v1.{service}").as_str()),
            "{names:?}"
        );
    }
}

#[test]
fn an_address_that_others_reach_needs_tls_and_tokens() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dual16-server"));
    command.args(["--listen", "0.0.0.0:0", "--data"]);
    let output = command.arg(directory.path()).output().unwrap();
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    for part in [
        "--tls-cert",
        "--tls-key",
        "--tokens",
        "--insecure",
        "127.0.0.1",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

/// A server that was stopped, or a machine that was frozen, for longer than the leases last.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stood_still_takes_no_lease_away() {
    use v1::{
        blob_service_client::BlobServiceClient, job_service_client::JobServiceClient,
        worker_service_client::WorkerServiceClient,
    };

    const TTL: Duration = Duration::from_secs(2);
    let data = tempfile::tempdir().unwrap();
    let port_file = data.path().join("port");
    let child = command(data.path())
        .args(["--lease-ttl", "2", "--port-file"])
        .arg(&port_file)
        .spawn()
        .unwrap();
    let pid = child.id().to_string();
    let signal = |signal: &str| {
        let status = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(status.success());
    };
    wait_for("the port file", || port_file.exists());
    let addr = fs::read_to_string(&port_file).unwrap();
    let channel = Channel::from_shared(format!("http://{}", addr.trim())).unwrap();
    let channel = channel.connect().await.unwrap();
    let request = submission(uploaded_spec(&BlobServiceClient::new(channel.clone())).await);
    let mut jobs = JobServiceClient::new(channel.clone());
    jobs.create_job(request).await.unwrap();
    let mut workers = WorkerServiceClient::new(channel);
    let request = v1::LeaseRequest {
        worker: "live".into(),
        ..v1::LeaseRequest::default()
    };
    let leases = workers.lease(request).await.unwrap().into_inner().leases;
    let leases: Vec<_> = leases.iter().map(lease_ref).collect();
    assert_eq!(leases.len(), 1);
    let heartbeat = v1::HeartbeatRequest {
        worker: "live".into(),
        leases: leases.clone(),
    };

    signal("-STOP");
    tokio::time::sleep(TTL * 2).await;
    signal("-CONT");
    // Time for every look that was due meanwhile, and less than a term.
    tokio::time::sleep(TTL / 4).await;
    let answer = workers.heartbeat(heartbeat.clone()).await.unwrap();
    assert_eq!(answer.into_inner().revoked, [], "taken from a live worker");
    // Silence still loses it.
    tokio::time::sleep(TTL * 2).await;
    let answer = workers.heartbeat(heartbeat).await.unwrap();
    assert_eq!(answer.into_inner().revoked, leases);
    terminate(child);
}
