//! Requests of every kind, specs, and what is typed.

use dual16_proto::v1::{
    self, event_detail::Detail, job_spec::Model, layer_setting::Value, payload::Kind,
};
use prost::Message as _;

use super::Seed;

/// The first byte is the number of the method, see `dual16_server::fuzzing::judge`.
pub(super) fn requests() -> Vec<Seed> {
    let name = || "jobs/01890a5d-ac96-774b-bcce-b302099a8057".to_owned();
    let create = v1::CreateJobRequest {
        spec: Some(spec()),
        display_name: "a job".to_owned(),
        request_id: "0".to_owned(),
        ..v1::CreateJobRequest::default()
    };
    let list = v1::ListJobsRequest {
        page_size: 10,
        page_token: String::new(),
        states: vec![1, 5],
    };
    let watch = v1::WatchJobRequest {
        name: name(),
        after_sequence: 3,
    };
    let missing = v1::FindMissingRequest {
        digests: vec![digest(), digest()],
    };
    let download = v1::DownloadRequest {
        digest: digest(),
        offset: 0,
        accept_url: false,
    };
    let heartbeat = v1::HeartbeatRequest {
        worker: "w".to_owned(),
        leases: vec![lease()],
    };
    let release = v1::ReleaseRequest {
        worker: "w".to_owned(),
        leases: vec![lease()],
    };
    vec![
        ("create", with(0, &create)),
        ("get", with(1, &v1::GetJobRequest { name: name() })),
        ("list", with(2, &list)),
        ("cancel", with(3, &v1::CancelJobRequest { name: name() })),
        ("watch", with(5, &watch)),
        ("missing", with(6, &missing)),
        ("download", with(7, &download)),
        ("heartbeat", with(8, &heartbeat)),
        ("complete", with(9, &complete())),
        ("finish", with(9, &finish())),
        ("fail", with(10, &fail())),
        ("release", with(11, &release)),
    ]
}

pub(super) fn specs() -> Vec<Seed> {
    let layers = v1::JobSpec {
        model: Some(Model::Layers(v1::LayerModel {
            weights: Some(file("w.safetensors")),
        })),
        calibration: vec![file("activations/0.npz")],
        ..v1::JobSpec::default()
    };
    vec![
        ("onnx", spec().encode_to_vec()),
        ("layers", layers.encode_to_vec()),
    ]
}

pub(super) fn configs() -> Vec<Seed> {
    let file = "observer = \"mse\"\ntemplate = \"a8w8\"\noutput = \"json\"\nsave_outputs = true\n\
                linear = [\"linear2=split\", \"*.attn.{q,k}=auto\"]\nworkers = 3\n\
                min-layer-sqnr = 25.5\nfixed-scale = \"mul=7/32767\"\n";
    let texts = [
        ("file", file),
        ("way", "linear2=split"),
        ("glob", "blocks.[0-9]*.{a,b}=mul_sum"),
        ("dtype", "x=int16"),
        ("scale", "linear2.mul=7/32767"),
        ("observer", "x=percentile"),
        ("number", "99.99"),
    ];
    texts
        .map(|(name, text)| (name, text.as_bytes().to_vec()))
        .to_vec()
}

