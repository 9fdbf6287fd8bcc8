//! Every RPC, found by reflection, so that a new one cannot be forgotten: without a token, with
//! each role, and on another's job.

use dual16_proto::v1::{CreateJobRequest, Priority};
use dual16_server::policy::Policies;
use prost::Message as _;
use prost_types::FileDescriptorProto;
use tokio_stream::StreamExt as _;
use tonic::{Code, Request};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use super::{
    guarded::{Caller, Guarded},
    support::reason,
};

/// One RPC as reflection describes it.
struct Rpc {
    service: String,
    path: String,
    /// Field 1 of its request is `name`: it is about one job.
    names_a_job: bool,
}

/// Asks the server itself what it serves.
async fn every_rpc(guarded: &Guarded, caller: &Caller) -> Vec<Rpc> {
    let ask = async |message: MessageRequest| {
        let message = ServerReflectionRequest {
            message_request: Some(message),
            ..ServerReflectionRequest::default()
        };
        let mut request = Request::new(tokio_stream::once(message));
        let token = format!("Bearer {}", caller.secret()).parse().unwrap();
        request.metadata_mut().insert("authorization", token);
        let mut client = ServerReflectionClient::new(guarded.channel.clone());
        let answers = client.server_reflection_info(request).await.unwrap();
        let answer = answers.into_inner().next().await.unwrap().unwrap();
        answer.message_response.unwrap()
    };
    let listed = ask(MessageRequest::ListServices(String::new())).await;
    let MessageResponse::ListServicesResponse(services) = listed else {
        panic!("{listed:?}")
    };
    let mut rpcs = Vec::new();
    for service in services.service {
        let name = service.name;
        let described = ask(MessageRequest::FileContainingSymbol(name.clone())).await;
        let MessageResponse::FileDescriptorResponse(files) = described else {
            panic!("{name}: {described:?}")
        };
        let files = files.file_descriptor_proto.iter();
        let files: Vec<_> = files
            .map(|file| FileDescriptorProto::decode(file.as_slice()).unwrap())
            .collect();
        for file in &files {
            for found in &file.service {
                if format!("{}.{}", file.package(), found.name()) != name {
                    continue;
                }
                for method in &found.method {
                    let request = method.input_type().rsplit('.').next().unwrap();
                    let request = file.message_type.iter().find(|m| m.name() == request);
                    let ours = name.starts_with("dual16.");
                    let names_a_job = ours
                        && request.is_some_and(|message| {
                            let mut fields = message.field.iter();
                            fields.any(|field| field.name() == "name" && field.number() == 1)
                        });
                    rpcs.push(Rpc {
                        path: format!("/{name}/{}", method.name()),
                        service: name.clone(),
                        names_a_job,
                    });
                }
            }
        }
    }
    rpcs
}

/// Who may call a service, said once more and not taken from the table that is tested.
fn roles_of(rpc: &Rpc) -> &'static [&'static str] {
    match rpc.service.as_str() {
        "dual16.v1.JobService" => &["submit", "admin"],
        "dual16.v1.WorkerService" => &["worker"],
        "dual16.v1.BlobService" => &["submit", "worker", "admin"],
        "externalscaler.ExternalScaler" => &["scaler"],
        "dual16.v1.InfoService"
        | "grpc.health.v1.Health"
        | "grpc.reflection.v1.ServerReflection" => {
            &["submit", "worker", "admin", "scaler", "urgent"]
        }
        other => panic!("{other} is new: say here who may call it"),
    }
}

#[tokio::test]
async fn every_rpc_asks_who_is_calling_and_whether_it_may() {
    let roles = ["submit", "worker", "admin", "scaler", "urgent"];
    let callers = roles.map(|role| (role, Caller::new(role, role)));
    let guarded = Guarded::start(&callers.each_ref().map(|(_, caller)| caller)).await;
    let (_, submit) = &callers[0];
    let rpcs = every_rpc(&guarded, submit).await;
    assert!(rpcs.len() > 15, "reflection shows too little");
    let policies = Policies::new().unwrap();
    for rpc in &rpcs {
        let path = rpc.path.as_str();
        assert!(policies.find(path).is_some(), "{path} has no row");
        let stranger = guarded.call(path, "", None).await;
        if path == "/grpc.health.v1.Health/Check" {
            assert!(stranger.is_ok(), "a probe has no token: {stranger:?}");
            continue;
        }
        let stranger = stranger.unwrap_err();
        assert_eq!(stranger.code(), Code::Unauthenticated, "{path}: {stranger}");
        assert_eq!(reason(&stranger).0, "CREDENTIALS_MISSING");
        for (role, caller) in &callers {
            let code = guarded
                .call_as(caller, path, "")
                .await
                .err()
                .map(|s| s.code());
            let denied = matches!(code, Some(Code::PermissionDenied | Code::Unauthenticated));
            let may = roles_of(rpc).contains(role);
            assert_eq!(denied, !may, "{path} as {role}: {code:?}");
        }
    }
}

