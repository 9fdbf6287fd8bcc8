//! Judging what a worker hands in. Workers are trusted with results, not with the server: they
//! cannot write the events that are the server's own, nor records that are too large.

use std::collections::HashMap;

use dual16_proto::v1::{self, complete_request, event_detail::Detail, payload::Kind};
use prost::Message as _;

use super::{Checker, check, cut, shown};
use crate::{
    digest::Digest,
    job::{Artifact, Completion, FailureReport, LeaseRef, Next, PlannedStage},
    limits::Limits,
    rpc::{ApiError, Exceeded},
};

/// A result that is well-formed.
#[derive(Debug)]
pub(in crate::rpc) struct CheckedCompletion {
    pub(in crate::rpc) worker: String,
    pub(in crate::rpc) lease: LeaseRef,
    pub(in crate::rpc) completion: Completion,
    /// Blobs it names, by field.
    pub(in crate::rpc) blobs: Vec<(String, Digest)>,
}

impl CheckedCompletion {
    /// Checks that artifacts are as large as their blobs, whose `sizes` the store tells in order: a
    /// reader of one that is not would refuse its bytes.
    pub(in crate::rpc) fn check_sizes(
        &self,
        limits: &Limits,
        sizes: &[u64],
    ) -> Result<(), ApiError> {
        let Some(Next::Finish(artifacts)) = &self.completion.next else {
            return Ok(());
        };
        let digests = self.blobs.iter().map(|(_, digest)| *digest);
        let stored: HashMap<_, _> = digests.zip(sizes).collect();
        check(limits, |checker| {
            for (i, artifact) in artifacts.iter().enumerate() {
                let (claimed, stored) = (artifact.size, stored.get(&artifact.digest));
                if let Some(size) = stored.filter(|size| ***size != claimed) {
                    let description = format!("is {claimed}, but the blob has {size} bytes");
                    checker.reject(
                        format!("finish.artifacts[{i}].size"),
                        "WRONG_SIZE",
                        description,
                    );
                }
            }
            Some(())
        })
    }
}

/// Checks a result.
pub(in crate::rpc) fn completion(
    limits: &Limits,
    request: v1::CompleteRequest,
) -> Result<CheckedCompletion, ApiError> {
    check(limits, |checker| {
        let mut blobs = Vec::new();
        checker.name("worker", &request.worker);
        let lease = checker.required_lease(request.lease.as_ref());
        let result = checker.payload("result", request.result, &mut blobs);
        let events = request.events.len();
        if checker.count("events", events, "result_events", limits.result_events) {
            for (i, event) in request.events.iter().enumerate() {
                checker.event(&format!("events[{i}]"), event);
            }
        }
        let named = request.blobs.len();
        if checker.count("blobs", named, "blob_digests", limits.blob_digests) {
            for (i, blob) in request.blobs.iter().enumerate() {
                let field = format!("blobs[{i}]");
                if let Some(digest) = checker.digest(&field, blob) {
                    blobs.push((field, digest));
                }
            }
        }
        let next = match request.next {
            None => None,
            Some(complete_request::Next::Stage(stage)) => {
                checker.stage(stage, &mut blobs).map(Next::Stage)
            }
            Some(complete_request::Next::Finish(finish)) => Some(Next::Finish(
                checker.artifacts(&finish.artifacts, &mut blobs),
            )),
        };
        let completion = Completion {
            result: result?,
            // Their sizes are the blob store's to say.
            blobs: Vec::new(),
            details: request.events,
            next,
        };
        Some(CheckedCompletion {
            worker: request.worker,
            lease: lease?,
            completion,
            blobs,
        })
    })
}

/// Checks an error. A message that is too long is cut, for a failure must get through.
pub(in crate::rpc) fn failure(
    limits: &Limits,
    request: v1::FailRequest,
) -> Result<(String, LeaseRef, FailureReport), ApiError> {
    check(limits, |checker| {
        checker.name("worker", &request.worker);
        let lease = checker.required_lease(request.lease.as_ref());
        checker.name("code", &request.code);
        let message = cut(request.message, Limits::len(limits.error_bytes));
        let report = FailureReport {
            code: request.code,
            message,
            permanent: request.permanent,
        };
        Some((request.worker, lease?, report))
    })
}

