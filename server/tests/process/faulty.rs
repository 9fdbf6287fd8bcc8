//! A server process that is made to meet what goes wrong with files, and logs all it can of it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Child, ChildStderr, Command, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use dual16_proto::v1::{
    self, blob_service_client::BlobServiceClient, job_service_client::JobServiceClient,
};
use dual16_server::{access::secret::Token, digest::Digest};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tempfile::TempDir;
use tonic::{Code, Request, Status, transport::Channel};

use super::{support::*, terminate, wait_for};

/// Files do not grow beyond it, while a disk is said to be full.
const SHORT: u64 = 64 * 1024;
const LONGER: &[u8] = &[7; 2 * SHORT as usize];

/// The server, and who may call it.
pub(crate) struct Faulty {
    folder: TempDir,
    pub(crate) token: Token,
    child: Child,
    channel: Channel,
    log: Log,
}

impl Faulty {
    pub(crate) fn start(folder: TempDir) -> Self {
        let token = Token::generate().unwrap();
        let file = |name: &str| folder.path().join(name);
        for old in ["audit", "port", "ops"] {
            let _ = fs::remove_file(file(old));
        }
        fs::write(file("tokens"), entry(&token)).unwrap();
        let mut shell = Command::new("sh");
        // Without the trap, a file that may not grow would end the process.
        shell.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]);
        shell.arg(env!("CARGO_BIN_EXE_dual16-server"));
        // With this grace, blobs are looked through every second.
        shell.args("--log trace --log-format json --blob-grace 4".split(' '));
        shell.args("--listen 127.0.0.1:0 --ops-listen 127.0.0.1:0".split(' '));
        for (flag, name) in [
            ("--data", "data"),
            ("--tokens", "tokens"),
            ("--audit-log", "audit"),
            ("--port-file", "port"),
            ("--ops-port-file", "ops"),
        ] {
            shell.arg(flag).arg(file(name));
        }
        shell.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = shell.spawn().unwrap();
        let log = Log::of(child.stderr.take().unwrap());
        wait_for("the port files", || {
            file("port").exists() && file("ops").exists()
        });
        let addr = fs::read_to_string(file("port")).unwrap();
        let channel = Channel::from_shared(format!("http://{}", addr.trim())).unwrap();
        Self {
            channel: channel.connect_lazy(),
            folder,
            token,
            child,
            log,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn hangup(&self) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-HUP", &pid]).status();
        assert!(status.unwrap().success());
    }

    /// Ends it; returns all that it logged.
    pub(crate) fn end(self) -> (TempDir, String) {
        terminate(self.child);
        (self.folder, self.log.end())
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let token = format!("Bearer {}", self.token.reveal());
        let metadata = request.metadata_mut();
        metadata.insert("authorization", token.parse().unwrap());
        request
    }

    fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.channel.clone())
    }

    fn blobs(&self) -> BlobServiceClient<Channel> {
        BlobServiceClient::new(self.channel.clone())
    }

    pub(crate) async fn get_job(&self, name: &str) -> Result<(), Status> {
        let request = v1::GetJobRequest { name: name.into() };
        let got = self.jobs().get_job(self.request(request)).await;
        got.map(|_| ())
    }

    async fn upload(&self, data: &[u8]) -> Result<v1::InputFile, Status> {
        let file = input_file(data);
        let message = v1::UploadRequest {
            digest: file.digest.clone(),
            size: file.size,
            offset: 0,
            data: data.to_vec().into(),
        };
        let message = self.request(tokio_stream::once(message));
        self.blobs().upload(message).await.map(|_| file)
    }

    /// Submits a job, and uploads for it what is not there.
    pub(crate) async fn create_job(&self) -> Result<String, Status> {
        self.upload(b"model").await?;
        self.upload(b"batch").await?;
        self.submit().await
    }

    async fn submit(&self) -> Result<String, Status> {
        let named = |name: &str, data| v1::InputFile {
            name: name.into(),
            ..input_file(data)
        };
        let onnx = v1::OnnxModel {
            model: Some(named("model.onnx", b"model")),
            external_data: Vec::new(),
        };
        let request = v1::CreateJobRequest {
            spec: Some(v1::JobSpec {
                model: Some(v1::job_spec::Model::Onnx(onnx)),
                calibration: vec![named("calib/0.npz", b"batch")],
                ..v1::JobSpec::default()
            }),
            ..v1::CreateJobRequest::default()
        };
        let created = self.jobs().create_job(self.request(request)).await;
        created.map(|job| job.into_inner().name)
    }

    /// No file of the server grows beyond so many bytes.
    fn limit_files(&self, bytes: Option<u64>) {
        let pid = Pid::from_child(&self.child);
        let limit = Rlimit {
            current: bytes,
            maximum: None,
        };
        prlimit(Some(pid), Resource::Fsize, limit).unwrap();
    }

    /// Puts the token where it does not belong.
    pub(crate) fn mistake_the_tokens(&self) {
        let (file, token) = (self.file("tokens"), self.token.reveal());
        let good = entry(&self.token);
        let wrong = [
            good.replace("[\"submit\"]", &format!("\"{token}\"")),
            good.replace("submit", token),
            good.replace("\"ci\"", &format!("\"{token}\"")),
            good.replace("\"ci\"", &format!("\"{token}")),
            good.replace(&self.token.hash().to_string(), token),
            format!("{good}expires = \"{token}\"\n"),
            format!("{good}{token} = 1\n"),
            format!("{good}[{token}]\n"),
            token.to_owned(),
        ];
        for wrong in wrong {
            let mark = self.log.len();
            fs::write(&file, &wrong).unwrap();
            self.hangup();
            self.log
                .wait_for(mark, "--tokens: changed, but cannot be used");
        }
        let mark = self.log.len();
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        self.hangup();
        self.log
            .wait_for(mark, "--tokens: changed, but cannot be used");
        fs::remove_dir(&file).unwrap();
    }

    /// From here on the audit log is a full device.
    pub(crate) async fn fill_the_audit_log(&self) {
        let mark = self.log.len();
        fs::rename(self.file("audit"), self.file("audit.1")).unwrap();
        symlink("/dev/full", self.file("audit")).unwrap();
        self.hangup();
        // It may be opened again a moment later.
        wait_for("a lost line", || {
            let audited = self.create_job();
            let audited =
                tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(audited));
            audited.unwrap();
            self.log
                .has(mark, "--audit-log: a line could not be written")
        });
    }

    pub(crate) async fn upload_to_a_full_disk(&self) -> Status {
        self.limit_files(Some(SHORT));
        let refused = self.upload(LONGER).await.unwrap_err();
        self.limit_files(None);
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
        // It goes on when there is room.
        self.upload(LONGER).await.unwrap();
        refused
    }

    /// Where the blobs were there is a file.
    pub(crate) async fn lose_the_blobs(&self) -> Vec<Status> {
        let mark = self.log.len();
        let (blobs, away) = (self.file("data/blobs"), self.file("away"));
        fs::rename(&blobs, &away).unwrap();
        fs::write(&blobs, "no folder").unwrap();
        let find = v1::FindMissingRequest {
            digests: vec![input_file(b"model").digest],
        };
        let download = v1::DownloadRequest {
            digest: input_file(b"model").digest,
            ..v1::DownloadRequest::default()
        };
        let mut told = vec![self.upload(b"new").await.unwrap_err()];
        told.extend(self.blobs().find_missing(self.request(find)).await.err());
        told.extend(self.blobs().download(self.request(download)).await.err());
        assert_eq!(told.len(), 3, "{told:?}");
        self.log.wait_for(mark, "blobs were not collected");
        fs::remove_file(&blobs).unwrap();
        fs::rename(&away, &blobs).unwrap();
        told
    }

    /// Takes the data directory away, and asks whether the server is ready.
    pub(crate) fn move_the_data(&self) -> String {
        let (data, away) = (self.file("data"), self.file("away"));
        fs::rename(&data, &away).unwrap();
        let ops = self.ask_ops();
        assert!(ops.contains("503"), "{ops}");
        fs::rename(&away, &data).unwrap();
        ops
    }

    pub(crate) async fn fail_the_store(&self) -> Status {
        self.limit_files(Some(0));
        let refused = self.submit().await.unwrap_err();
        assert_eq!(reason(&refused).0, "STORE_FAILED");
        self.limit_files(None);
        refused
    }

    fn ask_ops(&self) -> String {
        let address = fs::read_to_string(self.file("ops")).unwrap();
        let mut answers = String::new();
        for path in ["/livez", "/readyz", "/metrics", "/elsewhere"] {
            let mut stream = TcpStream::connect(address.trim()).unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            stream.read_to_string(&mut answers).unwrap();
        }
        answers
    }
}

/// What a process writes to its stderr, as it comes.
struct Log {
    text: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Log {
    fn of(stderr: ChildStderr) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let read = Arc::clone(&text);
        let reader = thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let mut text = read.lock().unwrap();
                *text += &line.unwrap();
                *text += "\n";
            }
        });
        Self { text, reader }
    }

    fn len(&self) -> usize {
        self.text.lock().unwrap().len()
    }

    fn has(&self, from: usize, part: &str) -> bool {
        self.text.lock().unwrap()[from..].contains(part)
    }

    fn wait_for(&self, from: usize, part: &str) {
        wait_for(part, || self.has(from, part));
    }

    fn end(self) -> String {
        self.reader.join().unwrap();
        self.text.lock().unwrap().clone()
    }
}

fn entry(token: &Token) -> String {
    format!(
        "[[token]]\nprincipal = \"ci\"\nroles = [\"submit\"]\nsha256 = \"{}\"\n",
        token.hash()
    )
}

fn input_file(data: &[u8]) -> v1::InputFile {
    v1::InputFile {
        name: String::new(),
        digest: Digest::of(data).to_string(),
        size: data.len() as u64,
    }
}
