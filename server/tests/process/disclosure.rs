//! What a running server tells of itself when things go wrong: to callers, in its log, its audit
//! log and on its ops port. Neither a token nor the place of its files may be in it.

use std::{fs, process::Command, time::Duration};

use dual16_proto::v1;
use tonic::transport::Channel;

use super::{command, faulty::Faulty, support::*, terminate, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn no_fault_makes_a_server_tell_a_token_or_where_its_files_are() {
    let server = Faulty::start(tempfile::tempdir().unwrap());
    let mut token = server.token.reveal().to_owned();
    let kept = server.create_job().await.unwrap();

    server.mistake_the_tokens();
    server.fill_the_audit_log().await;
    let mut told = vec![server.upload_to_a_full_disk().await];
    told.extend(server.lose_the_blobs().await);
    let ops = server.move_the_data();
    told.push(server.fail_the_store().await);
    let (folder, log) = server.end();
    let mut all = ops + &log + &fs::read_to_string(folder.path().join("audit.1")).unwrap();

    // sled has much to tell when it opens what a failed write has left.
    let server = Faulty::start(folder);
    token += server.token.reveal();
    server.get_job(&kept).await.unwrap();
    let (folder, log) = server.end();
    all += &log;
    // And when its configuration is damaged.
    fs::write(folder.path().join("data/store/conf"), "damaged").unwrap();
    let server = Faulty::start(folder);
    token += server.token.reveal();
    server.get_job(&kept).await.unwrap();
    let (folder, log) = server.end();
    all += &log;

    for error in told {
        all += &format!("{error:?} {:?}\n", reason(&error));
    }
    let place = folder.path().to_str().unwrap();
    for line in all.lines() {
        assert!(!line.contains(place), "{line}");
        let secrets = token.split("dual16_").filter(|secret| !secret.is_empty());
        assert!(
            !secrets.into_iter().any(|secret| line.contains(secret)),
            "{line}"
        );
    }
}

#[tokio::test]
async fn tokens_and_paths_stay_out_of_the_log_and_a_hangup_reads_files_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let new_token = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dual16-server"));
        command.args("token new --principal ci --role submit".split(' '));
        let made = command.output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(made.stdout).trim().to_owned(), text(made.stderr))
    };
    let ((old, old_entry), (new, new_entry)) = (new_token(), new_token());
    fs::write(file("tokens"), old_entry).unwrap();
    let child = command(&file("data"))
        .args(["--log", "debug", "--tokens"])
        .arg(file("tokens"))
        .arg("--audit-log")
        .arg(file("audit"))
        .arg("--port-file")
        .arg(file("port"))
        .spawn()
        .unwrap();
    wait_for("the port file", || file("port").exists());
    let addr = fs::read_to_string(file("port")).unwrap().trim().to_owned();
    let channel = Channel::from_shared(format!("http://{addr}")).unwrap();
    let channel = channel.connect().await.unwrap();
    let get_job = async |token: &str| {
        let mut request = tonic::Request::new(v1::CancelJobRequest {
            name: "jobs/00000000-0000-7000-8000-000000000000".into(),
        });
        let token = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", token);
        let mut jobs = v1::job_service_client::JobServiceClient::new(channel.clone());
        jobs.cancel_job(request).await.unwrap_err()
    };
    let mut errors = vec![get_job(&old).await, get_job(&new).await];
    assert_eq!(errors[0].code(), tonic::Code::NotFound);
    assert_eq!(errors[1].code(), tonic::Code::Unauthenticated);

    fs::write(file("tokens"), new_entry).unwrap();
    fs::rename(file("audit"), file("audit.1")).unwrap();
    let status = Command::new("kill")
        .args(["-HUP", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
    wait_for("the new audit log", || file("audit").exists());
    // The tokens may be read a moment later.
    for left in (0..1000).rev() {
        if get_job(&new).await.code() == tonic::Code::NotFound {
            break;
        }
        assert!(left > 0, "the tokens were not read again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    errors.push(get_job(&old).await);
    assert_eq!(errors[2].code(), tonic::Code::Unauthenticated);

    let output = tokio::task::spawn_blocking(|| terminate(child)).await;
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("--tokens: read again"), "{told}");
    told += &String::from_utf8(output.stdout).unwrap();
    told += &fs::read_to_string(file("audit.1")).unwrap();
    told += &fs::read_to_string(file("audit")).unwrap();
    for error in errors {
        told += &format!("{error} {:?}", reason(&error));
    }
    let path = folder.path().to_str().unwrap();
    for secret in [&old, &new, path] {
        assert!(!told.contains(secret), "{secret} in\n{told}");
    }
}
