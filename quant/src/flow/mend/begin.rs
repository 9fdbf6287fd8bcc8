//! What a search begins with, and how a round goes on that waited for fits.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    super::{
        Blobs,
        payload::{load, store},
        session::Session,
    },
    Round, Search, Told, decide, replan,
};
use crate::{Result, measured::Planned, plan::Change};

/// What follows on the observation of the remedies.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::flow) struct Begin {
    /// Blob of the [`Planned`] that is to be changed.
    pub(in crate::flow) planned: String,
    /// Blob of the calibration of the model as it is.
    pub(in crate::flow) plain: String,
    follows: Follows,
}

/// What a plan is changed by.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Follows {
    /// What settings ask for, and no search.
    Asked(Vec<Change>),
    /// A search beyond the changes that the plan has already, which is to bring each output to this SQNR in dB.
    Search(Vec<Change>, Vec<f64>),
    /// The rest of a round; blob of the [`Waiting`].
    Rest(String),
}

/// A round that waits for fits.
#[derive(Debug, Serialize, Deserialize)]
struct Waiting {
    search: Search,
    told: Told,
    /// The changes that the round keeps.
    kept: Vec<Change>,
}

impl Begin {
    /// No search: a plan with the changes that settings ask for. `plain` is the blob of the calibration of the
    /// model as it is.
    pub(in crate::flow) fn asked(planned: String, plain: String, asked: Vec<Change>) -> Self {
        let follows = Follows::Asked(asked);
        Begin {
            planned,
            plain,
            follows,
        }
    }

    /// A search for what is wrong with a plan, `asked` being the changes that it has already.
    pub(in crate::flow) fn search(
        planned: String,
        plain: String,
        asked: Vec<Change>,
        aims: Vec<f64>,
    ) -> Self {
        let follows = Follows::Search(asked, aims);
        Begin {
            planned,
            plain,
            follows,
        }
    }

    /// The rest of a round that has kept these changes, once fits are known.
    pub(super) fn rest(
        search: Search,
        told: Told,
        kept: Vec<Change>,
        blobs: &dyn Blobs,
    ) -> Result<Self> {
        let (planned, plain) = (search.unmended.clone(), search.plain.clone());
        let waiting = Waiting { search, told, kept };
        Ok(Begin {
            planned,
            plain,
            follows: Follows::Rest(store("waiting round", &waiting, blobs)?),
        })
    }

    /// Blob of the calibration with the remedies' own tensors, where a search has one and fits brought no more
    /// to observe.
    pub(in crate::flow) fn observed(&self, blobs: &dyn Blobs) -> Result<Option<String>> {
        let Follows::Rest(waiting) = &self.follows else {
            return Ok(None);
        };
        let Waiting { search, .. } = load("waiting round", waiting, blobs)?;
        Ok((search.plain == self.plain).then_some(search.calibration))
    }
}

/// What is to be done once the remedies were observed: a search's first round, the rest of one that waited, or
/// nothing where there is no search.
pub(in crate::flow) fn observed(
    session: &Session,
    begin: Begin,
    calibration: &str,
    blobs: &dyn Blobs,
) -> Result<Round> {
    let Begin {
        planned,
        plain,
        follows,
    } = begin;
    let first = |aims| Search {
        planned: String::new(),
        unmended: planned.clone(),
        plain: plain.clone(),
        calibration: calibration.to_owned(),
        aims,
        reached_db: Vec::new(),
        round: 0,
        confirmations: 0,
        pending: Vec::new(),
        refused: Vec::new(),
        fitted: BTreeSet::new(),
        steps: Vec::new(),
        best: None,
    };
    match follows {
        Follows::Asked(asked) => {
            let mut search = first(Vec::new());
            replan(session, &mut search, asked, blobs)?;
            Ok(Round::Ended {
                planned: search.planned,
                search: None,
            })
        }
        Follows::Search(asked, aims) => {
            let mut search = first(aims);
            replan(session, &mut search, asked, blobs)?;
            Ok(Round::Changed(search))
        }
        Follows::Rest(waiting) => {
            let Waiting {
                mut search,
                told,
                kept,
            } = load("waiting round", &waiting, blobs)?;
            let stands: Planned = load("plan", &search.planned, blobs)?;
            search.unmended = planned;
            search.plain = plain;
            search.calibration = calibration.to_owned();
            replan(session, &mut search, stands.changes(), blobs)?;
            decide(session, search, told, Some(kept), blobs, &mut Vec::new())
        }
    }
}