type Blobs = Vec<(String, Digest)>;

impl Checker<'_> {
    pub(super) fn required_lease(&mut self, lease: Option<&v1::LeaseRef>) -> Option<LeaseRef> {
        let Some(lease) = lease else {
            self.reject(
                "lease",
                "REQUIRED",
                "is missing; it must be the lease of the task",
            );
            return None;
        };
        self.lease("lease", lease)
    }

    fn payload(
        &mut self,
        field: &str,
        payload: Option<v1::Payload>,
        blobs: &mut Blobs,
    ) -> Option<v1::Payload> {
        // No payload and an empty one are the same.
        let kind = payload
            .and_then(|payload| payload.kind)
            .unwrap_or(Kind::Inline(Vec::new()));
        match &kind {
            Kind::Inline(bytes) => {
                let (found, max) = (bytes.len() as u64, self.limits.inline_bytes);
                let exceeded = Exceeded {
                    limit: "inline_bytes",
                    max,
                    found,
                };
                let description = || {
                    format!("has {found} bytes inline, at most {max} may be: upload it as a blob")
                };
                if !self.within(exceeded, field, "PAYLOAD_TOO_LARGE", description) {
                    return None;
                }
            }
            Kind::Blob(text) => {
                let digest = self.digest(&format!("{field}.blob"), text)?;
                blobs.push((format!("{field}.blob"), digest));
            }
        }
        Some(v1::Payload { kind: Some(kind) })
    }

    fn event(&mut self, field: &str, event: &v1::EventDetail) {
        match &event.detail {
            None => self.reject(field, "REQUIRED", "has no detail"),
            Some(
                Detail::StateChanged(_)
                | Detail::StageStarted(_)
                | Detail::TaskDone(_)
                | Detail::TaskRetried(_),
            ) => self.reject(
                field,
                "RESERVED_EVENT",
                "is an event that only the server writes",
            ),
            Some(
                Detail::Notice(_)
                | Detail::LayerMeasured(_)
                | Detail::LayerAccumulated(_)
                | Detail::OutputMeasured(_)
                | Detail::Mended(_)
                | Detail::OperatorMeasured(_)
                | Detail::SensitivityMeasured(_),
            ) => {
                let (found, max) = (event.encoded_len() as u64, self.limits.event_bytes);
                self.bytes(field, "EVENT_TOO_LARGE", found, "event_bytes", max);
            }
        }
    }

    fn stage(&mut self, stage: v1::Stage, blobs: &mut Blobs) -> Option<PlannedStage> {
        self.name("stage.name", &stage.name);
        let max = self.limits.stage_maps;
        if !self.count("stage.maps", stage.maps.len(), "stage_maps", max) {
            return None;
        }
        let mut maps = Vec::with_capacity(stage.maps.len());
        for (i, payload) in stage.maps.into_iter().enumerate() {
            maps.extend(self.payload(&format!("stage.maps[{i}]"), Some(payload), blobs));
        }
        let reduce = self.payload("stage.reduce", stage.reduce, blobs)?;
        Some(PlannedStage {
            name: stage.name,
            maps,
            reduce,
            seconds: stage.expected_seconds,
        })
    }

    fn artifacts(&mut self, artifacts: &[v1::Artifact], blobs: &mut Blobs) -> Vec<Artifact> {
        let max = self.limits.artifacts;
        if !self.count("finish.artifacts", artifacts.len(), "artifacts", max) {
            return Vec::new();
        }
        let mut checked: Vec<Artifact> = Vec::with_capacity(artifacts.len());
        for (i, artifact) in artifacts.iter().enumerate() {
            let field = format!("finish.artifacts[{i}]");
            let v1::Artifact { name, digest, size } = artifact;
            self.path(&format!("{field}.name"), name);
            if checked.iter().any(|other| other.name == *name) {
                let description = format!("`{}` is given twice; names must differ", shown(name));
                self.reject(format!("{field}.name"), "DUPLICATE_NAME", description);
            }
            if let Some(digest) = self.digest(&format!("{field}.digest"), digest) {
                blobs.push((format!("{field}.digest"), digest));
                checked.push(Artifact {
                    name: name.clone(),
                    digest,
                    size: *size,
                });
            }
        }
        checked
    }
}
