//! The one error of the command line, and the exit code of each kind.

use std::{io, path::PathBuf};

use dual16_proto::v1::JobError;
use tonic::Code;

use crate::{api::ApiError, config::ConfigError, inputs::InputError};

/// Exit code of wrong usage and of bad input.
pub const BAD_INPUT: u8 = 2;

/// Codes of failed jobs whose input is at fault: found by a worker rather than here, wrong all the
/// same, so they end a command as bad input does.
const BAD_INPUT_CODES: [&str; 7] = [
    "INVALID_MODEL",
    "INVALID_BATCH",
    "NON_FINITE",
    "UNKNOWN_NAME",
    "INVALID_SETTING",
    "ILLEGAL_WAY",
    LIMIT_EXCEEDED,
];

/// Code of a job, and reason of a refusal, for what is more than a server ever takes. That of a
/// refusal for now is another one.
const LIMIT_EXCEEDED: &str = "LIMIT_EXCEEDED";

/// Why a command ended without doing what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line, the environment or the configuration file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A combination of arguments that makes no sense.
    #[error("{problem}; {remedy}")]
    Usage {
        /// What is wrong.
        problem: String,
        /// What would be right.
        remedy: String,
    },
    /// A file or folder of the job.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A call, a transfer or a watch.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The cluster in this process.
    #[error("the local cluster: {0}")]
    Local(String),
    /// The job ended as FAILED.
    #[error("{}", failure(.job, .error))]
    JobFailed {
        /// The job's name.
        job: String,
        /// Its error.
        error: Box<JobError>,
    },
    /// The job ended as CANCELLED.
    #[error("{job} was cancelled")]
    Cancelled {
        /// The job's name.
        job: String,
    },
    /// The job has not succeeded, so there is nothing to fetch.
    #[error("{job} is {state} and has no results; {remedy}")]
    NoResults {
        /// The job's name.
        job: String,
        /// Its state.
        state: String,
        /// What to do.
        remedy: String,
    },
    /// Ctrl-C or a request to terminate.
    #[error("interrupted; {0}")]
    Interrupted(String),
    /// A file or folder of the client's own.
    #[error("cannot write {}: {source}", .path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// An artifact is not what this version can read.
    #[error("{name}: {reason}")]
    Artifact {
        /// The artifact.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The examination found what does not work.
    #[error("{failed} of the checks failed; each says what would mend it")]
    Unhealthy {
        /// How many.
        failed: usize,
    },
    /// Stdout is gone.
    #[error("cannot write to stdout: {0}")]
    Stdout(#[from] io::Error),
}

impl Error {
    /// A usage error: what is wrong, and what would be right.
    pub fn usage(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Usage {
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    /// Whether the same job can never succeed, because what it was given is wrong.
    fn is_bad_input(&self) -> bool {
        matches!(self, Self::JobFailed { error, .. } if BAD_INPUT_CODES.contains(&error.code.as_str()))
    }

    /// The process's exit code; stable, and documented in the help.
    pub fn exit_code(&self) -> u8 {
        match self {
            _ if self.is_bad_input() => BAD_INPUT,
            Self::Config(ConfigError::Arguments(error)) => error.exit_code() as u8,
            Self::Config(_) | Self::Usage { .. } | Self::Input(_) | Self::NoResults { .. } => {
                BAD_INPUT
            }
            Self::Api(error) => api_exit_code(error),
            Self::Cancelled { .. } => 4,
            Self::Interrupted(_) => 130,
            // A closed pipe ends a command as `head` wants it to.
            Self::Stdout(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::JobFailed { .. }
            | Self::Local(_)
            | Self::Write { .. }
            | Self::Artifact { .. }
            | Self::Unhealthy { .. }
            | Self::Stdout(_) => 1,
        }
    }
}

fn api_exit_code(error: &ApiError) -> u8 {
    match error {
        ApiError::Unreachable { .. } | ApiError::NotDual16 { .. } | ApiError::Tls { .. } => 3,
        ApiError::InvalidUrl { .. }
        | ApiError::Credentials(_)
        | ApiError::Read { .. }
        | ApiError::InputChanged { .. } => BAD_INPUT,
        ApiError::Refused { reason, .. } if reason == LIMIT_EXCEEDED => BAD_INPUT,
        ApiError::Refused { code, .. } => match code {
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::PermissionDenied
            | Code::Unauthenticated => BAD_INPUT,
            _ => 1,
        },
        ApiError::Protocol { .. } | ApiError::Corrupt { .. } | ApiError::Write { .. } => 1,
    }
}

fn failure(job: &str, error: &JobError) -> String {
    let mut text = format!("{job} failed: {} [{}]", error.message, error.code);
    if !error.task.is_empty() {
        text += &format!("\n  in task {}", error.task);
    }
    for attempt in &error.attempts {
        text += &format!(
            "\n  attempt {} on {}: {}",
            attempt.attempt, attempt.worker, attempt.message
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use dual16_proto::v1::AttemptError;
    use tonic::Status;
    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;

    #[test]
    fn each_kind_has_its_exit_code() {
        let refused = |status: &Status| Error::Api(ApiError::refused("GetJob", status));
        let exhausted = |reason: &str| {
            let details = ErrorDetails::with_error_info(reason, "dual16", []);
            Status::with_error_details(Code::ResourceExhausted, "too much", details)
        };
        let unreachable = ApiError::Unreachable {
            url: "http://h:1".to_owned(),
            call: "GetInfo",
            waited: std::time::Duration::from_secs(5),
            last: "refused".to_owned(),
        };
        let cases = [
            (Error::usage("a", "b"), 2),
            (refused(&Status::not_found("jobs/x")), 2),
            (refused(&Status::invalid_argument("x")), 2),
            (refused(&Status::internal("x")), 1),
            (refused(&exhausted("QUOTA_EXCEEDED")), 1),
            (refused(&exhausted("LIMIT_EXCEEDED")), 2),
            (Error::Api(unreachable), 3),
            (
                Error::Cancelled {
                    job: "jobs/x".to_owned(),
                },
                4,
            ),
            (Error::Interrupted("bye".to_owned()), 130),
            (
                Error::JobFailed {
                    job: "jobs/x".to_owned(),
                    error: Box::default(),
                },
                1,
            ),
            (
                Error::JobFailed {
                    job: "jobs/x".to_owned(),
                    error: Box::new(JobError {
                        code: "NON_FINITE".to_owned(),
                        ..JobError::default()
                    }),
                },
                2,
            ),
        ];
        for (error, code) in cases {
            assert_eq!(error.exit_code(), code, "{error}");
        }
    }

    #[test]
    fn a_failed_job_tells_code_message_task_and_attempts() {
        let error = JobError {
            code: "INVALID_MODEL".to_owned(),
            message: "node \"x\": no such op".to_owned(),
            task: "jobs/1/tasks/0-0".to_owned(),
            attempts: vec![AttemptError {
                attempt: 2,
                worker: "w1".to_owned(),
                message: "lease ran out".to_owned(),
                time: None,
            }],
        };
        let text = Error::JobFailed {
            job: "jobs/1".to_owned(),
            error: Box::new(error),
        }
        .to_string();
        for part in [
            "INVALID_MODEL",
            "no such op",
            "jobs/1/tasks/0-0",
            "attempt 2 on w1: lease",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
