//! Load shedding before collapse: how many calls the server has open and works on at a time, how long
//! a request may take to arrive, and how long an answer may wait for its reader.
//!
//! Calls beyond what is worked on wait in a bounded queue for a bounded time; beyond that they are
//! refused at once with the time to come back, which costs next to nothing. How many bytes of requests
//! are decoded at a time is bounded as well. Health checks and
//! heartbeats have places of their own: a server that sheds load is not dead, and its workers keep
//! their tasks. What the calls are about, this module must not know.

mod answer;
mod arrival;
mod decoding;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

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

pub(crate) use self::arrival::CHECK_BYTES;
use self::{
    answer::{Answer, Reader},
    arrival::Arrival,
    decoding::{Decoding, Held},
};
use super::ApiError;
use crate::{
    accept::{Line, Peer},
    limits::Limits,
    places::{Places, within},
};

/// How a call is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Whether the server is alive: anyone may ask, so this one has places that only it can fill.
    Check,
    /// A worker's sign of life: whatever else goes on, it has its places.
    Heartbeat,
    /// It waits for others by nature and holds next to nothing meanwhile: counted, not queued.
    Waiting,
    /// It moves a blob and holds some chunks of it: counted by itself.
    Transfer,
    /// It is worked on: one of a limited number at a time.
    Work,
}

impl Class {
    fn of(path: &str) -> Self {
        match path {
            "/grpc.health.v1.Health/Check" => Self::Check,
            "/dual16.v1.WorkerService/Heartbeat" => Self::Heartbeat,
            "/grpc.health.v1.Health/Watch"
            | "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
            | "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
            | "/dual16.v1.JobService/WatchJob"
            | "/dual16.v1.WorkerService/Lease" => Self::Waiting,
            "/dual16.v1.BlobService/Upload" | "/dual16.v1.BlobService/Download" => Self::Transfer,
            _ => Self::Work,
        }
    }

    /// Whether its handler must be done with it in a limited time.
    fn is_brief(self) -> bool {
        matches!(self, Self::Check | Self::Heartbeat | Self::Work)
    }
}

/// A refusal, in the extensions of the answer: nobody has looked at the call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shed;

/// The gate in front of all services; clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    limits: Arc<Limits>,
    checks: Arc<Semaphore>,
    heartbeats: Arc<Semaphore>,
    open: Arc<Semaphore>,
    transfers: Arc<Semaphore>,
    working: Arc<Semaphore>,
    queue: Arc<Semaphore>,
    decoding: Decoding,
}

impl Admission {
    pub(crate) fn new(limits: &Limits) -> Self {
        let semaphore = |limit| {
            let permits = Limits::len(limit).min(Semaphore::MAX_PERMITS);
            Arc::new(Semaphore::new(permits))
        };
        Self {
            checks: semaphore(limits.vital_calls),
            heartbeats: semaphore(limits.vital_calls),
            open: semaphore(limits.open_calls),
            transfers: semaphore(limits.transfers),
            working: semaphore(limits.working_calls),
            queue: semaphore(limits.queued_calls),
            decoding: Decoding::new(limits),
            limits: Arc::new(limits.clone()),
        }
    }

    /// The places of a call, or why there are none.
    async fn admit(&self, class: Class) -> Result<Vec<OwnedSemaphorePermit>, ApiError> {
        let vital = |of| place(of).ok_or(ApiError::Overloaded);
        if class == Class::Check {
            return Ok(vec![vital(&self.checks)?]);
        }
        if class == Class::Heartbeat {
            return Ok(vec![vital(&self.heartbeats)?]);
        }
        let full = ApiError::TooManyCalls(self.limits.open_calls);
        let mut places = vec![place(&self.open).ok_or(full)?];
        if class == Class::Transfer {
            let full = ApiError::TooManyTransfers(self.limits.transfers);
            places.push(place(&self.transfers).ok_or(full)?);
        }
        if class == Class::Work {
            places.push(self.work().await?);
        }
        Ok(places)
    }

    /// What looks after the reader of an answer. Whoever waits for events or tasks may pause.
    fn reader(&self, class: Class, line: Option<Line>) -> Option<Reader> {
        let idle = Duration::from_secs(self.limits.upload_idle_seconds);
        let line = line.filter(|_| class != Class::Waiting)?;
        Some(Reader::new(line, idle))
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

fn place(of: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(of).try_acquire_owned().ok()
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
        let path = request.uri().path();
        let (class, arrival) = (Class::of(path), Arrival::of(path, &gate.limits));
        let line = request.extensions().get::<Peer>();
        let line = line.map(|peer| peer.line.clone());
        Box::pin(async move {
            let places = match gate.admit(class).await {
                Ok(places) => places,
                Err(error) => return Ok(shed(error)),
            };
            let request = match arrival {
                Some(arrival) => arrival.bind(request),
                None => request,
            };
            // A sign of life waits for nobody.
            let (request, decoded) = match class {
                Class::Work => gate.decoding.bind(request),
                _ => (request, Held::default()),
            };
            let places: Places = Arc::new((places, decoded.clone()));
            let answer = within(Arc::clone(&places), inner.call(request));
            let response = if class.is_brief() {
                // Whoever asks is answered in time; what a disk does not answer keeps the places.
                let seconds = gate.limits.call_seconds;
                match timeout(Duration::from_secs(seconds), answer).await {
                    Ok(answered) => answered?,
                    Err(_) => return Ok(refusal(ApiError::CallTooSlow(seconds))),
                }
            } else {
                answer.await?
            };
            // The request is done with; the reader of the answer may take its time.
            decoded.release();
            let reader = gate.reader(class, line);
            Ok(response.map(|body| {
                Body::new(Answer {
                    body,
                    _places: places,
                    reader,
                })
            }))
        })
    }
}

fn refusal(error: ApiError) -> Response<Body> {
    Status::from(error).into_http()
}

fn shed(error: ApiError) -> Response<Body> {
    let mut refusal = refusal(error);
    refusal.extensions_mut().insert(Shed);
    refusal
}

#[cfg(test)]
mod tests;
