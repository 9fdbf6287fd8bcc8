//! Every way a request can be malformed: the field is named, the reason is stable.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the helpers of tests fail as the tests themselves do"
)]

mod support;

use dual16_proto::v1::{self, job_spec::Model};
use support::*;
use tonic::Code;

type Change = fn(&mut v1::CreateJobRequest);

fn spec(request: &mut v1::CreateJobRequest) -> &mut v1::JobSpec {
    request.spec.as_mut().unwrap()
}

fn onnx(request: &mut v1::CreateJobRequest) -> &mut v1::OnnxModel {
    match spec(request).model.as_mut().unwrap() {
        Model::Onnx(onnx) => onnx,
        Model::Layers(_) => panic!("the test's spec has an ONNX model"),
    }
}

fn rename(request: &mut v1::CreateJobRequest, name: &str) {
    spec(request).calibration[1].name = name.into();
}

const NAME: &str = "spec.calibration[1].name";

/// What is more than a limit allows, rather than malformed; `tests/limits` has every limit.
const TOO_MUCH: [&str; 6] = [
    "TOO_MANY",
    "TOO_LONG",
    "SPEC_TOO_LARGE",
    "BLOB_TOO_LARGE",
    "PAYLOAD_TOO_LARGE",
    "EVENT_TOO_LARGE",
];

/// The code and reason of a refusal whose first violation has this reason.
fn refusal(violation: &str) -> (Code, &str) {
    match TOO_MUCH.contains(&violation) {
        true => (Code::ResourceExhausted, "LIMIT_EXCEEDED"),
        false => (Code::InvalidArgument, violation),
    }
}

/// What is wrong, the field it is told under, and the reason.
const CREATE_JOB: &[(&str, &str, Change)] = &[
    ("priority", "INVALID_PRIORITY", |r| r.priority = 4),
    ("spec", "REQUIRED", |r| r.spec = None),
    ("spec", "MODEL_MISSING", |r| spec(r).model = None),
    ("spec.onnx.model", "MODEL_MISSING", |r| onnx(r).model = None),
    ("spec.layers.weights", "MODEL_MISSING", |r| {
        spec(r).model = Some(Model::Layers(v1::LayerModel { weights: None }));
    }),
    ("spec.calibration", "EMPTY_CALIBRATION", |r| {
        spec(r).calibration.clear()
    }),
    ("spec.calibration", "TOO_MANY", |r| {
        let file = spec(r).calibration[0].clone();
        let named = |i| v1::InputFile {
            name: format!("{i}"),
            ..file.clone()
        };
        spec(r).calibration = (0..10_001).map(named).collect();
    }),
    ("spec", "SPEC_TOO_LARGE", |r| {
        let file = spec(r).calibration[0].clone();
        let named = |i| v1::InputFile {
            name: format!("{i:0150}"),
            ..file.clone()
        };
        spec(r).calibration = (0..8_000).map(named).collect();
    }),
    (NAME, "REQUIRED", |r| rename(r, "")),
    (NAME, "INVALID_PATH", |r| rename(r, "/etc/passwd")),
    (NAME, "INVALID_PATH", |r| rename(r, "calib/../../x")),
    (NAME, "INVALID_PATH", |r| rename(r, "calib//x")),
    (NAME, "INVALID_PATH", |r| rename(r, "./x")),
    (NAME, "INVALID_PATH", |r| rename(r, "x/")),
    (NAME, "INVALID_PATH", |r| rename(r, "calib\\x")),
    (NAME, "INVALID_PATH", |r| rename(r, "C:x")),
    (NAME, "INVALID_NAME", |r| rename(r, "a\0b")),
    (NAME, "TOO_LONG", |r| rename(r, &"x".repeat(257))),
    // Malformed whatever the limits, however much of it there is.
    ("display_name", "INVALID_NAME", |r| {
        r.display_name = "a\nb".into();
        rename(r, &"x".repeat(257));
    }),
    ("spec.calibration[2].name", "DUPLICATE_NAME", |r| {
        spec(r).calibration[2].name = spec(r).calibration[0].name.clone();
    }),
    ("spec.onnx.external_data[0].name", "DUPLICATE_NAME", |r| {
        let model = onnx(r).model.clone().unwrap();
        onnx(r).external_data.push(model);
    }),
    ("spec.calibration[1].digest", "INVALID_DIGEST", |r| {
        spec(r).calibration[1].digest = "md5:00".into();
    }),
    ("spec.calibration[1].digest", "INVALID_DIGEST", |r| {
        let digest = &mut spec(r).calibration[1].digest;
        *digest = digest.to_uppercase();
    }),
    ("spec.calibration[1].size", "BLOB_TOO_LARGE", |r| {
        spec(r).calibration[1].size = 1 << 40
    }),
    ("spec.calibration[1].size", "SIZE_MISMATCH", |r| {
        spec(r).calibration[1].size += 1
    }),
    ("spec.evaluation[0].name", "INVALID_PATH", |r| {
        let file = v1::InputFile {
            name: "..".into(),
            ..spec(r).calibration[0].clone()
        };
        spec(r).evaluation.push(file);
    }),
    ("spec.quantize.settings[0].name", "REQUIRED", |r| {
        let way = v1::layer_setting::Value::Way("split".into());
        let setting = v1::LayerSetting {
            name: String::new(),
            value: Some(way),
        };
        spec(r).quantize = Some(v1::QuantizeSpec {
            settings: vec![setting],
            ..Default::default()
        });
    }),
    ("spec.quantize.settings[0]", "REQUIRED", |r| {
        let setting = v1::LayerSetting {
            name: "fc1".into(),
            value: None,
        };
        spec(r).quantize = Some(v1::QuantizeSpec {
            settings: vec![setting],
            ..Default::default()
        });
    }),
    ("display_name", "INVALID_NAME", |r| {
        r.display_name = "a\nb".into()
    }),
    ("request_id", "TOO_LONG", |r| r.request_id = "x".repeat(257)),
];

