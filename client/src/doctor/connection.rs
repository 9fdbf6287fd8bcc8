//! From a reachable port to a caller that is let in: encryption, whether a dual16 server answers, and
//! whether it knows who is calling. One connection tells all three, so that what is examined is
//! what commands use.

use std::time::{Duration, Instant};

use tonic::Code;

use super::{Finding, network::Way, network::millis};
use crate::{
    api::{ApiError, Client},
    error::Error,
};

const TLS: &str = "tls";
const GRPC: &str = "grpc";
const ACCESS: &str = "access";

/// The connection that commands use, or why there is none.
pub(super) async fn open(
    way: &Way,
    connect: impl AsyncFnOnce() -> Result<Client, Error>,
    findings: &mut Vec<Finding>,
) -> Result<Client, &'static str> {
    let began = Instant::now();
    match connect().await {
        Ok(client) => {
            findings.extend([encryption(way), answers(began.elapsed())]);
            findings.push(Finding::ok(ACCESS, "the server lets this caller in"));
            Ok(client)
        }
        Err(error) => {
            let (found, because) = failure(way, &error, began.elapsed());
            findings.extend(found);
            Err(because)
        }
    }
}

/// What an error says of each step, and why no further one can be taken.
fn failure(way: &Way, error: &Error, took: Duration) -> ([Finding; 3], &'static str) {
    let nothing = "there is no connection";
    let skipped = |check| Finding::skipped(check, nothing);
    let found = match error {
        Error::Api(ApiError::Tls { message, .. }) => {
            // What is wrong and what would help, as every message here.
            let (found, remedy) = message.rsplit_once("; ").unwrap_or((
                message,
                "the server's log at debug tells its side of the handshake",
            ));
            let tls = Finding::fail(TLS, found, remedy);
            [tls, skipped(GRPC), skipped(ACCESS)]
        }
        Error::Api(ApiError::Credentials(error)) => {
            let remedy = "mend what it names; nothing was sent to the server";
            let access = Finding::fail(ACCESS, error.to_string(), remedy);
            [skipped(TLS), skipped(GRPC), access]
        }
        Error::Api(ApiError::Refused {
            code: Code::Unauthenticated | Code::PermissionDenied,
            message,
            reason,
            ..
        }) => {
            let access = Finding::fail(ACCESS, message.as_str(), who(reason));
            let found = [encryption(way), answers(took), access];
            return (found, "the server does not let this caller in");
        }
        Error::Api(ApiError::NotDual16 { .. }) => {
            let remedy = "is it the port of dual16-server, and no proxy in front of it that speaks \
                          HTTP/1 only?";
            let grpc = Finding::fail(GRPC, error.to_string(), remedy);
            [encryption(way), grpc, skipped(ACCESS)]
        }
        error => {
            let remedy = "something listens there; is it dual16-server, and no proxy that speaks \
                          HTTP/1 only in front of it?";
            let grpc = Finding::fail(GRPC, error.to_string(), remedy);
            // Whether TLS came about is not known.
            [skipped(TLS), grpc, skipped(ACCESS)]
        }
    };
    (found, nothing)
}

fn answers(took: Duration) -> Finding {
    Finding::ok(
        GRPC,
        format!("a dual16 server answers, in {}", millis(took)),
    )
}

/// What somebody does whom the server does not know.
fn who(reason: &str) -> &'static str {
    match reason {
        "CREDENTIALS_MISSING" => {
            "name a file with the token by --token-file, or put it into DUAL16_TOKEN"
        }
        _ => {
            "ask the operator of the server for a token (`dual16-server token new`); its entry must be \
             in the file of the server's --tokens"
        }
    }
}

/// A connection that was made.
fn encryption(way: &Way) -> Finding {
    match (way.encrypted, way.near) {
        (true, _) => Finding::ok(TLS, "https, and the server's certificate is trusted here"),
        (false, true) => Finding::ok(TLS, "none, and none needed: the server is on this machine"),
        (false, false) => Finding::warn(
            TLS,
            "none: models and results cross the network unencrypted",
            "use https:// and give the server a certificate, or keep to a network you trust",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    fn way(encrypted: bool, near: bool) -> Way {
        Way { encrypted, near }
    }

    #[test]
    fn encryption_is_missed_only_where_a_network_is_crossed() {
        assert_eq!(encryption(&way(false, true)).verdict, Verdict::Ok);
        assert_eq!(encryption(&way(false, false)).verdict, Verdict::Warn);
        assert_eq!(encryption(&way(true, false)).verdict, Verdict::Ok);
    }

    #[test]
    fn an_error_is_told_where_it_belongs_and_what_it_does_not_touch_is_skipped() {
        use Verdict::{Fail, Ok, Skipped};
        let url = || "https://h:1".to_owned();
        let refused = |code, reason: &str| ApiError::Refused {
            call: "GetInfo",
            code,
            message: "no".into(),
            reason: reason.into(),
            violations: Vec::new(),
        };
        let tls = |message: &str| ApiError::Tls {
            url: url(),
            message: message.into(),
        };
        let unreachable = ApiError::Unreachable {
            url: url(),
            call: "GetInfo",
            waited: Duration::from_secs(5),
            last: "no answer".into(),
        };
        let unknown = refused(Code::Unauthenticated, "TOKEN_UNKNOWN");
        let missing = refused(Code::Unauthenticated, "CREDENTIALS_MISSING");
        for (error, verdicts, remedy) in [
            (
                tls("bad; use http://"),
                [Fail, Skipped, Skipped],
                "use http://",
            ),
            (tls("bad"), [Fail, Skipped, Skipped], "log"),
            (unknown, [Ok, Ok, Fail], "token new"),
            (missing, [Ok, Ok, Fail], "--token-file"),
            (unreachable, [Skipped, Fail, Skipped], "dual16-server"),
        ] {
            let error = Error::from(error);
            let (found, _) = failure(&way(true, false), &error, Duration::ZERO);
            let told = found.each_ref().map(|finding| finding.verdict);
            assert_eq!(told, verdicts, "{error}");
            let failed = found.iter().find(|finding| finding.verdict == Fail);
            assert!(failed.unwrap().remedy.contains(remedy), "{found:?}");
        }
    }
}