fn spec() -> v1::JobSpec {
    let settings = [
        ("linear2", Value::Way("split".to_owned())),
        ("head", Value::Way("auto".to_owned())),
        ("fc", Value::Way("a16w8+eq+scale+gptq+lowrank=8".to_owned())),
        ("proj", Value::Way("a8w16+clip+bc".to_owned())),
        ("gelu", Value::Dtype("int8".to_owned())),
        ("linear2.mul", Value::FixedScale(7.0 / 32767.0)),
        ("softmax", Value::Observer("percentile".to_owned())),
        ("head", Value::HighPrecision(true)),
        ("norm", Value::Operator("two_range".to_owned())),
    ];
    let settings = settings.map(|(name, value)| v1::LayerSetting {
        name: name.to_owned(),
        value: Some(value),
    });
    v1::JobSpec {
        model: Some(Model::Onnx(v1::OnnxModel {
            model: Some(file("model.onnx")),
            external_data: vec![file("weights.bin")],
        })),
        calibration: vec![file("calib/0.npz"), file("calib/1.npz")],
        evaluation: vec![file("eval/0.npz")],
        quantize: Some(v1::QuantizeSpec {
            template: "a16w8".to_owned(),
            observer: "mse".to_owned(),
            percentile: 99.9,
            merge: "ema".to_owned(),
            toolchain: "oe-3.2".to_owned(),
            march: "nash-e".to_owned(),
            rounding: "floor".to_owned(),
            scale_rule: "threshold".to_owned(),
            power_of_two: true,
            min_layer_sqnr: Some(30.0),
            min_output_sqnr: Some(30.0),
            strict: false,
            chip: "[nash-m]\nlaunch_us = 0.5\n".to_owned(),
            output_targets: vec![v1::OutputTarget {
                output: "logits".to_owned(),
                metric: "cosine".to_owned(),
                value: 0.999,
            }],
            settings: settings.to_vec(),
            freeze_integers: true,
            keep_statistics: true,
            allow_fp16: true,
            save_outputs: true,
        }),
        kind: Some(v1::job_spec::Kind::Analyze(v1::AnalyzeSpec {
            exact: Some(50),
            outputs: vec!["logits".to_owned()],
            metric: "l1".to_owned(),
        })),
        deadline_seconds: 7200,
    }
}

fn complete() -> v1::CompleteRequest {
    let stage = v1::Stage {
        name: "observe".to_owned(),
        maps: vec![inline(), blob()],
        reduce: Some(inline()),
        expected_seconds: 7,
    };
    v1::CompleteRequest {
        lease: Some(lease()),
        worker: "w".to_owned(),
        result: Some(inline()),
        events: vec![v1::EventDetail {
            detail: Some(Detail::Notice(v1::Notice {
                severity: 2,
                code: "FLOAT_ISLAND".to_owned(),
                subject: "gelu".to_owned(),
                message: "runs in float".to_owned(),
            })),
        }],
        next: Some(v1::complete_request::Next::Stage(stage)),
        blobs: Vec::new(),
    }
}

fn finish() -> v1::CompleteRequest {
    let artifact = v1::Artifact {
        name: "plan.json".to_owned(),
        digest: digest(),
        size: 3,
    };
    let finish = v1::Finish {
        artifacts: vec![artifact],
    };
    v1::CompleteRequest {
        next: Some(v1::complete_request::Next::Finish(finish)),
        ..complete()
    }
}

fn fail() -> v1::FailRequest {
    v1::FailRequest {
        lease: Some(lease()),
        worker: "w".to_owned(),
        code: "INVALID_MODEL".to_owned(),
        message: "no".to_owned(),
        permanent: true,
    }
}

fn file(name: &str) -> v1::InputFile {
    v1::InputFile {
        name: name.to_owned(),
        digest: digest(),
        size: 7,
    }
}

fn lease() -> v1::LeaseRef {
    v1::LeaseRef {
        task: "jobs/01890a5d-ac96-774b-bcce-b302099a8057/tasks/0-reduce".to_owned(),
        lease_id: "01890a5d-ac96-774b-bcce-b302099a8057".to_owned(),
        attempt: 1,
    }
}

fn inline() -> v1::Payload {
    v1::Payload {
        kind: Some(Kind::Inline(vec![1, 2])),
    }
}

fn blob() -> v1::Payload {
    v1::Payload {
        kind: Some(Kind::Blob(digest())),
    }
}

fn digest() -> String {
    format!("sha256:{}", "0123456789abcdef".repeat(4))
}

fn with(method: u8, message: &impl prost::Message) -> Vec<u8> {
    [&[method][..], &message.encode_to_vec()].concat()
}
