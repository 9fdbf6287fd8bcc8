//! Kinds of jobs: which stages each has, and what follows on each of them. A stage is shared by whatever
//! kinds need it and knows none.

use super::{
    Blobs, Next, TaskInput, TaskOutput,
    analyze::{Cumulative, EstimateRows, ExactRows},
    convert::Convert,
    evaluate::Evaluate,
    mend::{self, Mend, Round},
    observe::{Observe, ObserveRemedies},
    offers::OfferFits,
    plan::{self, Check},
    rescale::Rescale,
    session::Session,
    stage::{Stage, Step},
    validate::{Validate, Verdict},
};
use crate::{Error, Result, flow::Context, job::JobKind};

/// What follows on what a stage came to.
pub(super) type Following<S> = fn(&Session, <S as Stage>::Done, &dyn Blobs) -> Result<Next>;

/// Every kind begins with [`Check`].
pub(super) const FIRST: &str = Check::NAME;

impl JobKind {
    fn steps(&self) -> Vec<Step> {
        match self {
            JobKind::Plan => plan_only(),
            JobKind::Quantize => quantize(),
            JobKind::Analyze(_) => analyze(),
            JobKind::Rescale { .. } => rescale(),
        }
    }

    /// Runs a task of a job of this kind.
    pub(super) fn run(
        &self,
        session: &Session,
        task: &TaskInput<'_>,
        context: &Context<'_>,
    ) -> Result<TaskOutput> {
        let steps = self.steps();
        let step = steps.iter().find(|step| step.name == task.stage);
        let unknown = || Error::Payload {
            what: "stage",
            reason: format!("a job of this kind has no stage '{}'", task.stage),
        };
        step.ok_or_else(unknown)?.run(session, task, context)
    }
}

/// Only what can be said before any batch is run.
fn plan_only() -> Vec<Step> {
    vec![Step::of::<Check>(|session, (), blobs| {
        plan::files(session, blobs).map(Next::Finish)
    })]
}

/// The best model that the chip can run.
///
/// ```text
/// plan -> observe -> evaluate -> validate -> convert
///                                 |    ^
///                          remedies -> mend, again and again
///                                |      |
///                                <- fit -
/// ```
fn quantize() -> Vec<Step> {
    vec![
        Step::of::<Check>(|session, (), _| Observe::start(session).map(Next::Stage)),
        Step::of::<Observe>(|session, calibration, _| {
            Evaluate::start(session, &calibration).map(Next::Stage)
        }),
        Step::of::<Evaluate>(|session, evaluation, _| {
            let next = match &evaluation.begin {
                Some(begin) => ObserveRemedies::start(session, begin),
                None => Validate::start(session, &evaluation.planned, None),
            };
            next.map(Next::Stage)
        }),
        Step::of::<Validate>(|session, verdict, blobs| {
            let next = match verdict {
                Verdict::Measured(measured) => Convert::start(session, &measured),
                Verdict::Begin(begin) => ObserveRemedies::start(session, &begin),
                Verdict::Again { search, short_db } => {
                    mend::again(session, &search, &short_db, blobs)
                }
            };
            next.map(Next::Stage)
        }),
        Step::of::<OfferFits>(|session, begin, blobs| match begin.observed(blobs)? {
            Some(calibration) => {
                let round = mend::observed(session, begin, &calibration, blobs)?;
                after_round(session, round, blobs)
            }
            None => ObserveRemedies::start(session, &begin).map(Next::Stage),
        }),
        Step::of::<ObserveRemedies>(|session, (begin, calibration), blobs| {
            let round = mend::observed(session, begin, &calibration, blobs)?;
            after_round(session, round, blobs)
        }),
        Step::of::<Mend>(after_round),
        Step::of::<Convert>(|_, files, _| Ok(Next::Finish(files))),
    ]
}

fn after_round(session: &Session, round: Round, blobs: &dyn Blobs) -> Result<Next> {
    let next = match round {
        Round::Changed(search) => mend::round(session, &search, blobs),
        Round::Unfitted(begin, linears) => OfferFits::start(session, &begin, &linears),
        Round::Ended { planned, search } => Validate::start(session, &planned, search),
    };
    next.map(Next::Stage)
}

/// What each fake quant alone costs the outputs of the model.
///
/// ```text
/// plan -> observe -> evaluate -> estimate -> analyze -> cumulative
/// ```
fn analyze() -> Vec<Step> {
    vec![
        Step::of::<Check>(|session, (), _| {
            super::analyze::check(session)?;
            Observe::start(session).map(Next::Stage)
        }),
        Step::of::<Observe>(|session, calibration, _| {
            Evaluate::start(session, &calibration).map(Next::Stage)
        }),
        Step::of::<Evaluate>(|session, evaluation, _| {
            EstimateRows::start(session, &evaluation.planned).map(Next::Stage)
        }),
        Step::of::<EstimateRows>(|session, (ranked, rows), _| {
            ExactRows::start(session, &ranked, rows).map(Next::Stage)
        }),
        Step::of::<ExactRows>(|session, ranked, _| {
            Cumulative::start(session, &ranked).map(Next::Stage)
        }),
        Step::of::<Cumulative>(|_, files, _| Ok(Next::Finish(files))),
    ]
}

/// The same model by other scales.
///
/// ```text
/// plan -> rescale -> convert
/// ```
fn rescale() -> Vec<Step> {
    vec![
        Step::of::<Check>(|_, (), _| Rescale::queued([], &()).map(Next::Stage)),
        Step::of::<Rescale>(|session, measured, _| {
            Convert::start(session, &measured).map(Next::Stage)
        }),
        Step::of::<Convert>(|_, files, _| Ok(Next::Finish(files))),
    ]
}
