//! TLS over real connections: who trusts whom, and new certificates under a running server.

use std::{fs, path::Path, time::Duration};

use tokio::net::TcpStream;
use tonic::{
    Code, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Identity},
};

use super::{
    authority::Authority,
    guarded::{Caller, Guarded, call, entries},
    support::reason,
};

const INFO: &str = "/dual16.v1.InfoService/GetInfo";

struct Secured {
    guarded: Guarded,
    authority: Authority,
    caller: Caller,
    /// Where the server finds its certificate.
    files: tempfile::TempDir,
}

impl Secured {
    /// A server for one token's caller; with `client_ca`, for callers with a certificate of it.
    async fn start(client_ca: Option<&Authority>, more_entries: &str) -> Self {
        let authority = Authority::new();
        let caller = Caller::new("ci", "submit");
        let files = tempfile::tempdir().unwrap();
        authority.write_identity(files.path(), &["localhost"]);
        let file = |name: &str| Some(files.path().join(name));
        let tokens = entries(&[&caller]) + more_entries;
        let guarded = Guarded::start_with(&tokens, |options| {
            options.access.tls_cert = file("cert");
            options.access.tls_key = file("key");
            if let Some(client_ca) = client_ca {
                fs::write(files.path().join("client-ca"), client_ca.pem()).unwrap();
                options.access.tls_client_ca = file("client-ca");
            }
        })
        .await;
        Self {
            guarded,
            authority,
            caller,
            files,
        }
    }

    /// A new connection to a server that `trusted` vouches for.
    fn channel(&self, trusted: &Authority, identity: Option<Identity>) -> Channel {
        let mut tls = ClientTlsConfig::new()
            .domain_name("localhost")
            .ca_certificate(Certificate::from_pem(trusted.pem()));
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        let url = format!("https://{}", self.guarded.server.addr());
        let endpoint = Channel::from_shared(url).unwrap();
        endpoint.tls_config(tls).unwrap().connect_lazy()
    }

    async fn info(&self, channel: Channel, token: bool) -> Result<(), Status> {
        let authorization = format!("Bearer {}", self.caller.secret());
        let authorization = token.then_some(authorization.as_str());
        let calling = call(channel, INFO, "", authorization);
        let limit = Duration::from_secs(20);
        tokio::time::timeout(limit, calling).await.expect("in time")
    }

    fn files(&self) -> &Path {
        self.files.path()
    }
}

fn identity(authority: &Authority, names: &[&str]) -> Option<Identity> {
    let (certificate, key) = authority.issue(names);
    Some(Identity::from_pem(certificate, key))
}

#[tokio::test]
async fn only_tls_gets_through_and_silence_holds_up_nobody() {
    let server = Secured::start(None, "").await;
    let silent = TcpStream::connect(server.guarded.server.addr()).await;
    let channel = server.channel(&server.authority, None);
    server.info(channel.clone(), true).await.unwrap();
    let unknown = server.info(channel, false).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unauthenticated);

    let stranger = Authority::new();
    let channel = server.channel(&stranger, None);
    server.info(channel, true).await.unwrap_err();

    // The fixture's own channel speaks plain HTTP.
    let plain = server.guarded.call_as(&server.caller, INFO, "").await;
    plain.unwrap_err();
    drop(silent);
}

#[tokio::test]
async fn a_client_certificate_is_asked_for_and_stands_for_its_principal() {
    let clients = Authority::new();
    let entry = "[[certificate]]\nprincipal = \"w\"\nroles = [\"worker\"]\nname = \"w.example\"\n";
    let server = Secured::start(Some(&clients), entry).await;
    let channel = |identity| server.channel(&server.authority, identity);

    server.info(channel(None), true).await.unwrap_err();
    let foreign = identity(&Authority::new(), &["w.example"]);
    server.info(channel(foreign), true).await.unwrap_err();

    // The certificate alone is enough where it stands for someone; a token goes before it.
    let named = channel(identity(&clients, &["other.example", "w.example"]));
    server.info(named.clone(), false).await.unwrap();
    server.info(named.clone(), true).await.unwrap();
    let lease = "/dual16.v1.WorkerService/Lease";
    let allowed = call(named.clone(), lease, "", None).await.unwrap_err();
    assert_eq!(allowed.code(), Code::InvalidArgument, "{allowed}");
    let create = "/dual16.v1.JobService/CreateJob";
    let denied = call(named.clone(), create, "", None).await.unwrap_err();
    assert_eq!(reason(&denied).0, "ROLE_MISSING");
    let wrong = call(named, INFO, "", Some("Bearer wrong")).await;
    assert_eq!(reason(&wrong.unwrap_err()).0, "TOKEN_UNKNOWN");

    let unnamed = channel(identity(&clients, &["other.example"]));
    let nobody = server.info(unnamed.clone(), false).await.unwrap_err();
    assert_eq!(reason(&nobody).0, "CREDENTIALS_MISSING");
    server.info(unnamed, true).await.unwrap();
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections_and_old_ones_go_on() {
    let server = Secured::start(None, "").await;
    let old = server.channel(&server.authority, None);
    server.info(old.clone(), true).await.unwrap();

    let renewed = Authority::new();
    renewed.write_identity(server.files(), &["localhost"]);
    server.guarded.server.reload().await;
    server.info(old.clone(), true).await.unwrap();
    let new = server.channel(&renewed, None);
    server.info(new, true).await.unwrap();
    let late = server.channel(&server.authority, None);
    server.info(late, true).await.unwrap_err();

    // A key that does not belong to the certificate: what was read before stays in force.
    let (_, stray) = renewed.issue(&["localhost"]);
    fs::write(server.files().join("key"), stray).unwrap();
    server.guarded.server.reload().await;
    let new = server.channel(&renewed, None);
    server.info(new, true).await.unwrap();
    server.info(old, true).await.unwrap();
}
