//! `dual16 doctor`: looks at a server the way a job would meet it, from the name of its host to a
//! finished job, and says of each step what was found and what would mend it.
//!
//! A step that fails is a [`Finding`], never an error: the point is to come to the end. Steps that
//! cannot be taken because an earlier one failed are skipped and say so.

mod blob;
mod connection;
mod job;
mod network;
mod server;

use std::time::Duration;

use crate::{api::Client, error::Error};

/// How one step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and somebody should look at it.
    Warn,
    /// It does not work.
    Fail,
    /// It could not be tried.
    Skipped,
}

impl Verdict {
    /// As programs read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Skipped => "skipped",
        }
    }
}

/// One step of the examination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at: "tcp", "clock", "job" …
    pub check: &'static str,
    /// How it went.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What would mend it; empty where nothing is to be mended.
    pub remedy: String,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Verdict::Ok, found, "")
    }

    fn warn(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(check, Verdict::Warn, found, remedy)
    }

    fn fail(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(check, Verdict::Fail, found, remedy)
    }

    fn skipped(check: &'static str, because: &str) -> Self {
        Self::new(check, Verdict::Skipped, because, "")
    }

    fn new(
        check: &'static str,
        verdict: Verdict,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            check,
            verdict,
            found: found.into(),
            remedy: remedy.into(),
        }
    }
}

/// Everything that was found about one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examination {
    /// The server's URL.
    pub url: String,
    /// Step by step, in the order taken.
    pub findings: Vec<Finding>,
}

impl Examination {
    /// Steps that went this way.
    pub fn count(&self, verdict: Verdict) -> usize {
        let went = |finding: &&Finding| finding.verdict == verdict;
        self.findings.iter().filter(went).count()
    }
}

/// Examines the server at `url`. `connect` opens the connection that commands use; the tiny job
/// must have ended after `patience`.
pub async fn examine(
    url: &str,
    patience: Duration,
    connect: impl AsyncFnOnce() -> Result<Client, Error>,
) -> Examination {
    let mut findings = Vec::new();
    let connection = match network::look(url, &mut findings).await {
        Some(way) => connection::open(&way, connect, &mut findings).await,
        None => {
            let because = "there is no connection";
            let checks = ["tls", "grpc", "access"];
            findings.extend(checks.map(|check| Finding::skipped(check, because)));
            Err(because)
        }
    };
    match connection {
        Ok(client) => {
            server::look(&client, url, &mut findings).await;
            findings.push(blob::round_trip(&client).await);
            findings.extend(job::run(&client, patience).await);
        }
        Err(because) => {
            let checks = [
                "version", "clock", "latency", "limits", "blob", "dry run", "job",
            ];
            findings.extend(checks.map(|check| Finding::skipped(check, because)));
        }
    }
    Examination {
        url: url.to_owned(),
        findings,
    }
}
