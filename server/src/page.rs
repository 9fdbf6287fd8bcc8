//! The live page: the jobs of this server in a browser, read only. Its calls are those of the API, made by the
//! same services behind the same rules, so that a caller sees here what it sees there; only their wire is
//! another: plain HTTP, JSON, and server-sent events.

mod answer;
mod options;
mod report;

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderValue, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::get,
};
use dual16_proto::{
    json::{event_json, job_json},
    v1::{
        self, blob_service_server::BlobService as _, info_service_server::InfoService as _,
        job_service_server::JobService as _,
    },
};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;

use self::answer::{Refused, attached, hardened, json_answer, static_answer};
pub use self::options::{PageArgs, PageError};
use crate::{
    access::{Guard, Scope, Subject},
    policy::{Audited, Policies},
    rpc::{ApiError, App, BlobApi, InfoApi, JobApi},
};

/// Jobs of one page of the list.
const PAGE_SIZE: u32 = 50;

/// The services, and who may call them.
pub(crate) struct Page {
    jobs: JobApi,
    blobs: BlobApi,
    info: InfoApi,
    guard: Arc<Guard>,
    policies: Policies,
    /// Reports are made one at a time.
    reports: Semaphore,
}

type Answer = Result<Response, Refused>;
type Shared = State<Arc<Page>>;

/// What the page's port serves.
pub(crate) fn router(app: &Arc<App>, guard: Arc<Guard>, policies: Policies) -> Router {
    let page = Arc::new(Page {
        jobs: JobApi(Arc::clone(app)),
        blobs: BlobApi(Arc::clone(app)),
        info: InfoApi(Arc::clone(app)),
        guard,
        policies,
        reports: Semaphore::new(1),
    });
    let html = || static_answer("text/html", include_str!("page/assets/index.html"));
    let style = || static_answer("text/css", include_str!("page/assets/page.css"));
    let script = || static_answer("text/javascript", include_str!("page/assets/page.js"));
    Router::new()
        .route("/", get(async move || html()))
        .route("/page.css", get(async move || style()))
        .route("/page.js", get(async move || script()))
        .route("/api/entry", get(entry))
        .route("/api/info", get(info))
        .route("/api/jobs", get(list))
        .route("/api/jobs/{id}", get(job))
        .route("/api/jobs/{id}/events", get(events))
        .route("/api/jobs/{id}/artifacts/{name}", get(artifact))
        .route("/api/jobs/{id}/report.html", get(report::made))
        .layer(middleware::from_fn_with_state(Arc::clone(&page), guarded))
        .with_state(page)
}

/// Headers of every answer. A server that asks nobody who they are answers only those that reached it by its
/// address: a page of another site, which can have its own name lead here, comes by that name.
async fn guarded(State(page): Shared, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST);
    let answer = match !page.guard.asks() && !host.is_some_and(is_address) {
        true => Refused::from(Status::permission_denied(
            "without --tokens this page answers only at the address that it listens on",
        ))
        .into_response(),
        false => next.run(request).await,
    };
    hardened(answer)
}

/// An IP address or `localhost`, with or without a port.
fn is_address(host: &HeaderValue) -> bool {
    let Ok(host) = host.to_str() else {
        return false;
    };
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.chars().all(|digit| digit.is_ascii_digit()))
        .map_or(host, |(name, _)| name);
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    name == "localhost" || bare.unwrap_or(name).parse::<std::net::IpAddr>().is_ok()
}

impl Page {
    /// A call of the API as whoever sends these headers, by the row of the method. It leaves nothing in the
    /// audit log: only methods that change nothing may be called so.
    fn call<T>(
        &self,
        rpc: &str,
        headers: &HeaderMap,
        message: T,
    ) -> Result<tonic::Request<T>, Refused> {
        let policy = self.policies.find(rpc);
        let policy = policy.filter(|policy| policy.audited == Audited::No);
        let judged = self.guard.judge(policy, headers, &[]);
        let (_, caller) = judged.map_err(|(_, denied)| ApiError::from(denied))?;
        let scope = Scope::new(caller, Subject::default());
        let mut request = tonic::Request::new(message);
        request.extensions_mut().insert(scope);
        Ok(request)
    }

    async fn job(&self, headers: &HeaderMap, id: &str) -> Result<v1::Job, Refused> {
        let name = format!("jobs/{id}");
        let asked = v1::GetJobRequest { name };
        let request = self.call("/dual16.v1.JobService/GetJob", headers, asked)?;
        Ok(self.jobs.get_job(request).await?.into_inner())
    }

