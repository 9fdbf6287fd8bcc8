//! A server process with TLS, and the files of those who call it.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use dual16_tests::{
    process::{Finished, Process},
    programs::program,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);
const CLIENT_NAME: &str = "client.example";

/// A certificate authority of the test's own.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    fn write(&self, folder: &Path, stem: &str, names: &[&str], expired: bool) -> [PathBuf; 2] {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        if expired {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 2, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let [certificate_file, key_file] =
            ["crt", "key"].map(|end| folder.join(format!("{stem}.{end}")));
        fs::write(&certificate_file, certificate.pem()).unwrap();
        fs::write(&key_file, key.serialize_pem()).unwrap();
        [certificate_file, key_file]
    }

    /// The flags of a new client certificate.
    pub(super) fn client_files(&self, folder: &Path) -> Vec<PathBuf> {
        let [certificate, key] = self.write(folder, "client", &[CLIENT_NAME], false);
        vec!["--tls-cert".into(), certificate, "--tls-key".into(), key]
    }
}

/// A server process; its tokens file and certificates are in a folder of its own.
pub(super) struct Secured {
    process: Process,
    address: String,
    scheme: &'static str,
    folder: TempDir,
    authority: Authority,
    entries: String,
}

impl Secured {
    /// With mutual TLS and a tokens file.
    pub(super) fn start_mutual() -> Self {
        Self::start(|authority, folder| {
            let [certificate, key] = authority.write(folder, "server", &["127.0.0.1"], false);
            let ca = folder.join("client-ca");
            fs::write(&ca, authority.pem()).unwrap();
            // Somebody must be there; nobody has this token.
            let tokens = folder.join("tokens");
            fs::write(&tokens, token_entry("nobody", "admin", &"0".repeat(64))).unwrap();
            vec![
                ("--tls-cert", certificate),
                ("--tls-key", key),
                ("--tls-client-ca", ca),
                ("--tokens", tokens),
            ]
        })
    }

    /// With a certificate of the past.
    pub(super) fn start_expired() -> Self {
        Self::start(|authority, folder| {
            let [certificate, key] = authority.write(folder, "server", &["127.0.0.1"], true);
            vec![("--tls-cert", certificate), ("--tls-key", key)]
        })
    }

    /// With a certificate for these names.
    pub(super) fn start_for(names: &[&str]) -> Self {
        Self::start(|authority, folder| {
            let [certificate, key] = authority.write(folder, "server", names, false);
            vec![("--tls-cert", certificate), ("--tls-key", key)]
        })
    }

    /// On plain HTTP, for everyone.
    pub(super) fn start_plain() -> Self {
        Self::start(|_, _| Vec::new())
    }

    fn start(flags: impl FnOnce(&Authority, &Path) -> Vec<(&'static str, PathBuf)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let flags = flags(&authority, folder.path());
        let tls = flags.iter().any(|(flag, _)| *flag == "--tls-cert");
        let port_file = folder.path().join("port");
        let mut command = Command::new(program("dual16-server"));
        command.args(["--listen", "127.0.0.1:0", "--log", "debug"]);
        command.arg("--port-file").arg(&port_file);
        command.arg("--data").arg(folder.path().join("state"));
        for (flag, file) in flags {
            command.arg(flag).arg(file);
        }
        let mut process = Process::spawn("dual16-server", command);
        let deadline = Instant::now() + LIMIT;
        let address = loop {
            if let Ok(address) = fs::read_to_string(&port_file) {
                break address.trim().to_owned();
            }
            let alive = process.is_running() && Instant::now() < deadline;
            assert!(alive, "the server does not listen: {}", process.stderr());
            thread::sleep(Duration::from_millis(10));
        };
        Self {
            process,
            address,
            scheme: if tls { "https" } else { "http" },
            folder,
            authority,
            entries: String::new(),
        }
    }

    pub(super) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file beside the server's.
    pub(super) fn file(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.folder().join(name);
        fs::write(&path, contents).unwrap();
        path
    }

    /// Makes a token with the server's own command; returns the file that holds it.
    pub(super) fn token(&mut self, principal: &str, role: &str) -> PathBuf {
        let mut command = Command::new(program("dual16-server"));
        command.args(["token", "new", "--principal", principal, "--role", role]);
        let made = Process::spawn("token new", command).wait(LIMIT).success();
        self.entries += &made.stderr;
        self.file(&format!("{principal}.token"), &made.stdout)
    }

    /// Lets whoever has the client certificate in as `principal`.
    pub(super) fn certificate_entry(&mut self, principal: &str, role: &str) {
        self.entries += &format!(
            "[[certificate]]\nprincipal = \"{principal}\"\nroles = [\"{role}\"]\nname = \"{CLIENT_NAME}\"\n"
        );
    }

    /// Puts the entries so far into the tokens file, and has the server read it.
    pub(super) fn reload(&self) {
        self.file("tokens", &self.entries);
        let read = || {
            self.process
                .stderr()
                .matches("--tokens: read again")
                .count()
        };
        let before = read();
        self.process.signal("HUP");
        let deadline = Instant::now() + LIMIT;
        while read() == before {
            assert!(Instant::now() < deadline, "{}", self.process.stderr());
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub(super) fn client_certificate(&self) -> Vec<PathBuf> {
        self.authority.client_files(self.folder())
    }

    /// The flags with which the server is trusted.
    pub(super) fn trust(&self) -> Vec<OsString> {
        let ca = self.file("ca", &self.authority.pem());
        vec![
            "--server".into(),
            self.url().into(),
            "--tls-ca".into(),
            ca.into(),
        ]
    }

    /// The flags with which the server is trusted and called with a client certificate.
    pub(super) fn flags(&self, certificate: &[PathBuf]) -> Vec<OsString> {
        let certificate = certificate.iter().map(|part| part.clone().into_os_string());
        self.trust().into_iter().chain(certificate).collect()
    }

    /// A worker that brings a client certificate and no token.
    pub(super) fn worker(&self, certificate: &[PathBuf]) -> Process {
        self.start_worker(self.flags(certificate))
    }

    /// The same with further arguments.
    pub(super) fn worker_and(&self, certificate: &[PathBuf], more: &[OsString]) -> Process {
        self.start_worker([&self.flags(certificate)[..], more].concat())
    }

    /// A worker with these flags alone.
    pub(super) fn worker_with(&self, flags: &[PathBuf]) -> Process {
        let mut all: Vec<OsString> = vec!["--server".into(), self.url().into()];
        all.extend(flags.iter().map(|flag| flag.clone().into_os_string()));
        self.start_worker(all)
    }

    fn start_worker(&self, flags: Vec<OsString>) -> Process {
        let mut command = Command::new(program("dual16-worker"));
        command
            .args(flags)
            .args(["--threads", "1", "--workers", "1"]);
        command.arg("--cache").arg(self.folder().join("cache"));
        Process::spawn("dual16-worker", command)
    }

    /// Ends the server and returns all that it logged.
    pub(super) fn stop(self) -> Finished {
        self.process.signal("TERM");
        self.process.wait(LIMIT)
    }
}

fn token_entry(principal: &str, role: &str, sha256: &str) -> String {
    format!("[[token]]\nprincipal = \"{principal}\"\nroles = [\"{role}\"]\nsha256 = \"{sha256}\"\n")
}
