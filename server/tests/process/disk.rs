//! A server whose disk takes no more, or is full when it starts.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use dual16_proto::v1;
use tonic::{Code, transport::Channel};

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
        let request = submission(spec.clone());
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

/// Mounts a disk of 128 MiB on $1 and runs two servers on it, one after the other, with what is left
/// of the disk filled in between; only the second collects what no job keeps. $0 is the program, $2 a
/// folder for ports and process ids.
const SMALL_DISK: &str = r#"
mkdir "$1" && mount -t tmpfs -o size=128m tmpfs "$1" || exit 99
grace=86400
for run in first second; do
    "$0" --listen 127.0.0.1:0 --data "$1/data" --port-file "$2/$run" --blob-grace $grace \
        --drain-deadline 1 --log error &
    echo $! > "$2/$run.pid"
    wait $!
    cat /dev/zero > "$1/full" 2> "$2/filled"
    grace=1
done"#;

fn can_mount(folder: &Path) -> bool {
    let mount = ["-rm", "mount", "-t", "tmpfs", "tmpfs"];
    let mut probe = Command::new("unshare");
    let probe = probe.args(mount).arg(folder).stderr(Stdio::null()).status();
    probe.is_ok_and(|status| status.success())
}

/// The two servers on the small disk.
struct SmallDisk {
    ports: PathBuf,
    shell: Child,
}

impl SmallDisk {
    async fn connect(&self, run: &str) -> (Blobs, Jobs) {
        let port = self.ports.join(run);
        wait_for("the port file", || port.exists());
        let addr = fs::read_to_string(port).unwrap();
        let channel = Channel::from_shared(format!("http://{}", addr.trim())).unwrap();
        let channel = channel.connect().await.unwrap();
        (Blobs::new(channel.clone()), Jobs::new(channel))
    }

    fn stop(&self, run: &str) {
        let pid = fs::read_to_string(self.ports.join(format!("{run}.pid"))).unwrap();
        let stopped = Command::new("kill").arg(pid.trim()).status().unwrap();
        assert!(stopped.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // It ends by itself once its servers have, whichever of them runs.
        for run in ["first", "second"] {
            if let Ok(pid) = fs::read_to_string(self.ports.join(format!("{run}.pid"))) {
                let mut kill = Command::new("kill");
                let _ = kill.args(["-9", pid.trim()]).stderr(Stdio::null()).status();
            }
        }
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

type Blobs = v1::blob_service_client::BlobServiceClient<Channel>;
type Jobs = v1::job_service_client::JobServiceClient<Channel>;

/// Uploads 1 MiB that no other upload has.
async fn send(blobs: &Blobs, number: u8) -> Result<(), tonic::Status> {
    let data = vec![number; 1 << 20];
    let upload = v1::UploadRequest {
        digest: dual16_server::digest::Digest::of(&data).to_string(),
        size: 1 << 20,
        offset: 0,
        data: data.into(),
    };
    let upload = tokio_stream::once(upload);
    blobs.clone().upload(upload).await.map(drop)
}

async fn create(jobs: &mut Jobs, spec: &v1::JobSpec) -> v1::Job {
    let request = submission(spec.clone());
    jobs.create_job(request).await.unwrap().into_inner()
}

async fn cancel_and_delete(jobs: &mut Jobs, name: String) {
    let cancel = v1::CancelJobRequest { name: name.clone() };
    jobs.cancel_job(cancel).await.unwrap();
    jobs.delete_job(v1::DeleteJobRequest { name })
        .await
        .unwrap();
}

#[tokio::test]
async fn blobs_leave_room_for_jobs_and_a_server_that_starts_on_a_full_disk_comes_to_serve() {
    let folder = tempfile::tempdir().unwrap();
    if !can_mount(folder.path()) {
        // What is tested needs a disk of its own.
        return;
    }
    let mut shell = Command::new("unshare");
    shell.args(["-rm", "sh", "-c", SMALL_DISK]);
    shell.arg(env!("CARGO_BIN_EXE_dual16-server"));
    shell.arg(folder.path().join("disk")).arg(folder.path());
    let disk = SmallDisk {
        ports: folder.path().to_owned(),
        shell: shell.spawn().unwrap(),
    };

    let (blobs, mut jobs) = disk.connect("first").await;
    let spec = uploaded_spec(&blobs).await;
    let kept = create(&mut jobs, &spec).await;
    let mut number = 0;
    let full = loop {
        match send(&blobs, number).await {
            Ok(()) => number += 1,
            Err(full) => break full,
        }
        assert!(number < 128, "the disk has no end");
    };
    let (reason, details) = reason(&full);
    let wanted = (Code::ResourceExhausted, "STORAGE_FULL");
    assert_eq!((full.code(), reason.as_str()), wanted, "{full:?}");
    assert!(details.retry_info().is_some());
    for _ in 0..100 {
        let job = create(&mut jobs, &spec).await;
        cancel_and_delete(&mut jobs, job.name).await;
    }
    disk.stop("first");

    let (blobs, mut jobs) = disk.connect("second").await;
    let filled = fs::read_to_string(folder.path().join("filled")).unwrap();
    assert!(filled.contains("No space left"), "{filled}");
    // What no job keeps goes once its grace is over, and then there is room.
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(error) = send(&blobs, 200).await {
        assert_eq!(error.code(), Code::ResourceExhausted, "{error:?}");
        assert!(Instant::now() < deadline, "there is never any room");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let names = jobs.list_jobs(v1::ListJobsRequest::default()).await;
    let names: Vec<_> = names.unwrap().into_inner().jobs;
    assert_eq!(names.len(), 1);
    cancel_and_delete(&mut jobs, kept.name).await;
    disk.stop("second");
}
