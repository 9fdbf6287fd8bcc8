//! A few bytes to the server and back: what every file of a job has to survive.

use std::time::Instant;

use dual16_proto::v1::Artifact;
use rand::RngExt as _;

use super::{Finding, network::millis};
use crate::api::{ApiError, Client, SourceBlob};

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
    let name = "the doctor's bytes";
    let said = |step: &'static str| move |error: ApiError| format!("{step}: {error}");
    let sent = client.upload_bytes(name, bytes.clone()).await;
    let sent = sent.map_err(said("upload"))?;
    let blob = SourceBlob {
        path: name.into(),
        digest: sent.digest.clone(),
        size: sent.size,
    };
    let missing = client.find_missing(&[blob]).await;
    if !missing.map_err(said("look-up"))?.is_empty() {
        return Err("the server took the upload and does not have it".to_owned());
    }
    let back = Artifact {
        name: sent.name,
        digest: sent.digest,
        size: sent.size,
    };
    let back = client
        .read_artifact(&back)
        .await
        .map_err(said("download"))?;
    match back == bytes {
        true => Ok(()),
        false => Err("other bytes came back than were sent".to_owned()),
    }
}
