//! The audit log: every call that would change something, whatever became of it, and nothing that
//! must stay secret.

use std::fs;

use dual16_server::digest::Digest;
use serde_json::Value;
use tonic::Code;

use super::guarded::{Caller, Guarded, entries};

fn lines(guarded: &Guarded, file: &str) -> Vec<Value> {
    let text = fs::read_to_string(guarded.file(file)).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

/// Principal, RPC, resource and outcome.
fn fields(line: &Value) -> [&str; 4] {
    ["principal", "rpc", "resource", "outcome"].map(|field| line[field].as_str().unwrap())
}

#[tokio::test]
async fn every_change_leaves_a_line_and_reading_leaves_none() {
    let ann = Caller::new("ann", "submit");
    let bob = Caller::new("bob", "submit");
    let worker = Caller::new("w", "worker");
    let guarded = Guarded::start(&[&ann, &bob, &worker]).await;
    let job = guarded.submit(&ann, "").await;
    let rpc = |name: &str| format!("/dual16.v1.JobService/{name}");
    let (get, cancel, delete) = (rpc("GetJob"), rpc("CancelJob"), rpc("DeleteJob"));
    guarded.call_as(&ann, &get, &job).await.unwrap();
    guarded.call_as(&bob, &cancel, &job).await.unwrap_err();
    guarded.call_as(&worker, &cancel, &job).await.unwrap_err();
    guarded.call(&cancel, &job, None).await.unwrap_err();
    guarded.call_as(&ann, &delete, &job).await.unwrap_err();
    guarded.call_as(&ann, &cancel, &job).await.unwrap();
    guarded.call_as(&ann, &delete, &job).await.unwrap();

    let lines = lines(&guarded, "audit");
    let blob = |data: &[u8]| Digest::of(data).to_string();
    let (model, batch) = (blob(b"model"), blob(b"batch"));
    let expected = [
        ["ann", "BlobService/Upload", &model, "OK"],
        ["ann", "BlobService/Upload", &batch, "OK"],
        ["ann", "JobService/CreateJob", &job, "OK"],
        ["bob", "JobService/CancelJob", &job, "NOT_FOUND"],
        ["w", "JobService/CancelJob", "", "PERMISSION_DENIED"],
        ["", "JobService/CancelJob", "", "UNAUTHENTICATED"],
        ["ann", "JobService/DeleteJob", &job, "FAILED_PRECONDITION"],
        ["ann", "JobService/CancelJob", &job, "OK"],
        ["ann", "JobService/DeleteJob", &job, "OK"],
    ];
    assert_eq!(lines.iter().map(fields).collect::<Vec<_>>(), expected);
    for line in &lines {
        assert_eq!(line["time"], "2023-11-14T22:13:20Z");
        assert!(line["remote"].as_str().unwrap().starts_with("127.0.0.1:"));
        assert_eq!(line["trace_id"].as_str().unwrap().len(), 32);
    }
    let file = fs::read_to_string(guarded.file("audit")).unwrap();
    let folder = guarded.folder.path().to_str().unwrap();
    for secret in [ann.secret(), bob.secret(), worker.secret(), folder] {
        assert!(!file.contains(secret));
    }
}

#[tokio::test]
async fn the_file_is_appended_to_and_opened_again_when_it_was_rotated() {
    let ann = Caller::new("ann", "submit");
    let guarded = Guarded::start_with(&entries(&[&ann]), |options| {
        let audit = options.access.audit_log.clone().unwrap();
        fs::write(audit, "{\"what\":\"was there\"}\n").unwrap();
    })
    .await;
    let cancel = "/dual16.v1.JobService/CancelJob";
    let unknown = "jobs/00000000-0000-7000-8000-000000000000";
    let call = async || guarded.call_as(&ann, cancel, unknown).await.unwrap_err();
    assert_eq!(call().await.code(), Code::NotFound);
    fs::rename(guarded.file("audit"), guarded.file("audit.1")).unwrap();
    call().await;
    guarded.server.reload().await;
    call().await;
    let old = lines(&guarded, "audit.1");
    assert_eq!((old.len(), &old[0]["what"]), (3, &Value::from("was there")));
    assert_eq!(lines(&guarded, "audit").len(), 1);
}
