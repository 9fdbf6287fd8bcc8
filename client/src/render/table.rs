//! Tables of jobs and of the server.

use dual16_proto::v1::{GetInfoResponse, Job, JobState, Priority, job_spec::Model};
use indicatif::HumanBytes;
use prost_types::Timestamp;

use super::{
    counted,
    grid::{Grid, text, word},
    terminal::Paint,
};

/// One row for each job.
pub fn jobs_table(jobs: &[Job], paint: Paint) -> String {
    let mut grid = Grid::new([
        word("job"),
        text("name").may_go(5),
        word("state"),
        word("priority").may_go(1),
        word("stage").may_go(4),
        word("created").may_go(2),
        word("took").may_go(3),
    ]);
    for job in jobs {
        grid.row([
            job.name.as_str().into(),
            job.display_name.as_str().into(),
            state_name(job.state()).into(),
            priority_name(job.priority()).into(),
            stage_text(job).into(),
            time_text(job.create_time.as_ref()).into(),
            took(job).into(),
        ]);
    }
    grid.render(paint)
}

/// Everything about one job, a line each.
pub fn job_table(job: &Job, paint: Paint) -> String {
    let mut grid = Grid::new([word("job"), text(&job.name)]);
    let mut row = |key: &str, value: String| {
        if !value.is_empty() {
            grid.row([key.into(), value.into()]);
        }
    };
    row("name", job.display_name.clone());
    row("state", state_name(job.state()).to_owned());
    row("priority", priority_name(job.priority()).to_owned());
    if let Some(spec) = &job.spec {
        row("model", model_text(spec.model.as_ref()));
        let batches = |count: usize| counted(count, "batch", "batches");
        row("calibration", batches(spec.calibration.len()));
        if !spec.evaluation.is_empty() {
            row("evaluation", batches(spec.evaluation.len()));
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
    grid.render(paint)
}

/// Version, load and limits of a server.
pub fn info_table(url: &str, info: &GetInfoResponse, paint: Paint) -> String {
    let mut grid = Grid::new([word("server"), text(url)]);
    let mut row = |key: &str, value: String| grid.row([key.into(), value.into()]);
    row("version", info.version.clone());
    row("queued tasks", info.queued_tasks.to_string());
    row("leased tasks", info.leased_tasks.to_string());
    row("quarantined workers", info.quarantined_workers.to_string());
    row("stored", HumanBytes(info.stored_bytes).to_string());
    let mut limits: Vec<_> = info.limits.iter().collect();
    limits.sort();
    for (name, &limit) in limits {
        let value = match name.ends_with("bytes") {
            true => HumanBytes(limit).to_string(),
            false => limit.to_string(),
        };
        row(&format!("limit {name}"), value);
    }
    grid.render(paint)
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

fn priority_name(priority: Priority) -> &'static str {
    match priority {
        Priority::Unspecified => "",
        Priority::Low => "low",
        Priority::Normal => "normal",
        Priority::High => "high",
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
            priority: Priority::High.into(),
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
            "high",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let listed = jobs_table(&[job], paint);
        assert!(
            listed.contains("failed") && listed.contains("high"),
            "{listed}"
        );
    }

    #[test]
    fn counts_and_sizes_are_told_as_people_say_them() {
        use dual16_proto::v1::{InputFile, JobSpec};

        let paint = Terminal::plain().stdout_paint();
        let job = Job {
            spec: Some(JobSpec {
                calibration: vec![InputFile::default()],
                ..JobSpec::default()
            }),
            ..Job::default()
        };
        assert!(job_table(&job, paint).contains("1 batch "));
        let info = GetInfoResponse {
            stored_bytes: 112_794_518,
            limits: [
                ("blob_bytes".to_owned(), 1 << 34),
                ("attempts".to_owned(), 3),
            ]
            .into(),
            ..GetInfoResponse::default()
        };
        let text = info_table("http://h:1", &info, paint);
        for part in ["107.57 MiB", "16.00 GiB", "| 3 "] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn sixty_columns_hold_a_job_and_its_whole_id() {
        let id = "jobs/01a21e55-0000-7000-8000-000000000000";
        let job = Job {
            name: id.to_owned(),
            display_name: "a model of a long name".to_owned(),
            state: JobState::Succeeded.into(),
            ..Job::default()
        };
        for text in [
            jobs_table(std::slice::from_ref(&job), Paint::plain(Some(60))),
            job_table(&job, Paint::plain(Some(60))),
        ] {
            assert!(text.contains(id) && text.contains("succeeded"), "{text}");
            assert!(
                text.lines().all(|line| line.chars().count() <= 60),
                "{text}"
            );
        }
    }
}