#[tokio::test]
async fn a_malformed_job_is_refused_by_field() {
    let server = serve_new().await;
    let good = submission(server.spec().await);
    for (i, (field, expected, change)) in CREATE_JOB.iter().enumerate() {
        let mut request = good.clone();
        change(&mut request);
        let status = server
            .jobs
            .clone()
            .create_job(request)
            .await
            .expect_err(field);
        let (reason, details) = reason(&status);
        let row = format!("row {i}: {status}");
        assert_eq!((status.code(), reason.as_str()), refusal(expected), "{row}");
        let violation = &details.bad_request().unwrap().field_violations[0];
        assert_eq!(violation.field, *field, "{row}");
        assert_eq!(violation.reason, *expected, "{row}");
        assert!(details.retry_info().is_none(), "{row}");
        assert!(status.message().contains(field), "{row}");
    }
    let list = v1::ListJobsRequest::default();
    assert!(
        ok(server.jobs.clone().list_jobs(list))
            .await
            .jobs
            .is_empty()
    );
    server.jobs.clone().create_job(good).await.unwrap();
}

#[tokio::test]
async fn a_blob_that_was_not_uploaded_is_a_precondition() {
    let server = serve_new().await;
    let mut spec = server.spec().await;
    let missing = dual16_server::digest::Digest::of(b"never uploaded").to_string();
    spec.calibration[2].digest.clone_from(&missing);
    let request = submission(spec);
    let status = server.jobs.clone().create_job(request).await.unwrap_err();
    let details = assert_refused(&status, Code::FailedPrecondition, "BLOBS_MISSING");
    let violations = &details.precondition_failure().unwrap().violations;
    assert_eq!(violations.len(), 1);
    assert_eq!(violations[0].subject, missing);
    assert!(
        violations[0]
            .description
            .contains("spec.calibration[2].digest")
    );
}

#[tokio::test]
async fn names_tokens_and_states_are_checked() {
    let server = serve_new().await;
    for name in ["", "jobs/", "jobs/17", "jobs/../x"] {
        let status = server
            .jobs
            .clone()
            .get_job(v1::GetJobRequest { name: name.into() })
            .await;
        let status = status.unwrap_err();
        assert_refused(&status, Code::InvalidArgument, "INVALID_NAME");
    }
    let token = v1::ListJobsRequest {
        page_token: "zz".into(),
        ..Default::default()
    };
    let status = server.jobs.clone().list_jobs(token).await.unwrap_err();
    assert_eq!(reason(&status).0, "INVALID_PAGE_TOKEN");
    let states = v1::ListJobsRequest {
        states: vec![0],
        ..Default::default()
    };
    let status = server.jobs.clone().list_jobs(states).await.unwrap_err();
    assert_eq!(reason(&status).0, "INVALID_STATE");
}

type ResultChange = fn(&mut v1::CompleteRequest);

