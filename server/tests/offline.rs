//! Damage to real files: a server does not start on it, `check` names it, `repair` saves the rest,
//! and archives carry everything elsewhere.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the helpers of tests fail as the tests themselves do"
)]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use dual16_proto::v1;
use dual16_server::{
    ServerOptions, StartError,
    digest::Digest,
    offline::{self, OfflineError},
    start,
    store::{Batch, Engine as _, SledEngine, StoreError},
};
use support::*;
use tempfile::TempDir;
use tokio::net::TcpListener;

/// A job that is done, one half-way, one that waits; then the server stops.
async fn filled() -> (TempDir, Vec<v1::Job>) {
    let data = tempfile::tempdir().unwrap();
    let server = serve(data.path()).await;
    let mut jobs = Vec::new();
    for number in 0..3 {
        jobs.push(server.create(&format!("request {number}")).await.name);
    }
    for _ in 0..7 {
        server.work_once().await;
    }
    let mut stored = Vec::new();
    for name in &jobs {
        stored.push(server.job(name).await);
    }
    let states: Vec<_> = stored.iter().map(v1::Job::state).collect();
    use v1::JobState::{Pending, Running, Succeeded};
    assert_eq!(states, [Succeeded, Running, Pending]);
    server.server.shutdown(Duration::from_secs(2)).await;
    (data, stored)
}

async fn start_error(data: &Path) -> Option<StartError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    match start(ServerOptions::new(data), listener).await {
        Ok(server) => {
            server.shutdown(Duration::from_secs(2)).await;
            None
        }
        Err(error) => Some(error),
    }
}

fn check(data: &Path) -> (bool, String) {
    let mut report = Vec::new();
    let sound = offline::check(data, &mut report).unwrap();
    (sound, String::from_utf8(report).unwrap())
}

fn repair(data: &Path) -> String {
    let mut report = Vec::new();
    offline::repair(data, &mut report).unwrap();
    String::from_utf8(report).unwrap()
}

/// Where the upload of `bytes` lies.
fn blob(data: &Path, bytes: &[u8]) -> PathBuf {
    let hex = Digest::of(bytes).hex();
    data.join("blobs/sha256").join(&hex[..2]).join(&hex[2..])
}

