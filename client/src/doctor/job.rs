//! A job as small as a job can be: one Linear, one batch, in layer mode, made here. It shows that
//! the server takes jobs and that a worker does them.

use std::time::{Duration, Instant};

use dual16_proto::v1::{CreateJobRequest, Job, JobSpec, JobState, LayerModel, job_spec::Model};
use serde_json::json;
use uuid::Uuid;

use super::{Finding, network::millis};
use crate::api::{ApiError, Client, JobName};

const DRY_RUN: &str = "dry run";
const JOB: &str = "job";
const POLL: Duration = Duration::from_millis(200);

/// The dry run and the real one, which must have ended after `patience`.
pub(super) async fn run(client: &Client, patience: Duration) -> [Finding; 2] {
    let spec = match upload(client).await {
        Ok(spec) => spec,
        Err(problem) => {
            let remedy = "mend the blob first";
            return [
                Finding::fail(DRY_RUN, problem, remedy),
                Finding::skipped(JOB, "its files are not there"),
            ];
        }
    };
    let request = CreateJobRequest {
        spec: Some(spec),
        display_name: "dual16 doctor".to_owned(),
        request_id: Uuid::new_v4().to_string(),
        ..CreateJobRequest::default()
    };
    let check = CreateJobRequest {
        validate_only: true,
        ..request.clone()
    };
    if let Err(error) = client.create_job(check).await {
        return [
            Finding::fail(DRY_RUN, error.to_string(), remedy(&error)),
            Finding::skipped(JOB, "the server does not take it"),
        ];
    }
    let taken = Finding::ok(DRY_RUN, "the server would take a job");
    [taken, do_job(client, request, patience).await]
}

/// What somebody does whose job is refused.
fn remedy(error: &ApiError) -> &'static str {
    match error {
        ApiError::Refused { reason, .. } if reason == "ROLE_MISSING" => {
            "use the token of somebody who may submit: --token-file or DUAL16_TOKEN"
        }
        ApiError::Refused { reason, .. }
            if reason == "QUOTA_EXCEEDED" || reason == "QUEUE_FULL" =>
        {
            "wait until jobs have ended, or delete old ones; `dual16 jobs` lists them"
        }
        _ => "the server refuses jobs like any other client's: its message says why",
    }
}

async fn do_job(client: &Client, request: CreateJobRequest, patience: Duration) -> Finding {
    let began = Instant::now();
    let named = |job: &Job| job.name.parse::<JobName>();
    let job = match client.create_job(request).await {
        Ok(job) => job,
        Err(error) => return Finding::fail(JOB, error.to_string(), "the message says why"),
    };
    let Ok(name) = named(&job) else {
        return Finding::fail(
            JOB,
            format!("{:?} is no name of a job", job.name),
            "update the server",
        );
    };
    let finding = match wait(client, &name, patience).await {
        Ok(job) => judge(&job, began.elapsed(), patience),
        Err(error) => Finding::fail(JOB, error.to_string(), "see the server's log"),
    };
    // Nothing of the examination is to be left; what cannot be removed is in nobody's way.
    let _ = client.cancel_job(&name).await;
    let _ = client.delete_job(&name).await;
    finding
}

/// The job once it has ended, or as it is when the time is over.
async fn wait(client: &Client, name: &JobName, patience: Duration) -> Result<Job, ApiError> {
    let began = Instant::now();
    loop {
        let job = client.get_job(name).await?;
        let ended = !matches!(job.state(), JobState::Pending | JobState::Running);
        if ended || began.elapsed() >= patience {
            return Ok(job);
        }
        tokio::time::sleep(POLL).await;
    }
}

fn judge(job: &Job, took: Duration, patience: Duration) -> Finding {
    let seconds = patience.as_secs();
    match job.state() {
        JobState::Succeeded => {
            Finding::ok(JOB, format!("a worker did a tiny job, in {}", millis(took)))
        }
        JobState::Pending => Finding::warn(
            JOB,
            format!("no worker: none took a tiny job within {seconds} s"),
            "start a dual16-worker for this server; if there are some, they are busy or cannot \
             reach it",
        ),
        JobState::Running => Finding::warn(
            JOB,
            format!("a worker took a tiny job and had not done it after {seconds} s"),
            "the workers are busy or slow; look at their logs, or wait longer with --deadline",
        ),
        JobState::Failed => {
            let error = job.error.clone().unwrap_or_default();
            let found = format!("a tiny job failed: {} [{}]", error.message, error.code);
            Finding::fail(
                JOB,
                found,
                "look at the worker's log; its version may be another",
            )
        }
        state => Finding::fail(
            JOB,
            format!("a tiny job ended as {}", state.as_str_name()),
            "somebody stopped it; try again",
        ),
    }
}

/// Brings the two files to the server.
async fn upload(client: &Client) -> Result<JobSpec, String> {
    let weight: Vec<f32> = (0..32).map(|i| (i as f32 - 15.5) / 16.0).collect();
    let input: Vec<f32> = (0..16).map(|i| (i as f32 - 7.5) / 8.0).collect();
    let weights = safetensors(&[("doctor.weight", &[4, 8], &weight)]);
    let batch = safetensors(&[("doctor", &[2, 8], &input)]);
    let upload = async |name, bytes| {
        let sent = client.upload_bytes(name, bytes).await;
        sent.map_err(|error| format!("upload of {name}: {error}"))
    };
    let weights = upload("weights.safetensors", weights).await?;
    let batch = upload("calib/000.safetensors", batch).await?;
    Ok(JobSpec {
        model: Some(Model::Layers(LayerModel {
            weights: Some(weights),
        })),
        calibration: vec![batch],
        ..JobSpec::default()
    })
}

/// The format in full: the length of a JSON header, the header, the tensors
/// (<https://huggingface.co/docs/safetensors>).
fn safetensors(tensors: &[(&str, &[usize], &[f32])]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, shape, values) in tensors {
        let begin = data.len();
        data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let described =
            json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()]});
        header.insert((*name).to_owned(), described);
    }
    let mut header = serde_json::Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(data);
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn every_end_of_the_job_has_its_verdict() {
        let at = |state: JobState| {
            let job = Job {
                state: state.into(),
                ..Job::default()
            };
            judge(&job, Duration::from_secs(1), Duration::from_secs(30))
        };
        assert_eq!(at(JobState::Succeeded).verdict, Verdict::Ok);
        assert!(at(JobState::Pending).found.starts_with("no worker"));
        assert_eq!(at(JobState::Pending).verdict, Verdict::Warn);
        assert_eq!(at(JobState::Running).verdict, Verdict::Warn);
        assert_eq!(at(JobState::Failed).verdict, Verdict::Fail);
        assert_eq!(at(JobState::Cancelled).verdict, Verdict::Fail);
        assert!(at(JobState::Failed).remedy.contains("worker"));
    }
}
