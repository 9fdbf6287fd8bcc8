//! An independent OTLP collector as a process, and the spans that have come to it.

use std::{collections::BTreeMap, path::Path, time::Duration};

use serde_json::Value;

use crate::{process::Process, python};

/// Beyond what a program takes to export, which it does every five seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// `tests/python/collector.py`.
pub struct Collector {
    process: Process,
    address: String,
}

/// A span as it came.
#[derive(Debug, Clone)]
pub struct Span {
    /// Name of the program.
    pub service: String,
    /// "command", "rpc", "task", "way".
    pub name: String,
    /// Of the trace, 32 hex digits.
    pub trace: String,
    /// Of the span, 16 hex digits.
    pub id: String,
    /// Of its parent; empty at the root of a trace.
    pub parent: String,
    /// Its fields.
    pub attributes: BTreeMap<String, Value>,
    /// Nanoseconds since 1970 of its start and its end.
    pub time: (u64, u64),
    /// All of it.
    pub line: String,
}

impl Collector {
    /// Starts one on a free port of loopback.
    pub fn start() -> Self {
        Self::of(&[])
    }

    /// The same with TLS: files of a certificate for 127.0.0.1 and of its key.
    pub fn start_tls(certificate: &Path, key: &Path) -> Self {
        let files = [certificate, key].map(|file| file.to_str().expect("a path in UTF-8"));
        Self::of(&files)
    }

    fn of(arguments: &[&str]) -> Self {
        let mut process = python::start("collector.py", arguments);
        let address = process.next_line(LIMIT).expect("its address");
        Self { process, address }
    }

    /// "HOST:PORT".
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What `--otlp-endpoint` takes.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits for a span.
    ///
    /// # Panics
    /// When a minute brings none at all.
    pub fn wait_for(&mut self, wanted: impl Fn(&Span) -> bool) {
        self.process
            .read_until(LIMIT, |line| line.starts_with('{') && wanted(&parse(line)));
    }

    /// Ends it; all spans that have come.
    pub fn finish(self) -> Vec<Span> {
        self.process.signal("TERM");
        let ended = self.process.wait(LIMIT).success();
        ended.stdout.lines().skip(1).map(parse).collect()
    }
}

impl Span {
    /// A field that holds text; empty where there is none.
    pub fn field(&self, name: &str) -> &str {
        let value = self.attributes.get(name);
        value.and_then(Value::as_str).unwrap_or_default()
    }
}

fn parse(line: &str) -> Span {
    let span: Value = serde_json::from_str(line).expect(line);
    let text = |value: &Value| value.as_str().expect(line).to_owned();
    let attributes = span["attributes"].as_object().expect(line);
    Span {
        service: text(&span["resource"]["service.name"]),
        name: text(&span["name"]),
        trace: text(&span["trace_id"]),
        id: text(&span["span_id"]),
        parent: text(&span["parent_id"]),
        attributes: attributes.clone().into_iter().collect(),
        time: (
            span["start"].as_u64().expect(line),
            span["end"].as_u64().expect(line),
        ),
        line: line.to_owned(),
    }
}
