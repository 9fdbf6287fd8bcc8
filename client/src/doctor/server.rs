//! What the server says of itself: version, clock, limits, load; and how far away it is.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dual16_proto::v1::GetInfoResponse;
use indicatif::HumanBytes;
use prost_types::Timestamp;

use super::{Finding, network::millis};
use crate::{api::Client, render::counted};

/// Calls whose median is the latency.
const CALLS: usize = 5;
/// A round trip above this makes many small files slow.
const SLOW: Duration = Duration::from_millis(100);
/// Times of jobs are the server's; beyond this they would mislead whoever reads both clocks.
const CLOCK_OFFSET: Duration = Duration::from_secs(2);

pub(super) async fn look(client: &Client, url: &str, findings: &mut Vec<Finding>) {
    let mut trips = Vec::with_capacity(CALLS);
    let mut last = None;
    for _ in 0..CALLS {
        let (sent, began) = (SystemTime::now(), Instant::now());
        match client.info().await {
            Ok(info) => {
                trips.push(began.elapsed());
                last = Some((info, sent, began.elapsed()));
            }
            Err(error) => {
                let remedy = format!("see the log of the server at {url}");
                findings.push(Finding::fail("version", error.to_string(), remedy));
                return;
            }
        }
    }
    let Some((info, sent, took)) = last else {
        return;
    };
    findings.push(version(env!("CARGO_PKG_VERSION"), &info.version));
    findings.push(clock(info.time.as_ref(), sent + took / 2, took));
    trips.sort();
    findings.push(latency(trips[CALLS / 2]));
    findings.push(limits(&info));
}

fn version(client: &str, server: &str) -> Finding {
    let found = format!("client {client}, server {server}");
    let minor =
        |version: &str| -> Vec<String> { version.split('.').take(2).map(str::to_owned).collect() };
    match minor(client) == minor(server) {
        true => Finding::ok("version", found),
        false => Finding::warn("version", found, "use a client and a server of one version"),
    }
}

/// The server's clock against this machine's at the middle of the call.
fn clock(server: Option<&Timestamp>, here: SystemTime, took: Duration) -> Finding {
    let Some(server) = server else {
        return Finding::skipped("clock", "the server is too old to tell its time");
    };
    let seconds = |time: &Timestamp| time.seconds as f64 + f64::from(time.nanos) / 1e9;
    let here = here.duration_since(UNIX_EPOCH).unwrap_or_default();
    let offset = seconds(server) - here.as_secs_f64();
    let found = match offset.abs() < 0.005 {
        true => "the server's is this machine's".to_owned(),
        false => format!("the server's is {offset:+.2} s off this machine's"),
    };
    // Half a round trip is what the comparison itself may be wrong by.
    match offset.abs() <= (CLOCK_OFFSET + took / 2).as_secs_f64() {
        true => Finding::ok("clock", found),
        false => Finding::warn(
            "clock",
            found,
            "synchronize both clocks (NTP): times of jobs are the server's, and certificates \
             expire by this machine's",
        ),
    }
}

fn latency(median: Duration) -> Finding {
    let found = format!("{} a call", millis(median));
    match median <= SLOW {
        true => Finding::ok("latency", found),
        false => Finding::warn(
            "latency",
            found,
            "run the client nearer to the server, or calibrate with fewer and larger files",
        ),
    }
}

fn limits(info: &GetInfoResponse) -> Finding {
    let limit = |name: &str| info.limits.get(name).copied();
    let blob = limit("blob_bytes").map_or_else(String::new, |bytes| {
        format!(", files up to {}", HumanBytes(bytes))
    });
    let queued = usize::try_from(info.queued_tasks).unwrap_or(usize::MAX);
    let found = format!(
        "{} queued, {} with workers{blob}",
        counted(queued, "task", "tasks"),
        info.leased_tasks
    );
    match limit("blob_bytes") {
        Some(0) => Finding::fail(
            "limits",
            found,
            "the server takes no files: see --limit-blob-bytes",
        ),
        None => Finding::warn(
            "limits",
            found,
            "the server reports no limits: is it a dual16-server?",
        ),
        Some(_) => Finding::ok("limits", found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn patches_may_differ_and_minors_may_not() {
        assert_eq!(version("0.1.0", "0.1.7").verdict, Verdict::Ok);
        assert_eq!(version("0.1.0", "0.2.0").verdict, Verdict::Warn);
        assert_eq!(version("0.1.0", "").verdict, Verdict::Warn);
    }

    #[test]
    fn a_clock_is_judged_by_more_than_the_call_can_blur() {
        let here = UNIX_EPOCH + Duration::from_secs(1000);
        let at = |seconds| Timestamp { seconds, nanos: 0 };
        let brief = Duration::from_millis(1);
        assert_eq!(clock(Some(&at(1001)), here, brief).verdict, Verdict::Ok);
        assert_eq!(clock(Some(&at(990)), here, brief).verdict, Verdict::Warn);
        assert_eq!(
            clock(Some(&at(1003)), here, Duration::from_secs(4)).verdict,
            Verdict::Ok
        );
        let same = at(1000);
        assert!(!clock(Some(&same), here, brief).found.contains("0.00"));
        assert_eq!(clock(None, here, brief).verdict, Verdict::Skipped);
    }

    #[test]
    fn what_is_far_away_or_takes_nothing_is_said() {
        assert_eq!(latency(Duration::from_millis(3)).verdict, Verdict::Ok);
        assert_eq!(latency(Duration::from_millis(300)).verdict, Verdict::Warn);
        let mut info = GetInfoResponse::default();
        assert_eq!(limits(&info).verdict, Verdict::Warn);
        info.limits.insert("blob_bytes".into(), 0);
        assert_eq!(limits(&info).verdict, Verdict::Fail);
        info.limits.insert("blob_bytes".into(), 1 << 30);
        assert!(limits(&info).found.contains("1.00 GiB"));
    }
}
