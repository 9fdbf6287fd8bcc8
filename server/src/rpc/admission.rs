//! Load shedding before collapse: how many calls the server has open and works on at a time.
//!
//! Calls beyond what is worked on wait in a bounded queue for a bounded time; beyond that they are
//! refused at once with the time to come back, which costs next to nothing. Health checks and
//! heartbeats pass always: a server that sheds load is not dead, and its workers keep their tasks.
//! What the calls are about, this module must not know.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tonic::{
    Status,
    body::Body,
    codegen::http::{Request, Response},
};
use tower::{Layer, Service};

use super::ApiError;
use crate::limits::Limits;

/// How a call is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Always, at once.
    Vital,
    /// It waits for others by nature and holds next to nothing meanwhile: counted, not queued.
    Waiting,
    /// It is worked on: one of a limited number at a time.
    Work,
}

impl Class {
    fn of(path: &str) -> Self {
        match path {
            "/grpc.health.v1.Health/Check" | "/dual16.v1.WorkerService/Heartbeat" => Self::Vital,
            "/grpc.health.v1.Health/Watch"
            | "/dual16.v1.JobService/WatchJob"
            | "/dual16.v1.BlobService/Upload"
            | "/dual16.v1.BlobService/Download"
            | "/dual16.v1.WorkerService/Lease" => Self::Waiting,
            _ => Self::Work,
        }
    }
}

/// The gate in front of all services; clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    limits: Arc<Limits>,
    open: Arc<Semaphore>,
    working: Arc<Semaphore>,
    queue: Arc<Semaphore>,
}

impl Admission {
    pub(crate) fn new(limits: &Limits) -> Self {
        let semaphore = |limit| {
            let permits = Limits::len(limit).min(Semaphore::MAX_PERMITS);
            Arc::new(Semaphore::new(permits))
        };
        Self {
            open: semaphore(limits.open_calls),
            working: semaphore(limits.working_calls),
            queue: semaphore(limits.queued_calls),
            limits: Arc::new(limits.clone()),
        }
    }

    /// A place among the open calls, for as long as the call lasts.
    fn open(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let full = |_| ApiError::TooManyCalls(self.limits.open_calls);
        Arc::clone(&self.open).try_acquire_owned().map_err(full)
    }

    /// A place among the calls worked on; waits for one if the queue has room.
    async fn work(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        if let Ok(place) = Arc::clone(&self.working).try_acquire_owned() {
            return Ok(place);
        }
        let _queued = self.queue.try_acquire().map_err(|_| ApiError::Overloaded)?;
        let patience = Duration::from_secs(self.limits.queued_call_seconds);
        match timeout(patience, Arc::clone(&self.working).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(ApiError::Overloaded),
        }
    }
}

impl<S> Layer<S> for Admission {
    type Service = Admitted<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Admitted {
            inner,
            gate: self.clone(),
        }
    }
}

/// A service behind the gate.
#[derive(Clone, Debug)]
pub(crate) struct Admitted<S> {
    inner: S,
    gate: Admission,
}

impl<S> Service<Request<Body>> for Admitted<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The one that is ready answers; its copy takes its place.
        let copy = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, copy);
        let gate = self.gate.clone();
        let class = Class::of(request.uri().path());
        Box::pin(async move {
            if class == Class::Vital {
                return inner.call(request).await;
            }
            let open = match gate.open() {
                Ok(open) => open,
                Err(error) => return Ok(refusal(error)),
            };
            let response = if class == Class::Waiting {
                inner.call(request).await?
            } else {
                let _place = match gate.work().await {
                    Ok(place) => place,
                    Err(error) => return Ok(refusal(error)),
                };
                // Also a caller that never ends its request: it would keep its place for ever.
                let seconds = gate.limits.call_seconds;
                match timeout(Duration::from_secs(seconds), inner.call(request)).await {
                    Ok(answered) => answered?,
                    Err(_) => return Ok(refusal(ApiError::CallTooSlow(seconds))),
                }
            };
            Ok(response.map(|body| Body::new(Open { body, _place: open })))
        })
    }
}

fn refusal(error: ApiError) -> Response<Body> {
    Status::from(error).into_http()
}

/// The body of an answer, which keeps its call's place until it ends.
struct Open {
    body: Body,
    _place: OwnedSemaphorePermit,
}

impl http_body::Body for Open {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
