//! Uploads and downloads that are corrupted or given up; how they go on is held in `dual16-rpc`.

use std::{fs, path::Path, time::Duration};

use dual16::api::{ApiError, Client, ConnectOptions, RetryPolicy, SourceBlob};

use crate::{
    fake::{Fake, digest_of},
    proxy::Proxy,
};

/// Bytes that do not repeat, so that a wrong offset shows.
fn bytes(count: usize) -> Vec<u8> {
    (0..count as u64)
        .map(|index| (index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect()
}

async fn connect(url: &str, give_up_after: Duration) -> Client {
    let retry = RetryPolicy {
        give_up_after,
        first_delay: Duration::from_millis(10),
        max_delay: Duration::from_millis(50),
    };
    Client::connect(ConnectOptions {
        retry,
        ..ConnectOptions::new(url)
    })
    .await
    .unwrap()
}

fn blob(path: &Path, contents: &[u8]) -> SourceBlob {
    fs::write(path, contents).unwrap();
    SourceBlob {
        path: path.to_owned(),
        digest: digest_of(contents),
        size: contents.len() as u64,
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn an_empty_file_is_a_blob_too_and_known_blobs_are_not_sent() {
    let fake = Fake::start().await;
    let client = connect(&fake.url(), Duration::from_secs(10)).await;
    let folder = tempfile::tempdir().unwrap();
    let empty = blob(&folder.path().join("empty"), b"");
    let twice = [empty.clone(), empty.clone()];

    assert_eq!(client.find_missing(&twice).await.unwrap(), twice[..1]);
    client.upload(&empty, &|_| {}).await.unwrap();

    assert!(client.find_missing(&twice).await.unwrap().is_empty());
    client.upload(&empty, &|_| {}).await.unwrap();
    assert_eq!(fake.state().uploads, [0]);
}

#[tokio::test]
async fn a_file_that_changed_after_hashing_is_named() {
    let fake = Fake::start().await;
    let client = connect(&fake.url(), Duration::from_secs(10)).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("000.npz");
    for changed in [&b"other bytes"[..], b"short"] {
        let blob = blob(&path, b"first bytes");
        fs::write(&path, changed).unwrap();

        let error = client.upload(&blob, &|_| {}).await.unwrap_err();

        assert!(matches!(error, ApiError::InputChanged { .. }), "{error}");
        assert!(error.to_string().contains("000.npz"), "{error}");
    }
    assert!(fake.state().blobs.is_empty());
}

#[tokio::test]
async fn corrupt_bytes_replace_nothing() {
    let fake = Fake::start().await;
    let good = fake.add_artifact("a.csv", b"new");
    let bad = fake.add_artifact("plan.json", b"{}");
    fake.state()
        .blobs
        .insert(bad.digest.clone(), b"[]".to_vec());
    let client = connect(&fake.url(), Duration::from_secs(10)).await;
    let out = tempfile::tempdir().unwrap();
    fs::write(out.path().join("a.csv"), b"old").unwrap();

    let error = client
        .fetch(&[good, bad], out.path(), &|_| {})
        .await
        .unwrap_err();

    assert!(
        matches!(&error, ApiError::Corrupt { name, .. } if name == "plan.json"),
        "{error}"
    );
    assert_eq!(names(out.path()), ["a.csv"]);
    assert_eq!(
        fs::read(out.path().join("a.csv")).unwrap(),
        b"old",
        "all or none"
    );
}

#[tokio::test]
async fn a_file_that_cannot_be_replaced_keeps_the_others_as_they_were() {
    let fake = Fake::start().await;
    let artifacts = [
        fake.add_artifact("a.csv", b"new"),
        fake.add_artifact("plan.json", b"{}"),
    ];
    let client = connect(&fake.url(), Duration::from_secs(10)).await;
    let out = tempfile::tempdir().unwrap();
    fs::write(out.path().join("a.csv"), b"old").unwrap();
    fs::create_dir(out.path().join("plan.json")).unwrap();

    let error = client
        .fetch(&artifacts, out.path(), &|_| {})
        .await
        .unwrap_err();

    assert!(error.to_string().contains("plan.json"), "{error}");
    assert_eq!(names(out.path()), ["a.csv", "plan.json"]);
    assert_eq!(fs::read(out.path().join("a.csv")).unwrap(), b"old");
}

#[tokio::test]
async fn an_interrupted_fetch_leaves_nothing_behind() {
    let fake = Fake::start().await;
    let small = fake.add_artifact("plan.json", b"{}");
    let large = fake.add_artifact("converted.safetensors", &bytes(6 << 20));
    let proxy = Proxy::start(fake.addr, [2 << 20], 0).await;
    let client = connect(&proxy.url, Duration::from_millis(300)).await;
    let out = tempfile::tempdir().unwrap();

    let error = client
        .fetch(&[small, large], out.path(), &|_| {})
        .await
        .unwrap_err();

    assert!(matches!(error, ApiError::Unreachable { .. }), "{error}");
    assert!(names(out.path()).is_empty(), "{:?}", names(out.path()));
}

#[tokio::test]
async fn a_server_cannot_choose_where_a_file_goes() {
    let fake = Fake::start().await;
    let evil = fake.add_artifact("../evil", b"x");
    let client = connect(&fake.url(), Duration::from_secs(10)).await;
    let out = tempfile::tempdir().unwrap();
    let inner = out.path().join("out");

    let error = client.fetch(&[evil], &inner, &|_| {}).await.unwrap_err();

    assert!(matches!(error, ApiError::Protocol { .. }), "{error}");
    assert_eq!(names(out.path()), ["out"]);
}