    /// The bytes of an artifact, of a job that the caller may see.
    async fn bytes_of(
        &self,
        headers: &HeaderMap,
        artifact: &v1::Artifact,
    ) -> Result<impl Stream<Item = Result<Bytes, Status>> + use<>, Refused> {
        let asked = v1::DownloadRequest {
            digest: artifact.digest.clone(),
            offset: 0,
            accept_url: false,
        };
        let request = self.call("/dual16.v1.BlobService/Download", headers, asked)?;
        let chunks = self.blobs.download(request).await?.into_inner();
        Ok(chunks.map(|chunk| chunk.map(|chunk| chunk.data)))
    }
}

/// Whether a token is needed, so that the page asks for one before it is refused.
async fn entry(State(page): Shared) -> Response {
    json_answer(&json!({"asks_for_token": page.guard.asks()}))
}

async fn info(State(page): Shared, headers: HeaderMap) -> Answer {
    let rpc = "/dual16.v1.InfoService/GetInfo";
    let request = page.call(rpc, &headers, v1::GetInfoRequest {})?;
    let info = page.info.get_info(request).await?.into_inner();
    Ok(json_answer(&json!({
        "version": info.version,
        "queued_tasks": info.queued_tasks,
        "leased_tasks": info.leased_tasks,
        "stored_bytes": info.stored_bytes,
    })))
}

async fn list(State(page): Shared, headers: HeaderMap, uri: Uri) -> Answer {
    let asked = v1::ListJobsRequest {
        page_size: PAGE_SIZE,
        page_token: query(&uri, "page_token").unwrap_or_default().to_owned(),
        states: Vec::new(),
    };
    let request = page.call("/dual16.v1.JobService/ListJobs", &headers, asked)?;
    let found = page.jobs.list_jobs(request).await?.into_inner();
    Ok(json_answer(&json!({
        "jobs": found.jobs.iter().map(job_json).collect::<Vec<_>>(),
        "next_page_token": found.next_page_token,
    })))
}

async fn job(State(page): Shared, headers: HeaderMap, Path(id): Path<String>) -> Answer {
    Ok(json_answer(&job_json(&page.job(&headers, &id).await?)))
}

/// Events after `?after=SEQUENCE`, one a message, until the job has ended.
async fn events(
    State(page): Shared,
    headers: HeaderMap,
    Path(id): Path<String>,
    uri: Uri,
) -> Answer {
    let after = query(&uri, "after").unwrap_or("0");
    let asked = v1::WatchJobRequest {
        name: format!("jobs/{id}"),
        after_sequence: after
            .parse()
            .map_err(|_| Status::invalid_argument("after must be a sequence number"))?,
    };
    let request = page.call("/dual16.v1.JobService/WatchJob", &headers, asked)?;
    let events = page.jobs.watch_job(request).await?.into_inner();
    // An error cuts the stream off, so that it does not look like the end of the job.
    let messages = events.map(|event| {
        event.map(|event| {
            let text = format!("id: {}\ndata: {}\n\n", event.sequence, event_json(&event));
            Bytes::from(text)
        })
    });
    let mut answer = Response::new(Body::from_stream(messages));
    let kind = HeaderValue::from_static("text/event-stream");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(answer)
}

/// The bytes of one artifact of a job that the caller may see.
async fn artifact(
    State(page): Shared,
    headers: HeaderMap,
    Path((id, name)): Path<(String, String)>,
) -> Answer {
    let job = page.job(&headers, &id).await?;
    let artifact = job
        .artifacts
        .into_iter()
        .find(|artifact| artifact.name == name)
        .ok_or_else(|| Status::not_found(format!("{} has no artifact {name:?}", job.name)))?;
    let bytes = page.bytes_of(&headers, &artifact).await?;
    Ok(attached(
        "application/octet-stream",
        artifact.size,
        Body::from_stream(bytes),
    ))
}

/// The value of a parameter whose values need no escapes.
fn query<'u>(uri: &'u Uri, name: &str) -> Option<&'u str> {
    let pairs = uri.query()?.split('&');
    let mut pairs = pairs.filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_are_addresses() {
        let is_address = |host: &'static str| is_address(&HeaderValue::from_static(host));
        for host in [
            "127.0.0.1:80",
            "127.0.0.1",
            "[::1]:9",
            "[::1]",
            "localhost:9",
            "localhost",
        ] {
            assert!(is_address(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:80",
            "127.0.0.1.evil.example",
            "",
            "localhost.x:1",
        ] {
            assert!(!is_address(host), "{host}");
        }
    }
}