#[tokio::test]
async fn a_high_priority_is_for_who_may_set_it() {
    let plain = Caller::new("ann", "submit");
    let urgent = Caller::new("bob", "submit+urgent");
    let admin = Caller::new("root", "admin");
    let guarded = Guarded::start(&[&plain, &urgent, &admin]).await;
    for (caller, priority, may) in [
        (&plain, Priority::Low, true),
        (&plain, Priority::High, false),
        (&urgent, Priority::High, true),
        (&admin, Priority::High, true),
    ] {
        let request = CreateJobRequest {
            priority: priority.into(),
            ..CreateJobRequest::default()
        };
        match guarded.create(caller, request).await {
            Ok(job) => {
                assert!(may, "{} got {priority:?}", caller.principal);
                assert_eq!(job.priority(), priority);
            }
            Err(status) => {
                assert!(!may, "{}: {status}", caller.principal);
                assert_eq!(status.code(), Code::PermissionDenied);
                assert_eq!(reason(&status).0, "ROLE_MISSING");
                assert!(status.message().contains("admin or urgent"), "{status}");
            }
        }
    }
}

#[tokio::test]
async fn a_job_of_another_does_not_exist() {
    let ann = Caller::new("ann", "submit");
    let bob = Caller::new("bob", "submit");
    let admin = Caller::new("root", "admin");
    let guarded = Guarded::start(&[&ann, &bob, &admin]).await;
    let job = guarded.submit(&ann, "same").await;
    let other = guarded.submit(&bob, "same").await;
    assert_ne!(job, other, "request ids are their owner's");
    let unknown = "jobs/00000000-0000-7000-8000-000000000000";

    let rpcs = every_rpc(&guarded, &admin).await;
    let on_jobs = rpcs.iter().filter(|rpc| rpc.names_a_job);
    let on_jobs: Vec<_> = on_jobs.map(|rpc| rpc.path.as_str()).collect();
    assert!(on_jobs.len() >= 5, "{on_jobs:?}");
    for path in &on_jobs {
        let theirs = guarded.call_as(&bob, path, &job).await.unwrap_err();
        let nothing = guarded.call_as(&bob, path, unknown).await.unwrap_err();
        assert_eq!(theirs.code(), Code::NotFound, "{path}: {theirs}");
        assert_eq!(reason(&theirs).0, reason(&nothing).0);
        let same = theirs.message().replace(&job, unknown);
        assert_eq!(same, nothing.message(), "the answers tell it apart");
    }
    assert_eq!(guarded.jobs_of(&ann).await, std::slice::from_ref(&job));
    assert_eq!(guarded.jobs_of(&bob).await, std::slice::from_ref(&other));
    assert_eq!(guarded.jobs_of(&admin).await, [other, job.clone()]);
    let get = "/dual16.v1.JobService/GetJob";
    for caller in [&ann, &admin] {
        guarded.call_as(caller, get, &job).await.unwrap();
    }
    let cancel = "/dual16.v1.JobService/CancelJob";
    guarded.call_as(&admin, cancel, &job).await.unwrap();
    let delete = "/dual16.v1.JobService/DeleteJob";
    guarded.call_as(&ann, delete, &job).await.unwrap();
}

#[tokio::test]
async fn what_is_no_rpc_is_refused_and_what_is_no_token_too() {
    let admin = Caller::new("root", "admin");
    let guarded = Guarded::start(&[&admin]).await;
    for path in [
        "/dual16.v1.JobService/Nothing",
        "/dual16.v1.NoService/GetJob",
        // Newer health services have it, and it would list what there is.
        "/grpc.health.v1.Health/List",
        "/x",
    ] {
        let known = guarded.call_as(&admin, path, "").await.unwrap_err();
        assert_eq!(known.code(), Code::Unimplemented, "{path}: {known}");
        let stranger = guarded.call(path, "", None).await.unwrap_err();
        assert_eq!(stranger.code(), Code::Unauthenticated, "{path}: {stranger}");
    }
    let path = "/dual16.v1.InfoService/GetInfo";
    let secret = admin.secret();
    for authorization in [
        String::new(),
        secret.to_owned(),
        format!("Basic {secret}"),
        "Bearer".to_owned(),
        format!("Bearer {}", &secret[..secret.len() - 1]),
        format!("Bearer {secret}0"),
        format!("Bearer {}", secret.to_uppercase()),
    ] {
        let refused = guarded.call(path, "", Some(&authorization)).await;
        let refused = refused.unwrap_err();
        assert_eq!(reason(&refused).0, "TOKEN_UNKNOWN", "{refused}");
        assert!(!refused.message().contains(secret));
    }
    // The scheme's case does not matter.
    let lower = format!("bearer {secret}");
    guarded.call(path, "", Some(&lower)).await.unwrap();
}

#[tokio::test]
async fn without_a_tokens_file_everyone_may_do_everything() {
    let server = super::support::serve_new().await;
    let job = server.create("").await;
    assert_eq!(job.owner, "anonymous");
    let dry = CreateJobRequest {
        spec: Some(server.spec().await),
        validate_only: true,
        ..CreateJobRequest::default()
    };
    let dry = server.jobs.clone().create_job(dry).await.unwrap();
    assert_eq!(dry.into_inner().owner, "anonymous");
    assert_eq!(server.job(&job.name).await.owner, "anonymous");
}
