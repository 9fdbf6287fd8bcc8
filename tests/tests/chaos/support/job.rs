//! A job of two tiny layers: every stage and every kind of task, in milliseconds.

use std::collections::{BTreeMap, HashMap};

use dual16_proto::v1::{
    self,
    job_spec::{Kind, Model},
};
use dual16_tests::{ServerProcess, WorkerProcess};
use safetensors::{Dtype, serialize, tensor::TensorView};
use tokio::sync::OnceCell;

use super::{api::Api, load::Watched};

/// A job, distinguished by a note in its batch that changes the bytes and no number.
#[derive(Debug, Clone)]
pub(crate) struct TinyJob {
    pub(crate) note: String,
    /// Of its batch.
    rows: usize,
    /// It is an analysis instead.
    analyze: bool,
}

/// What a job left, comparable between jobs that differ in their notes only.
pub(crate) type Results = BTreeMap<String, Vec<u8>>;

impl TinyJob {
    pub(crate) fn new(note: impl Into<String>) -> Self {
        Self {
            note: note.into(),
            rows: 3,
            analyze: false,
        }
    }

    /// The same with a batch of 29 MB, of which every task has to be read: a good part of a second.
    pub(crate) fn slow(note: impl Into<String>) -> Self {
        Self {
            note: note.into(),
            rows: 300_000,
            analyze: false,
        }
    }

    /// The same as an analysis.
    pub(crate) fn analyzed(mut self) -> Self {
        self.analyze = true;
        self
    }

    /// Uploads what it needs.
    pub(crate) async fn spec(&self, api: &Api) -> v1::JobSpec {
        let weights = file(
            &[
                ("fc1.weight", &[8, 16]),
                ("fc1.bias", &[8]),
                ("fc2.weight", &[4, 8]),
            ],
            "weights",
        );
        let batch = file(
            &[("fc1", &[self.rows, 16]), ("fc2", &[self.rows, 8])],
            &self.note,
        );
        v1::JobSpec {
            model: Some(Model::Layers(v1::LayerModel {
                weights: Some(api.upload("weights.safetensors", &weights).await),
            })),
            calibration: vec![api.upload("activations/0.safetensors", &batch).await],
            kind: self
                .analyze
                .then(|| Kind::Analyze(v1::AnalyzeSpec::default())),
            ..v1::JobSpec::default()
        }
    }

    /// Queues it under its note as the request id.
    pub(crate) async fn submit(&self, api: &Api) -> v1::Job {
        let spec = self.spec(api).await;
        api.create(&spec, &self.note).await
    }
}

/// Every artifact of a job that succeeded, its own digest taken out of them.
pub(crate) async fn results(api: &Api, job: &v1::Job) -> Results {
    assert_eq!(job.state(), v1::JobState::Succeeded, "{job:#?}");
    let mut results = Results::new();
    for artifact in &job.artifacts {
        let bytes = api.download(&artifact.digest).await;
        assert_eq!(bytes.len() as u64, artifact.size, "{}", artifact.name);
        results.insert(artifact.name.clone(), comparable(bytes, job));
    }
    results
}

/// An artifact's bytes with the job's own digest taken out of them.
pub(crate) fn comparable(artifact: Vec<u8>, job: &v1::Job) -> Vec<u8> {
    match String::from_utf8(artifact) {
        Ok(text) => text.replace(&job.spec_digest, "DIGEST").into_bytes(),
        Err(error) => error.into_bytes(),
    }
}

/// What every [`TinyJob`] of a job's kind leaves when nothing disturbs it.
pub(crate) async fn reference(job: &v1::Job) -> &'static Results {
    static QUANTIZED: OnceCell<Results> = OnceCell::const_new();
    static ANALYZED: OnceCell<Results> = OnceCell::const_new();
    let tiny = TinyJob::new("undisturbed");
    match job.spec.as_ref().and_then(|spec| spec.kind.as_ref()) {
        None => QUANTIZED.get_or_init(|| undisturbed(tiny)).await,
        Some(_) => ANALYZED.get_or_init(|| undisturbed(tiny.analyzed())).await,
    }
}

/// What a job leaves when nothing disturbs it.
pub(crate) async fn undisturbed(job: TinyJob) -> Results {
    let server = tokio::task::block_in_place(ServerProcess::start);
    let _worker = WorkerProcess::start(&server, "undisturbed", 1);
    let api = Api::to(&server.url());
    let job = job.submit(&api).await;
    Watched::to_the_end(&api, &job.name).await;
    let results = results(&api, &api.job(&job.name).await).await;
    assert!(results.len() > 4, "{:?}", results.keys());
    results
}

/// A safetensors file of f32 tensors with numbers that look like something.
fn file(tensors: &[(&str, &[usize])], note: &str) -> Vec<u8> {
    let number = |i: usize| ((i * 37 % 101) as f32 - 50.0) / 25.0;
    let bytes = |shape: &[usize]| -> Vec<u8> {
        let count = shape.iter().product();
        (0..count).flat_map(|i| number(i).to_le_bytes()).collect()
    };
    let data: Vec<Vec<u8>> = tensors.iter().map(|(_, shape)| bytes(shape)).collect();
    let views = tensors.iter().zip(&data).map(|((name, shape), data)| {
        let view = TensorView::new(Dtype::F32, shape.to_vec(), data).unwrap();
        (*name, view)
    });
    let notes = HashMap::from([("note".to_owned(), note.to_owned())]);
    serialize(views, Some(notes)).unwrap()
}
