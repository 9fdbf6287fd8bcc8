//! A few bytes to the server and back: what every file of a job has to survive.

use std::{io::Write as _, time::Instant};

use dual16_proto::digest::Digest;
use rand::RngExt as _;

use super::{Finding, network::millis};
use crate::api::{Client, SourceBlob};

/// Enough to be more than one packet, little enough to be forgotten on the server's disk.
const BYTES: usize = 64 << 10;
const CHECK: &str = "blob";
const REMEDY: &str =
    "see the server's log; its disk may be full or slow, or a proxy may cut streams";

/// Uploads, finds, downloads and compares bytes that no server has seen before.
pub(super) async fn round_trip(client: &Client) -> Finding {
    let began = Instant::now();
    match try_round_trip(client).await {
        Ok(()) => {
            let took = millis(began.elapsed());
            Finding::ok(
                CHECK,
                format!("64 KiB up, found, down and equal, in {took}"),
            )
        }
        Err(problem) => Finding::fail(CHECK, problem, REMEDY),
    }
}

async fn try_round_trip(client: &Client) -> Result<(), String> {
    let mut bytes = vec![0; BYTES];
    rand::rng().fill(&mut bytes[..]);
    let digest = Digest::of(&bytes).to_string();
    let here = |error: std::io::Error| format!("this machine's temporary folder: {error}");
    let mut file = tempfile::NamedTempFile::new().map_err(here)?;
    file.write_all(&bytes).map_err(here)?;
    let blob = SourceBlob {
        path: file.path().to_owned(),
        digest,
        size: BYTES as u64,
    };
    let said = |step: &'static str| move |error: crate::api::ApiError| format!("{step}: {error}");
    client
        .upload(&blob, &|_| {})
        .await
        .map_err(said("upload"))?;
    let missing = client.find_missing(std::slice::from_ref(&blob)).await;
    if !missing.map_err(said("look-up"))?.is_empty() {
        return Err("the server took the upload and does not have it".to_owned());
    }
    let back = client
        .read_blob("the doctor's bytes", &blob.digest, blob.size)
        .await;
    match back.map_err(said("download"))? == bytes {
        true => Ok(()),
        false => Err("other bytes came back than were sent".to_owned()),
    }
}
