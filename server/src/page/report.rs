//! `report.html` of a job, made of its artifacts as `dual16 report` makes it.

use std::collections::HashMap;

use axum::{
    body::Body,
    extract::{Path, State},
    http::HeaderMap,
};
use dual16_proto::v1::Artifact;
use dual16_report::{Error, NEEDED, page as report_of};
use tokio_stream::StreamExt as _;
use tonic::Status;

use super::{
    Answer, Page, Shared,
    answer::{Refused, attached},
};

/// Bytes of artifacts that a page is made of here; it takes several times as much memory.
const MOST: u64 = 32 << 20;

/// The page of a job that has succeeded.
pub(super) async fn made(
    State(page): Shared,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Answer {
    let job = page.job(&headers, &id).await?;
    let needed = |artifact: &Artifact| NEEDED.contains(&artifact.name.as_str());
    let needed: Vec<Artifact> = job.artifacts.into_iter().filter(needed).collect();
    let size: u64 = needed.iter().map(|artifact| artifact.size).sum();
    if size > MOST {
        return Err(Refused::from(Status::out_of_range(format!(
            "the report of {} is made of {size} bytes, and at most {MOST} are taken here; `dual16 report {id} --out \
             DIR` makes it",
            job.name
        ))));
    }
    let _alone = page.reports.acquire().await;
    let artifacts = read(&page, &headers, needed).await?;
    let made = tokio::task::spawn_blocking(move || make(artifacts)).await;
    let made = made.map_err(|_| Status::internal("the report ended abnormally"))?;
    let made = made.map_err(|error| match error {
        Error::Nothing => Status::not_found(format!("{} has no report: {error}", job.name)),
        Error::Artifact { .. } => Status::internal(error.to_string()),
    })?;
    Ok(attached("text/html", made.len() as u64, Body::from(made)))
}

type Artifacts = HashMap<String, Vec<u8>>;

async fn read(
    page: &Page,
    headers: &HeaderMap,
    needed: Vec<Artifact>,
) -> Result<Artifacts, Refused> {
    let mut artifacts = Artifacts::new();
    for artifact in needed {
        let mut bytes = Vec::new();
        let mut chunks = page.bytes_of(headers, &artifact).await?;
        while let Some(chunk) = chunks.next().await {
            bytes.extend_from_slice(&chunk?);
        }
        artifacts.insert(artifact.name, bytes);
    }
    Ok(artifacts)
}

fn make(mut artifacts: Artifacts) -> Result<Vec<u8>, Error> {
    report_of(|name| Ok(artifacts.remove(name)))
}