const COMPLETE: &[(&str, &str, ResultChange)] = &[
    ("lease", "REQUIRED", |r| r.lease = None),
    ("lease.task", "INVALID_NAME", |r| {
        r.lease.as_mut().unwrap().task = "jobs/x".into()
    }),
    ("lease.lease_id", "INVALID_LEASE", |r| {
        r.lease.as_mut().unwrap().lease_id.clear()
    }),
    ("lease.attempt", "REQUIRED", |r| {
        r.lease.as_mut().unwrap().attempt = 0
    }),
    ("worker", "REQUIRED", |r| r.worker.clear()),
    ("result", "PAYLOAD_TOO_LARGE", |r| {
        r.result = Some(inline(&"x".repeat(16_385)))
    }),
    ("events[0]", "RESERVED_EVENT", |r| {
        let detail = v1::event_detail::Detail::TaskDone(v1::TaskDone::default());
        r.events.push(v1::EventDetail {
            detail: Some(detail),
        });
    }),
    ("events[0]", "EVENT_TOO_LARGE", |r| {
        let notice = v1::Notice {
            message: "x".repeat(20_000),
            ..Default::default()
        };
        let detail = v1::event_detail::Detail::Notice(notice);
        r.events.push(v1::EventDetail {
            detail: Some(detail),
        });
    }),
    ("stage.name", "REQUIRED", |r| {
        r.next = Some(v1::complete_request::Next::Stage(v1::Stage::default()));
    }),
    ("finish.artifacts[0].name", "INVALID_PATH", |r| {
        let artifact = v1::Artifact {
            name: "../x".into(),
            ..Default::default()
        };
        let finish = v1::Finish {
            artifacts: vec![artifact],
        };
        r.next = Some(v1::complete_request::Next::Finish(finish));
    }),
];

#[tokio::test]
async fn a_malformed_result_is_refused_and_the_task_can_still_be_completed() {
    let server = serve_new().await;
    server.create("").await;
    let plan = server.lease_one().await;
    for (field, expected, change) in COMPLETE {
        let mut request = do_task(&plan);
        change(&mut request);
        let status = server.complete(request).await.expect_err(field);
        let (reason, details) = reason(&status);
        assert_eq!(
            (status.code(), reason.as_str()),
            refusal(expected),
            "{status}"
        );
        let violation = &details.bad_request().unwrap().field_violations[0];
        assert_eq!(
            (violation.field.as_str(), violation.reason.as_str()),
            (*field, *expected)
        );
    }
    let artifact = v1::Artifact {
        name: "out.bin".into(),
        digest: server.upload(b"artifact").await.digest,
        size: 9,
    };
    let finish = v1::Finish {
        artifacts: vec![artifact],
    };
    let wrong_size = v1::CompleteRequest {
        next: Some(v1::complete_request::Next::Finish(finish)),
        ..completion(&plan, "")
    };
    let status = server.complete(wrong_size).await.unwrap_err();
    let (told, details) = reason(&status);
    assert_eq!(told, "WRONG_SIZE", "{status}");
    let field = &details.bad_request().unwrap().field_violations[0].field;
    assert_eq!(field, "finish.artifacts[0].size");
    let without_next = completion(&plan, "");
    let status = server.complete(without_next).await.unwrap_err();
    assert_eq!(reason(&status).0, "NEXT_MISSING");
    let blob = dual16_server::digest::Digest::of(b"nowhere").to_string();
    let kind = Some(v1::payload::Kind::Blob(blob));
    let missing = v1::CompleteRequest {
        result: Some(v1::Payload { kind }),
        ..do_task(&plan)
    };
    let status = server.complete(missing).await.unwrap_err();
    assert_eq!(reason(&status).0, "BLOBS_MISSING");
    server.complete(do_task(&plan)).await.unwrap();
}

#[tokio::test]
async fn a_failure_gets_through_however_long_its_message() {
    let server = serve_new().await;
    let job = server.create("").await;
    let plan = server.lease_one().await;
    let long = "ß".repeat(100_000);
    let failed = server.fail(&plan, "INVALID_MODEL", &long, true).await;
    failed.unwrap();
    let error = server.job(&job.name).await.error.unwrap();
    assert_eq!(
        (error.code.as_str(), error.attempts.len()),
        ("INVALID_MODEL", 1)
    );
    assert_eq!(error.message.chars().filter(|c| *c == 'ß').count(), 1024);
}
