//! Tables of jobs and of the server.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use dual16_proto::v1::{GetInfoResponse, Job, JobState, job_spec::Model};
use indicatif::HumanBytes;
use prost_types::Timestamp;

use super::terminal::Paint;

/// An empty table in the common style; wraps only on a terminal.
pub(super) fn new_table(paint: Paint) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::ASCII_MARKDOWN)
        .set_content_arrangement(ContentArrangement::Dynamic);
    match paint.is_on() {
        true => table.enforce_styling(),
        false => table.force_no_tty(),
    };
    table
}

/// A cell for a number.
pub(super) fn right(text: String) -> Cell {
    Cell::new_owned(text).set_alignment(CellAlignment::Right)
}

/// One row for each job.
pub fn jobs_table(jobs: &[Job], paint: Paint) -> String {
    let mut table = new_table(paint);
    table.set_header(vec!["job", "name", "state", "stage", "created", "took"]);
    for job in jobs {
        table.add_row(vec![
            job.name.clone(),
            job.display_name.clone(),
            state_name(job.state()).to_owned(),
            stage_text(job),
            time_text(job.create_time.as_ref()),
            took(job),
        ]);
    }
    table.trim_fmt()
}

/// Everything about one job, a line each.
pub fn job_table(job: &Job, paint: Paint) -> String {
    let mut table = new_table(paint);
    table.set_header(vec!["job", &job.name]);
    let mut row = |key: &str, value: String| {
        if !value.is_empty() {
            table.add_row(vec![key.to_owned(), value]);
        }
    };
    row("name", job.display_name.clone());
    row("state", state_name(job.state()).to_owned());
    if let Some(spec) = &job.spec {
        row("model", model_text(spec.model.as_ref()));
        row("calibration", format!("{} batches", spec.calibration.len()));
        if !spec.evaluation.is_empty() {
            row("evaluation", format!("{} batches", spec.evaluation.len()));
        }
        if let Some(quantize) = &spec.quantize {
            row("template", quantize.template.clone());
            row(
                "observer",
                format!("{}, merge {}", quantize.observer, quantize.merge),
            );
            row(
                "target",
                format!("{}, {}", quantize.march, quantize.toolchain),
            );
        }
    }
    row("created", time_text(job.create_time.as_ref()));
    row("started", time_text(job.start_time.as_ref()));
    row("ended", time_text(job.end_time.as_ref()));
    row("trace", job.trace_id.clone());
    for stage in &job.stages {
        let running = match stage.running {
            0 => String::new(),
            running => format!(", {running} running"),
        };
        row(
            &format!("stage {}", stage.stage),
            format!("{}/{}{running}", stage.done, stage.tasks),
        );
    }
    if let Some(error) = &job.error {
        row("error", format!("{} [{}]", error.message, error.code));
        row("failed task", error.task.clone());
        for attempt in &error.attempts {
            let text = format!("on {}: {}", attempt.worker, attempt.message);
            row(&format!("attempt {}", attempt.attempt), text);
        }
    }
    for artifact in &job.artifacts {
        row(
            "artifact",
            format!("{} ({})", artifact.name, HumanBytes(artifact.size)),
        );
    }
    table.trim_fmt()
}

/// Version, load and limits of a server.
pub fn info_table(url: &str, info: &GetInfoResponse, paint: Paint) -> String {
    let mut table = new_table(paint);
    table.set_header(vec!["server", url]);
    let mut row = |key: &str, value: String| {
        table.add_row(vec![key.to_owned(), value]);
    };
    row("version", info.version.clone());
    row("queued tasks", info.queued_tasks.to_string());
    row("leased tasks", info.leased_tasks.to_string());
    row("quarantined workers", info.quarantined_workers.to_string());
    row("stored bytes", info.stored_bytes.to_string());
    let mut limits: Vec<_> = info.limits.iter().collect();
    limits.sort();
    for (name, limit) in limits {
        row(&format!("limit {name}"), limit.to_string());
    }
    table.trim_fmt()
}

/// The state as people read it.
pub(super) fn state_name(state: JobState) -> &'static str {
    match state {
        JobState::Unspecified => "unknown",
        JobState::Pending => "pending",
        JobState::Running => "running",
        JobState::Succeeded => "succeeded",
        JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
    }
}

fn model_text(model: Option<&Model>) -> String {
    let file = match model {
        Some(Model::Onnx(onnx)) => onnx.model.as_ref(),
        Some(Model::Layers(layers)) => layers.weights.as_ref(),
        None => None,
    };
    file.map_or_else(String::new, |file| {
        format!("{} ({})", file.name, HumanBytes(file.size))
    })
}

fn stage_text(job: &Job) -> String {
    match (job.state(), job.stages.last()) {
        (JobState::Running, Some(stage)) => {
            format!("{} {}/{}", stage.stage, stage.done, stage.tasks)
        }
        _ => String::new(),
    }
}

fn time_text(time: Option<&Timestamp>) -> String {
    time.map_or_else(String::new, |time| {
        Timestamp { nanos: 0, ..*time }.to_string()
    })
}

fn took(job: &Job) -> String {
    let (Some(start), Some(end)) = (&job.start_time, &job.end_time) else {
        return String::new();
    };
    let seconds = (end.seconds - start.seconds) as f64 + f64::from(end.nanos - start.nanos) * 1e-9;
    format!("{seconds:.1} s")
}

#[cfg(test)]
mod tests {
    use dual16_proto::v1::{Artifact, JobError, StageProgress};

    use super::*;
    use crate::render::Terminal;

    #[test]
    fn a_job_shows_its_stages_error_and_artifacts() {
        let job = Job {
            name: "jobs/1".to_owned(),
            state: JobState::Failed.into(),
            create_time: Some(Timestamp {
                seconds: 0,
                nanos: 5,
            }),
            stages: vec![StageProgress {
                stage: "observe".to_owned(),
                tasks: 9,
                done: 3,
                running: 0,
            }],
            error: Some(JobError {
                code: "INVALID_BATCH".to_owned(),
                message: "nan in x".to_owned(),
                ..JobError::default()
            }),
            artifacts: vec![Artifact {
                name: "plan.json".to_owned(),
                size: 2048,
                ..Artifact::default()
            }],
            ..Job::default()
        };
        let paint = Terminal::plain().stdout_paint();
        let text = job_table(&job, paint);
        for part in [
            "3/9",
            "nan in x [INVALID_BATCH]",
            "2.00 KiB",
            "1970-01-01T00:00:00Z",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(jobs_table(&[job], paint).contains("failed"));
    }
}
