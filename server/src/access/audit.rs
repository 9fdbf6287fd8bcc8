//! The audit log: one line for each call that would change something, whatever became of it.
//!
//! Lines go to the server's log (target `audit`) and, where a file was named, to that file as JSON,
//! each in one write, so that lines are whole and in the file once the call has its answer, unless
//! the disk is slow. The file is opened again when the server is told to reload, which is what
//! rotates it. A line says who, from where, what, on what, how it ended, and the trace; never a
//! token, a path or contents.

mod strangers;
mod writer;

use std::{
    fs::{File, OpenOptions},
    io,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::Serialize;
use tonic::{Code, codegen::http::HeaderMap};
use uuid::Uuid;

use self::{strangers::Strangers, writer::Writer};
use super::scope::Subject;
use crate::{
    clock::{Clock, Timestamp},
    principal::Principal,
    reload::Reload,
    rpc::{
        code_name,
        policy::{Audited, Policy},
    },
};

/// Longest request id that is taken over from a caller, in bytes.
const MAX_REQUEST_ID: usize = 64;

/// Where the lines go.
pub(crate) struct Audit {
    clock: Arc<dyn Clock>,
    strangers: Strangers,
    file: Option<AuditFile>,
}

struct AuditFile {
    path: PathBuf,
    writer: Writer,
}

impl Audit {
    /// An audit log; `file` is made if it is not there, and appended to.
    pub(crate) fn open(clock: Arc<dyn Clock>, file: Option<PathBuf>) -> io::Result<Self> {
        let file = file.map(|path| {
            let writer = Writer::new(append(&path)?)?;
            io::Result::Ok(AuditFile { path, writer })
        });
        Ok(Self {
            clock,
            strangers: Strangers::default(),
            file: file.transpose()?,
        })
    }

    /// Waits until what was handed in is in the file, at most `limit`.
    pub(crate) async fn flush(&self, limit: Duration) {
        if let Some(file) = &self.file {
            file.writer.flush(limit).await;
        }
    }
}

impl Reload for Audit {
    fn reload(&self, asked: bool) {
        let Some(file) = self.file.as_ref().filter(|_| asked) else {
            return;
        };
        match append(&file.path) {
            Ok(new) => file.writer.replace(new),
            Err(error) => tracing::error!(%error, "--audit-log: cannot be opened again"),
        }
    }
}

/// The lines tell who works on what: nobody else's to read.
fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).open(path)
}

#[derive(Serialize)]
struct Line<'a> {
    /// RFC 3339, UTC.
    time: String,
    principal: &'a str,
    remote: &'a str,
    rpc: &'a str,
    resource: &'a str,
    outcome: &'a str,
    trace_id: &'a str,
}

impl Line<'_> {
    fn log(&self, audited: Audited) {
        let Line {
            principal,
            remote,
            rpc,
            resource,
            outcome,
            trace_id,
            ..
        } = self;
        // The level is part of a tracing event's static description: two events, one content.
        match audited {
            Audited::Work | Audited::No => tracing::debug!(
                target: "audit", principal, remote, rpc, resource, outcome, trace_id, "call"
            ),
            Audited::Change => tracing::info!(
                target: "audit", principal, remote, rpc, resource, outcome, trace_id, "call"
            ),
        }
    }
}

/// A call that leaves a line. Dropped before it ended, because its caller hung up, it says so.
pub(crate) struct Call {
    audit: Arc<Audit>,
    policy: &'static Policy,
    /// Empty where the caller did not say who it is.
    principal: String,
    remote: String,
    trace_id: String,
    subject: Subject,
    began: Timestamp,
    outcome: Code,
    written: bool,
}

impl Call {
    pub(crate) fn new(
        audit: Arc<Audit>,
        policy: &'static Policy,
        principal: Option<&Principal>,
        remote: Option<SocketAddr>,
        trace_id: String,
    ) -> Self {
        Self {
            began: audit.clock.wall(),
            audit,
            policy,
            principal: principal.map(ToString::to_string).unwrap_or_default(),
            remote: remote.map(|remote| remote.to_string()).unwrap_or_default(),
            trace_id,
            subject: Subject::default(),
            outcome: Code::Cancelled,
            written: false,
        }
    }

    /// Where the handler says what the call is about.
    pub(crate) fn subject(&self) -> Subject {
        self.subject.clone()
    }

    /// Writes the line, and waits for that a little.
    pub(crate) async fn ended(mut self, outcome: Code) {
        self.outcome = outcome;
        let line = self.line();
        if let Some((file, line)) = self.audit.file.as_ref().zip(line) {
            file.writer.write(line).await;
        }
    }

    /// The line for the file, once; the server's own log has it then.
    fn line(&mut self) -> Option<Vec<u8>> {
        if std::mem::replace(&mut self.written, true) {
            return None;
        }
        if self.principal.is_empty() && !self.audit.strangers.admit(self.began) {
            return None;
        }
        let line = Line {
            time: prost_types::Timestamp::from(self.began).to_string(),
            principal: &self.principal,
            remote: &self.remote,
            rpc: self.policy.rpc(),
            resource: self.subject.get().unwrap_or_default(),
            outcome: code_name(self.outcome),
            trace_id: &self.trace_id,
        };
        line.log(self.policy.audited);
        let mut json = serde_json::to_vec(&line).ok()?;
        json.push(b'\n');
        Some(json)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let line = self.line();
        if let Some((file, line)) = self.audit.file.as_ref().zip(line) {
            file.writer.hand_in(line);
        }
    }
}

/// The trace that a call is part of: that of `traceparent` (W3C), else the caller's
/// `x-request-id`, else a new one.
pub(crate) fn trace_id(headers: &HeaderMap) -> String {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let of_trace = text("traceparent").and_then(|parent| parent.split('-').nth(1));
    let is_trace = |id: &&str| {
        id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()) && id.bytes().any(|b| b != b'0')
    };
    let is_request = |id: &&str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
        !id.is_empty() && id.len() <= MAX_REQUEST_ID && id.bytes().all(plain)
    };
    let id = of_trace.filter(is_trace);
    let id = id.or_else(|| text("x-request-id").filter(is_request));
    id.map_or_else(|| Uuid::new_v4().simple().to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_is_the_callers_if_it_is_sound() {
        let id = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            trace_id(&headers)
        };
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let parent = format!("00-{trace}-00f067aa0ba902b7-01");
        assert_eq!(id("traceparent", &parent), trace);
        assert_eq!(id("x-request-id", "build-7"), "build-7");
        for bad in ["", "\"}{", &"a".repeat(65)] {
            let made = id("x-request-id", bad);
            assert!(made.len() == 32 && made != bad, "{bad:?}: {made}");
        }
        assert_eq!(id("traceparent", "00-xyz-1-01").len(), 32);
        assert_ne!(trace_id(&HeaderMap::new()), trace_id(&HeaderMap::new()));
    }
}
