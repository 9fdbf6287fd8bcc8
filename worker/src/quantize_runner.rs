//! The runner of the real work: hands each task to the quantization flow and its output back.

use std::{io, sync::Arc};

use dual16_proto::v1::{JobSpec, Lease, TaskKind};
use dual16_quant::{
    Error,
    flow::{Executor, Part, TaskInput},
    memory::MemoryBudget,
};

use crate::{
    convert_spec::{SpecError, job_input},
    events::event_detail,
    runner::{Blobs, Control, TaskError, TaskOutput, TaskRunner},
};

/// Runs the quantization flow. Between tasks it keeps the models of the last jobs.
pub struct QuantizeRunner {
    executor: Executor,
}

impl QuantizeRunner {
    /// A runner whose tasks and models together stay within `memory`.
    pub fn new(memory: Arc<MemoryBudget>) -> Self {
        Self {
            executor: Executor::new(memory),
        }
    }
}

impl TaskRunner for QuantizeRunner {
    fn run(
        &self,
        lease: &Lease,
        spec: &Arc<JobSpec>,
        payload: &[u8],
        inputs: &[Vec<u8>],
        blobs: &dyn Blobs,
        control: &dyn Control,
    ) -> Result<TaskOutput, TaskError> {
        let job = job_input(spec, &lease.spec_digest, lease.input_limits.as_ref())?;
        let part = match lease.kind() {
            TaskKind::Map => Part::Map,
            TaskKind::Reduce => Part::Reduce,
            TaskKind::Unspecified => return Err(malformed("the lease is neither map nor reduce")),
        };
        let task = TaskInput {
            job: &job,
            stage: &lease.stage,
            part,
            payload,
            inputs,
        };
        let output = self.executor.run(&task, blobs, control)?;
        Ok(TaskOutput {
            result: output.result,
            events: output.events.into_iter().map(event_detail).collect(),
            next: output.next,
        })
    }

    fn forget(&self, _task: &str) {
        self.executor.forget();
    }
}

/// A lease that no server of this version writes.
fn malformed(message: &str) -> TaskError {
    TaskError {
        code: "PAYLOAD_MISMATCH".into(),
        message: message.to_owned(),
        permanent: false,
    }
}

impl From<SpecError> for TaskError {
    fn from(error: SpecError) -> Self {
        Self {
            code: "INVALID_SETTING".into(),
            message: error.to_string(),
            permanent: true,
        }
    }
}

impl From<Error> for TaskError {
    fn from(error: Error) -> Self {
        // A task stopped by a drain is at no fault, though the flow itself has no way to go on.
        let permanent = !error.retryable() && !matches!(error, Error::Cancelled);
        let code = match &error {
            Error::Io { source, .. } if source.kind() == io::ErrorKind::QuotaExceeded => {
                Self::STORAGE_FULL
            }
            error => error.code(),
        };
        Self {
            code: code.into(),
            message: error.to_string(),
            permanent,
        }
    }
}