/// The used part of the database file.
fn used(data: &Path) -> (PathBuf, Vec<u8>, usize) {
    let path = data.join("store/db");
    let bytes = fs::read(&path).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    (path, bytes, end)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_carries_everything_to_an_empty_directory() {
    let (data, jobs) = filled().await;
    let (sound, report) = check(data.path());
    assert!(
        sound && report.contains("3 jobs") && report.contains("sound"),
        "{report}"
    );
    let away = tempfile::tempdir().unwrap();
    let archive = away.path().join("archive");
    offline::export(data.path(), &archive, &mut Vec::new()).unwrap();
    let again = offline::export(data.path(), &archive, &mut Vec::new());
    assert!(matches!(again, Err(OfflineError::NotEmpty(_))), "{again:?}");

    let copy = away.path().join("data");
    offline::import(&archive, &copy, &mut Vec::new()).unwrap();
    assert!(check(&copy).0);
    let server = serve(&copy).await;
    for job in &jobs {
        assert_eq!(server.job(&job.name).await, *job);
    }
    assert_eq!(server.create("request 2").await.name, jobs[2].name);
    server.server.shutdown(Duration::from_secs(2)).await;
    let over = offline::import(&archive, &copy, &mut Vec::new());
    assert!(matches!(over, Err(OfflineError::NotEmpty(_))), "{over:?}");

    // An archive that lost something is refused, and leaves no store.
    for (file, what) in [("records.jsonl", "records.jsonl"), ("blob", "blob sha256:")] {
        let broken = tempfile::tempdir().unwrap();
        offline::export(data.path(), broken.path(), &mut Vec::new()).unwrap();
        let path = match file {
            "blob" => blob(broken.path(), b"model"),
            file => broken.path().join(file),
        };
        let mut bytes = fs::read(&path).unwrap();
        bytes.pop();
        fs::write(&path, bytes).unwrap();
        let target = broken.path().join("data");
        let refused = offline::import(broken.path(), &target, &mut Vec::new()).unwrap_err();
        assert!(refused.to_string().contains(what), "{refused}");
        assert!(!target.join("store").exists());
    }
}

async fn migrate(from: impl Into<String>, to: impl Into<String>) -> Result<(), OfflineError> {
    let [from, to] = [from.into(), to.into()].map(|place: String| place.parse().unwrap());
    let moving = move || offline::migrate(&from, &to, &mut Vec::new());
    tokio::task::spawn_blocking(moving).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_moves_into_a_database_and_back_with_everything() {
    let (data, jobs) = filled().await;
    let (directory, url) = (data.path().to_str().unwrap(), database("offline").await);
    migrate(directory, &url).await.unwrap();
    let again = migrate(directory, &url).await;
    assert!(matches!(again, Err(OfflineError::HasJobs)), "{again:?}");

    // Back, and nothing has changed.
    let back = tempfile::tempdir().unwrap();
    copy_dir(&data.path().join("blobs"), &back.path().join("blobs"));
    migrate(&url, back.path().to_str().unwrap()).await.unwrap();
    let records = [data.path(), back.path()].map(|data| {
        let archive = tempfile::tempdir().unwrap();
        offline::export(data, archive.path(), &mut Vec::new()).unwrap();
        fs::read_to_string(archive.path().join("records.jsonl")).unwrap()
    });
    assert_eq!(records[0], records[1]);

    // A server goes on from the database, and nobody moves what it uses.
    let server = serve_from(ServerOptions {
        store: Some(url.clone()),
        ..ServerOptions::new(data.path())
    })
    .await;
    for job in &jobs {
        assert_eq!(server.job(&job.name).await, *job);
    }
    assert_eq!(server.create("request 2").await.name, jobs[2].name);
    let other = tempfile::tempdir().unwrap();
    let other = other.path().join("data");
    let used = migrate(&url, other.to_str().unwrap()).await.unwrap_err();
    assert!(used.to_string().contains("stop them first"), "{used}");
    assert!(!other.join("store").exists());
    server.work_once().await;
    let running = server.job(&jobs[1].name).await;
    assert!(running.last_sequence > jobs[1].last_sequence, "{running:?}");
    server.server.shutdown(Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_server_keeps_the_commands_out() {
    let data = tempfile::tempdir().unwrap();
    let server = serve(data.path()).await;
    let report = &mut Vec::new();
    let out = data.path().join("archive");
    for refused in [
        offline::check(data.path(), report).map(drop),
        offline::repair(data.path(), report),
        offline::export(data.path(), &out, report),
    ] {
        let refused = refused.unwrap_err();
        assert!(
            refused.to_string().contains("in use by another server"),
            "{refused}"
        );
    }
    server.server.shutdown(Duration::from_secs(2)).await;
    let nowhere = offline::check(&data.path().join("nowhere"), report).unwrap_err();
    assert!(nowhere.to_string().contains("nowhere"), "{nowhere}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_blob_fails_its_jobs_and_a_retry_goes_on_once_it_is_back() {
    let (data, jobs) = filled().await;
    fs::remove_file(blob(data.path(), b"model")).unwrap();
    let refused = start_error(data.path()).await.unwrap().to_string();
    let lost = Digest::of(b"model").to_string();
    assert!(
        refused.contains(&lost) && refused.contains("dual16-server check"),
        "{refused}"
    );
    let (sound, report) = check(data.path());
    assert!(
        !sound && report.contains(&format!("blob {lost} is missing")),
        "{report}"
    );

    let report = repair(data.path());
    assert!(report.contains("3 jobs failed"), "{report}");
    let server = serve(data.path()).await;
    for before in &jobs {
        let job = server.job(&before.name).await;
        assert_eq!(job.state(), v1::JobState::Failed);
        let error = job.error.unwrap();
        assert_eq!(error.code, "STORE_DAMAGED");
        assert!(error.message.contains(&lost), "{error:?}");
        // What was told before is told again, and then the failure.
        let events = server.watch(&job.name, 0).await;
        assert_eq!(events.len() as u64, before.last_sequence + 1);
    }
    server.upload(b"model").await;
    let retry = v1::RetryJobRequest {
        name: jobs[1].name.clone(),
    };
    server.jobs.clone().retry_job(retry).await.unwrap();
    for _ in 0..5 {
        server.work_once().await;
    }
    let job = server.job(&jobs[1].name).await;
    assert_eq!(job.state(), v1::JobState::Succeeded);
    server.server.shutdown(Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_blob_is_found_and_set_aside() {
    let (data, _) = filled().await;
    let path = blob(data.path(), b"batch");
    fs::write(&path, b"betch").unwrap();
    let (sound, report) = check(data.path());
    assert!(
        !sound && report.contains("has 5 bytes and the digest"),
        "{report}"
    );
    let export = offline::export(data.path(), &data.path().join("a"), &mut Vec::new());
    assert!(matches!(export, Err(OfflineError::Damaged)), "{export:?}");
    let report = repair(data.path());
    assert!(report.contains("set aside"), "{report}");
    assert!(!path.exists());
    assert_eq!(
        fs::read_dir(data.path().join("blobs.damaged"))
            .unwrap()
            .count(),
        1
    );
    assert!(start_error(data.path()).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_cut_short_is_not_served_and_is_rolled_back_by_repair() {
    let (data, jobs) = filled().await;
    let (path, bytes, end) = used(data.path());
    fs::write(&path, &bytes[..end * 3 / 4]).unwrap();
    let error = start_error(data.path()).await.unwrap();
    assert!(
        matches!(
            &error,
            StartError::Store {
                source: StoreError::Corrupt(_),
                ..
            }
        ),
        "{error}"
    );
    let (sound, report) = check(data.path());
    assert!(!sound, "{report}");
    repair(data.path());
    let server = serve(data.path()).await;
    // The first job was there before the cut, whatever it has become; nothing pretends to be sound.
    let first = server.job(&jobs[0].name).await;
    assert!(first.last_sequence <= jobs[0].last_sequence + 1);
    server.server.shutdown(Duration::from_secs(2)).await;
    assert!(check(data.path()).0);
}

#[tokio::test(flavor = "multi_thread")]
async fn flipped_bytes_are_noticed_or_harmless_and_never_lose_a_job_in_silence() {
    let (data, jobs) = filled().await;
    let (path, bytes, end) = used(data.path());
    let store = data.path().join("store");
    let before = data.path().join("before");
    copy_dir(&store, &before);
    let mut noticed = 0;
    for eighth in 1..8 {
        // The directory as it was, but for these bytes.
        fs::remove_dir_all(&store).unwrap();
        copy_dir(&before, &store);
        let mut damaged = bytes.clone();
        for byte in &mut damaged[end * eighth / 8..][..16] {
            *byte ^= 0x5a;
        }
        fs::write(&path, damaged).unwrap();
        if start_error(data.path()).await.is_none() {
            let server = serve(data.path()).await;
            for job in &jobs {
                assert_eq!(server.job(&job.name).await, *job, "in eighth {eighth}");
            }
            server.server.shutdown(Duration::from_secs(2)).await;
        } else {
            noticed += 1;
        }
    }
    assert!(noticed > 0, "no damage was noticed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_another_format_or_without_its_database_is_named() {
    let (data, _) = filled().await;
    let store = data.path().join("store");
    let engine = SledEngine::open(&store).unwrap();
    let mut batch = Batch::default();
    batch.put("format", b"M".to_vec(), b"99".to_vec()).unwrap();
    engine.commit(&batch).unwrap();
    engine.sync().unwrap();
    drop(engine);
    let error = start_error(data.path()).await.unwrap().to_string();
    assert!(error.contains("format 99"), "{error}");

    let commits = fs::read(store.join("commits")).unwrap();
    fs::remove_dir_all(&store).unwrap();
    fs::create_dir(&store).unwrap();
    fs::write(store.join("commits"), commits).unwrap();
    let error = start_error(data.path()).await.unwrap().to_string();
    assert!(error.contains("ends at commit 0"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_gone_is_not_begun_anew() {
    let (data, jobs) = filled().await;
    let store = data.path().join("store");
    let elsewhere = data.path().join("store.damaged-7");
    fs::rename(&store, &elsewhere).unwrap();
    let error = start_error(data.path()).await.unwrap().to_string();
    assert!(error.contains("store.damaged-7"), "{error}");
    // The blobs alone tell as well: an empty store would have them all collected.
    let away = tempfile::tempdir().unwrap();
    copy_dir(&elsewhere, &away.path().join("store"));
    fs::remove_dir_all(&elsewhere).unwrap();
    let error = start_error(data.path()).await.unwrap().to_string();
    assert!(error.contains("has \"blobs\" but no \"store\""), "{error}");
    // A repair that was killed between its two renames.
    copy_dir(&away.path().join("store"), &elsewhere);
    copy_dir(&away.path().join("store"), &data.path().join("store.new"));
    let refused = offline::repair(data.path(), &mut Vec::new()).unwrap_err();
    for error in [
        refused.to_string(),
        start_error(data.path()).await.unwrap().to_string(),
    ] {
        assert!(
            error.contains("rename \"store.new\" to \"store\""),
            "{error}"
        );
    }
    fs::rename(data.path().join("store.new"), &store).unwrap();
    let server = serve(data.path()).await;
    assert_eq!(server.job(&jobs[0].name).await, jobs[0]);
    server.server.shutdown(Duration::from_secs(2)).await;
}

#[test]
fn an_import_that_was_interrupted_is_begun_again_in_an_empty_directory() {
    let (data, archive) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(data.path().join("store.new")).unwrap();
    let refused = offline::repair(data.path(), &mut Vec::new()).unwrap_err();
    let told = refused.to_string();
    assert!(told.contains("empty the directory first"), "{told}");
    let refused = offline::export(archive.path(), &data.path().join("out"), &mut Vec::new());
    assert!(matches!(refused, Err(OfflineError::Data(_))), "{refused:?}");
    assert_eq!(fs::read_dir(archive.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_count_of_commits_is_named_and_no_sound_store() {
    let (data, jobs) = filled().await;
    let commits = data.path().join("store/commits");
    fs::write(&commits, b"00000000\xff").unwrap();
    let what = "the file \"commits\" beside the database does not hold a count";
    let error = start_error(data.path()).await.unwrap().to_string();
    assert!(error.contains(what), "{error}");
    let (sound, report) = check(data.path());
    assert!(!sound && report.contains(what), "{report}");
    let export = offline::export(data.path(), &data.path().join("a"), &mut Vec::new());
    assert!(matches!(export, Err(OfflineError::Damaged)), "{export:?}");
    let report = repair(data.path());
    assert!(
        report.contains(what) && report.contains("0 jobs failed"),
        "{report}"
    );
    assert!(check(data.path()).0);
    // Another one keeps one copy still, its own.
    let replaced = || -> Vec<_> {
        let entries = fs::read_dir(data.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names
            .filter(|name| name.starts_with("store.damaged-"))
            .collect()
    };
    let first = replaced();
    let report = repair(data.path());
    let second = replaced();
    assert_eq!((first.len(), second.len()), (1, 1), "{report}");
    assert!(
        report.contains(&first[0]) && report.contains(&second[0]),
        "{report}"
    );
    let server = serve(data.path()).await;
    for job in &jobs {
        assert_eq!(server.job(&job.name).await, *job);
    }
    server.server.shutdown(Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_fails_half_way_does_not_stay() {
    let (data, _) = filled().await;
    // Comes to be a copy of nothing, which fails as a full disk does.
    let link = data.path().join("store/link");
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    let failed = offline::check(data.path(), &mut Vec::new()).unwrap_err();
    assert!(matches!(failed, OfflineError::File { .. }), "{failed}");
    assert!(!data.path().join("store.copy").exists());
    fs::remove_file(link).unwrap();
    assert!(check(data.path()).0);
}
