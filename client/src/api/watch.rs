//! Following a job's events: each exactly once and in order, whatever happens to the connection.

use std::time::{Duration, Instant};

use dual16_proto::v1::{JobEvent, JobState, WatchJobRequest, event_detail::Detail};
use dual16_rpc::Retry;
use tonic::{Status, Streaming};

use super::{ApiError, Client, JobName};

/// A stream that lived this long was served, though it may have brought nothing: a job can be silent
/// for hours. A shorter one may be the sign of a server that dies of every call.
const SERVED: Duration = Duration::from_secs(1);

/// A stream of one job's events that survives the loss of the server.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    name: JobName,
    /// Sequence of the newest event handed out.
    last: u64,
    stream: Option<Streaming<JobEvent>>,
    /// Since when there is that stream.
    established: Option<Instant>,
    outage: Retry,
    /// The newest state said that the job has ended.
    ended: bool,
}

impl Client {
    /// Watches a job from the event after `after` (0 = from the beginning).
    pub fn watch(&self, name: &JobName, after: u64) -> Watch {
        Watch {
            client: self.clone(),
            name: name.clone(),
            last: after,
            stream: None,
            established: None,
            outage: self.connection.retry("WatchJob"),
            ended: false,
        }
    }
}

impl Watch {
    /// The next event; `None` once the job has ended and every event was handed out.
    ///
    /// Dropping the future loses no event.
    ///
    /// # Errors
    /// [`ApiError::Unreachable`] when the server stays away, [`ApiError::Refused`] when it says no.
    pub async fn next(&mut self) -> Result<Option<JobEvent>, ApiError> {
        loop {
            match self.receive().await {
                Ok(Some(event)) if event.sequence <= self.last => {}
                Ok(Some(event)) => {
                    self.last = event.sequence;
                    self.ended = ends_the_job(&event).unwrap_or(self.ended);
                    self.outage.over();
                    return Ok(Some(event));
                }
                Ok(None) if self.ended || self.has_ended().await? => return Ok(None),
                Ok(None) => {
                    self.lost(Status::unavailable("the stream ended early"))
                        .await?
                }
                Err(status) => self.lost(status).await?,
            }
        }
    }

    async fn receive(&mut self) -> Result<Option<JobEvent>, Status> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let request = WatchJobRequest {
                    name: self.name.to_string(),
                    after_sequence: self.last,
                };
                let response = self.client.connection.jobs().watch_job(request).await?;
                self.established = Some(Instant::now());
                self.stream.insert(response.into_inner())
            }
        };
        stream.message().await
    }

    async fn lost(&mut self, status: Status) -> Result<(), ApiError> {
        self.stream = None;
        let established = self.established.take();
        if established.is_some_and(|since| since.elapsed() >= SERVED) {
            self.outage.over();
        }
        let paused = self.outage.pause(status).await;
        paused.map_err(|error| self.client.failed(error))
    }

    /// A watch that began after the last event never sees the state change: ask.
    async fn has_ended(&self) -> Result<bool, ApiError> {
        let job = self.client.get_job(&self.name).await?;
        Ok(is_final(job.state()) && job.last_sequence <= self.last)
    }
}

fn ends_the_job(event: &JobEvent) -> Option<bool> {
    match event.detail.as_ref()?.detail.as_ref()? {
        Detail::StateChanged(change) => Some(is_final(change.state())),
        _ => None,
    }
}

fn is_final(state: JobState) -> bool {
    matches!(
        state,
        JobState::Succeeded | JobState::Failed | JobState::Cancelled
    )
}
