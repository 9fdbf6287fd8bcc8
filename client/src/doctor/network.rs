//! From a URL to a port that accepts: the name and the way there.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tonic::transport::Uri;

use super::Finding;

/// One lookup, or one connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// What lies between this machine and the server.
pub(super) struct Way {
    /// By https.
    pub(super) encrypted: bool,
    /// The server is on this machine.
    pub(super) near: bool,
}

/// Name and port; the way to the server if a connection is worth trying.
pub(super) async fn look(url: &str, findings: &mut Vec<Finding>) -> Option<Way> {
    let Some((host, port, encrypted)) = parts(url) else {
        let remedy = "name it as http://HOST:PORT or https://HOST:PORT";
        findings.push(Finding::fail(
            "url",
            format!("{url:?} is no URL of a server"),
            remedy,
        ));
        return None;
    };
    let addresses = match timeout(PATIENCE, lookup_host((host.as_str(), port))).await {
        Ok(Ok(addresses)) => addresses.collect::<Vec<_>>(),
        Ok(Err(error)) => return no_name(findings, &host, &error.to_string()),
        Err(_) => return no_name(findings, &host, "no answer within 5 s"),
    };
    let listed: Vec<_> = addresses
        .iter()
        .map(|address| address.ip().to_string())
        .collect();
    findings.push(Finding::ok(
        "name",
        format!("{host} is {}", listed.join(", ")),
    ));
    let reached = reach(&addresses, port, findings).await;
    let near = addresses.iter().all(|address| address.ip().is_loopback());
    reached.then_some(Way { encrypted, near })
}

/// Host, port and whether it is https.
fn parts(url: &str) -> Option<(String, u16, bool)> {
    let uri: Uri = match url.contains("://") {
        true => url.parse().ok()?,
        false => format!("http://{url}").parse().ok()?,
    };
    let encrypted = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return None,
    };
    // An IPv6 address stands in brackets there, and not here.
    let host = uri.host()?.trim_matches(['[', ']']).to_owned();
    (!host.is_empty()).then_some((host, uri.port_u16()?, encrypted))
}

fn no_name(findings: &mut Vec<Finding>, host: &str, why: &str) -> Option<Way> {
    let remedy = "check the spelling of --server, and that this machine's DNS knows the name";
    findings.push(Finding::fail(
        "name",
        format!("{host} has no address: {why}"),
        remedy,
    ));
    findings.push(Finding::skipped("tcp", "there is no address"));
    None
}

async fn reach(addresses: &[SocketAddr], port: u16, findings: &mut Vec<Finding>) -> bool {
    let mut last = String::from("there is no address");
    for address in addresses {
        let began = Instant::now();
        match timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(_)) => {
                let found = format!("{address} accepts, in {}", millis(began.elapsed()));
                findings.push(Finding::ok("tcp", found));
                return true;
            }
            Ok(Err(error)) => last = format!("{address}: {error}"),
            Err(_) => last = format!("{address}: no answer within 5 s"),
        }
    }
    let remedy = format!(
        "is dual16-server running, does it --listen on port {port} of that address rather than \
         127.0.0.1, and does no firewall or network policy stand in between?"
    );
    findings.push(Finding::fail("tcp", last, remedy));
    false
}

/// A duration as people compare it: "0.8 ms", "213 ms".
pub(super) fn millis(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1e3;
    match millis < 10.0 {
        true => format!("{millis:.1} ms"),
        false => format!("{millis:.0} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart_as_the_client_takes_them() {
        assert_eq!(parts("host:1"), Some(("host".into(), 1, false)));
        assert_eq!(
            parts("https://[::1]:7016"),
            Some(("::1".into(), 7016, true))
        );
        for bad in ["", "host", "ftp://host:1", "http://:1", "http://host"] {
            assert_eq!(parts(bad), None, "{bad:?}");
        }
    }
}
