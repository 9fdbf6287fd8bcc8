//! The one error of the command line, and the exit code of each kind.

use std::{io, path::PathBuf};

use dual16_proto::v1::JobError;
use tonic::Code;

use crate::{api::ApiError, config::ConfigError, inputs::InputError};

/// Exit code of wrong usage and of bad input.
pub const BAD_INPUT: u8 = 2;

/// Codes of failed jobs whose input is at fault: found by a worker rather than here, wrong all the
/// same, so they end a command as bad input does.
const BAD_INPUT_CODES: [&str; 8] = [
    "INVALID_MODEL",
    "INVALID_BATCH",
    "NON_FINITE",
    "UNKNOWN_NAME",
    "INVALID_SETTING",
    "ILLEGAL_WAY",
    // The float run computes nothing of ours: what it cannot do is asked by the model or a batch.
    "FLOAT_RUN_FAILED",
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
    #[error("{}", failure(.job, *.local, .error))]
    JobFailed {
        /// The job's name.
        job: String,
        /// It ran in this process, where names of jobs, tasks and workers mean nothing to anybody.
        local: bool,
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
    /// Outputs are worse than a program was told to accept.
    #[error("below --fail-under {threshold}: {}", .outputs.join(", "))]
    Below {
        /// In dB.
        threshold: f64,
        /// Each output and run, with its figure.
        outputs: Vec<String>,
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

    /// What kind of error it is: stable, for programs. That of a failed job or of a refusal is the
    /// server's.
    pub fn code(&self) -> String {
        let code = match self {
            Self::JobFailed { error, .. } if !error.code.is_empty() => &error.code,
            Self::JobFailed { .. } => "JOB_FAILED",
            Self::Config(ConfigError::Arguments(_)) | Self::Usage { .. } => "USAGE",
            Self::Config(_) => "INVALID_CONFIG",
            Self::Input(_) => "INVALID_INPUT",
            Self::Api(error) => return error.reason(),
            Self::Local(_) => "LOCAL_CLUSTER",
            Self::Cancelled { .. } => "CANCELLED",
            Self::NoResults { .. } => "NO_RESULTS",
            Self::Interrupted(_) => "INTERRUPTED",
            Self::Write { .. } => "WRITE_FAILED",
            Self::Artifact { .. } => "INVALID_ARTIFACT",
            Self::Unhealthy { .. } => "UNHEALTHY",
            Self::Below { .. } => "BELOW",
            Self::Stdout(_) => "STDOUT",
        };
        code.to_owned()
    }

    /// The job that it is about, where there is one.
    pub fn job(&self) -> Option<&str> {
        match self {
            Self::JobFailed { job, .. } | Self::Cancelled { job } | Self::NoResults { job, .. } => {
                Some(job)
            }
            _ => None,
        }
    }

    /// Whether stdout is to tell it to a program: it is there, and has told nothing else.
    pub fn is_for_stdout(&self) -> bool {
        !matches!(
            self,
            Self::Stdout(_) | Self::Unhealthy { .. } | Self::Below { .. }
        )
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
            Self::Below { .. } => 5,
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

/// The error once: attempts are told where they say something else, and names where somebody can use
/// them.
fn failure(job: &str, local: bool, error: &JobError) -> String {
    let what = format!("{} [{}]", error.message, error.code);
    let mut text = match local {
        true => what,
        false => format!("{job} failed: {what}"),
    };
    let others: Vec<_> = error
        .attempts
        .iter()
        .filter(|attempt| attempt.message != error.message)
        .collect();
    if !(local || others.is_empty() || error.task.is_empty()) {
        text += &format!("\n  in task {}", error.task);
    }
    for attempt in others {
        let on = match local {
            true => String::new(),
            false => format!(" on {}", attempt.worker),
        };
        text += &format!("\n  attempt {}{on}: {}", attempt.attempt, attempt.message);
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
        let refused =
            |status: &Status| Error::Api(ApiError::refused("GetJob", "http://h:1", status));
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
            (
                Error::Below {
                    threshold: 30.0,
                    outputs: vec!["y converted 29.00 dB".to_owned()],
                },
                5,
            ),
            (Error::Interrupted("bye".to_owned()), 130),
            (
                Error::JobFailed {
                    job: "jobs/x".to_owned(),
                    local: false,
                    error: Box::default(),
                },
                1,
            ),
            (
                Error::JobFailed {
                    job: "jobs/x".to_owned(),
                    local: false,
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

    fn failed(local: bool, attempt: &str) -> String {
        let error = JobError {
            code: "INVALID_MODEL".to_owned(),
            message: "node \"x\": no such op".to_owned(),
            task: "jobs/1/tasks/0-0".to_owned(),
            attempts: vec![AttemptError {
                attempt: 2,
                worker: "w1".to_owned(),
                message: attempt.to_owned(),
                time: None,
            }],
        };
        Error::JobFailed {
            job: "jobs/1".to_owned(),
            local,
            error: Box::new(error),
        }
        .to_string()
    }

    #[test]
    fn a_failed_job_tells_code_message_task_and_attempts() {
        assert_eq!(
            failed(false, "lease ran out"),
            "jobs/1 failed: node \"x\": no such op [INVALID_MODEL]\n  in task jobs/1/tasks/0-0\n  \
             attempt 2 on w1: lease ran out"
        );
    }

    #[test]
    fn an_error_is_told_once_and_a_local_one_without_names_of_this_process() {
        let same = "node \"x\": no such op";
        assert_eq!(
            failed(false, same),
            format!("jobs/1 failed: {same} [INVALID_MODEL]")
        );
        assert_eq!(failed(true, same), format!("{same} [INVALID_MODEL]"));
        assert!(failed(true, "it crashed").ends_with("\n  attempt 2: it crashed"));
    }

    #[test]
    fn programs_get_a_code_of_every_error() {
        let refused = Error::Api(ApiError::refused(
            "GetJob",
            "http://h:1",
            &Status::not_found("jobs/x"),
        ));
        assert_eq!(refused.code(), "NOT_FOUND");
        assert_eq!(Error::usage("a", "b").code(), "USAGE");
    }
}
