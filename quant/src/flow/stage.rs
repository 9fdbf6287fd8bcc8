//! A stage as a type: what its maps and its reduce are given and hand on, and what it holds at its peak.
//! Which stage follows is no stage's affair: the kind of a job says so ([`super::kind`]).

use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Blobs, Context, Event, Next, Part, QueuedStage, TaskInput, TaskOutput, footprint,
    kind::Following,
    payload::{decode, encode},
    session::Session,
};
use crate::{Error, Result};

/// Maps over independent parts, then one reduce over what they left.
///
/// Both are pure functions of the session, of what they are given and of the job's blobs.
pub(super) trait Stage: 'static {
    /// Shown to people; tasks say by it which stage they are of.
    const NAME: &'static str;
    /// What one map is about.
    type Map: Serialize + DeserializeOwned;
    /// What a map leaves.
    type Part: Serialize + DeserializeOwned;
    /// What the reduce knows beside the parts.
    type Given: Serialize + DeserializeOwned;
    /// What the stage comes to.
    type Done;

    /// What a map holds at its peak; `None` for one that reserves piece by piece.
    fn peak(_session: &Session, _map: &Self::Map, _context: &Context<'_>) -> Result<Option<Peak>> {
        Ok(None)
    }

    /// One part. Events are appended to `told`.
    fn map(
        session: &Session,
        map: Self::Map,
        context: &Context<'_>,
        told: &mut Vec<Event>,
    ) -> Result<Self::Part>;

    /// All parts, in the order of the maps. Events are appended to `told`.
    fn reduce(
        session: &Session,
        given: Self::Given,
        parts: Parts<'_, Self>,
        blobs: &dyn Blobs,
        told: &mut Vec<Event>,
    ) -> Result<Self::Done>;

    /// The stage with its tasks.
    fn queued(
        maps: impl IntoIterator<Item = Self::Map>,
        given: &Self::Given,
    ) -> Result<QueuedStage> {
        let maps = maps.into_iter().map(|map| encode(Self::NAME, &map));
        Ok(QueuedStage {
            name: Self::NAME.to_owned(),
            maps: maps.collect::<Result<_>>()?,
            reduce: encode(Self::NAME, given)?,
            seconds: 0,
        })
    }
}

/// Memory at the peak of a map.
pub(super) struct Peak {
    /// What it is needed for: "observing calib/000.npz".
    pub(super) what: String,
    pub(super) bytes: u64,
}

/// What the maps left, decoded one after the other.
pub(super) struct Parts<'a, S: ?Sized> {
    encoded: std::slice::Iter<'a, Vec<u8>>,
    stage: PhantomData<fn() -> S>,
}

impl<S: Stage + ?Sized> Iterator for Parts<'_, S> {
    type Item = Result<S::Part>;

    fn next(&mut self) -> Option<Self::Item> {
        self.encoded.next().map(|bytes| decode(S::NAME, bytes))
    }
}

/// A stage of a kind of jobs, and what follows on it.
pub(super) struct Step {
    pub(super) name: &'static str,
    run: Box<Run>,
}

/// Runs a task of one stage.
type Run = dyn Fn(&Session, &TaskInput<'_>, &Context<'_>) -> Result<TaskOutput>;

impl Step {
    pub(super) fn of<S: Stage>(following: Following<S>) -> Self {
        Step {
            name: S::NAME,
            run: Box::new(move |session, task, context| match task.part {
                Part::Map => map::<S>(session, task, context),
                Part::Reduce => reduce::<S>(session, task, context, following),
            }),
        }
    }

    /// Runs one task of it.
    pub(super) fn run(
        &self,
        session: &Session,
        task: &TaskInput<'_>,
        context: &Context<'_>,
    ) -> Result<TaskOutput> {
        (self.run)(session, task, context)
    }
}

fn map<S: Stage>(
    session: &Session,
    task: &TaskInput<'_>,
    context: &Context<'_>,
) -> Result<TaskOutput> {
    let map: S::Map = decode(S::NAME, task.payload)?;
    let peak = S::peak(session, &map, context)?;
    let reserve = |peak: Peak| context.reserve(session, &peak.what, peak.bytes);
    let _held = peak.map(reserve).transpose()?;
    let mut events = Vec::new();
    let part = S::map(session, map, context, &mut events)?;
    Ok(TaskOutput {
        result: encode(S::NAME, &part)?,
        events,
        next: None,
    })
}

fn reduce<S: Stage>(
    session: &Session,
    task: &TaskInput<'_>,
    context: &Context<'_>,
    following: Following<S>,
) -> Result<TaskOutput> {
    // The parts are small beside any batch, but there is one for each map.
    let what = || format!("folding the results of {}", S::NAME);
    let reserve = || context.reserve(session, &what(), footprint::decoded(task.inputs));
    let _held = (!task.inputs.is_empty()).then(reserve).transpose()?;
    let mut events = Vec::new();
    let parts = Parts {
        encoded: task.inputs.iter(),
        stage: PhantomData,
    };
    let given = decode(S::NAME, task.payload)?;
    let done = S::reduce(session, given, parts, context.blobs, &mut events)?;
    let mut next = following(session, done, context.blobs)?;
    if let Next::Stage(stage) = &mut next {
        stage.seconds = session.seconds();
    }
    Ok(TaskOutput {
        result: Vec::new(),
        next: Some(next),
        events,
    })
}

/// What a map of a stage without maps says.
pub(super) fn no_maps(stage: &'static str) -> Error {
    Error::Payload {
        what: stage,
        reason: "it has no maps".to_owned(),
    }
}
