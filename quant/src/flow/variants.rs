//! A job's model with remedies in it. Which there are places for follows from the calibration, which of
//! them stand from the changes so far; both are in blobs, so every worker has the same graphs.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use dual16_nash::IntDtype;
use serde::{Deserialize, Serialize};

use super::{Blobs, payload::load, session::Session};
use crate::{
    Result,
    fit::Fit,
    measured::Planned,
    plan::{Calibration, Change, Mended},
    remedy::{Place, Places, Remedy},
};

/// The graph that a task works on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Variant {
    /// Everything runs, every remedy beside what it would replace.
    All,
    /// What was changed so far.
    Changed(Vec<Change>),
}

/// A variant of a session and what it is of: the calibration's digest and the variant.
type Made = (String, Variant, Arc<Session>);

/// What was asked for last.
#[derive(Default)]
pub(super) struct Variants {
    places: Mutex<Option<(String, Arc<Places>)>>,
    session: Mutex<Option<Made>>,
}

impl Session {
    /// The remedies that the model has places for.
    pub(super) fn places(&self, plain: &str, blobs: &dyn Blobs) -> Result<Arc<Places>> {
        let slot = &self.variants.places;
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, places)) = &*slot
            && of == plain
        {
            return Ok(Arc::clone(places));
        }
        let calibration: Calibration = load("calibration", plain, blobs)?;
        let places = Arc::new(Places::of(&self.scale_source(&calibration)));
        *slot = Some((plain.to_owned(), Arc::clone(&places)));
        Ok(places)
    }

    /// What each place is: the remedy and its node.
    pub(super) fn place_names(
        &self,
        plain: &str,
        blobs: &dyn Blobs,
    ) -> Result<Vec<(Remedy, usize)>> {
        let places = self.places(plain, blobs)?;
        let names = places.places.iter();
        Ok(names.map(|place| (place.remedy, place.node.0)).collect())
    }

    /// The session of another graph; tasks that need the same wait for the first of them to make it.
    pub(super) fn variant(
        &self,
        plain: &str,
        variant: &Variant,
        blobs: &dyn Blobs,
    ) -> Result<Arc<Session>> {
        let places = self.places(plain, blobs)?;
        let slot = &self.variants.session;
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, which, session)) = &*slot
            && of == plain
            && which == variant
        {
            return Ok(Arc::clone(session));
        }
        let extended = &places.extended;
        let made = match variant {
            Variant::All => self.with_graph(extended.all())?,
            Variant::Changed(changes) => {
                let standing = standing(&places, changes);
                let chosen: Vec<usize> = standing.map(|place| place.alternative).collect();
                let mut made = self.with_graph(extended.choose(&chosen))?;
                for change in changes {
                    match *change {
                        Change::Int16(value) => {
                            if let Some(request) = made.request.values.get_mut(value) {
                                request.dtype = IntDtype::Int16;
                            }
                        }
                        Change::Division(table) => {
                            made.request.divided.insert(table);
                        }
                        Change::Way { .. } | Change::Remedy(_) => {}
                    }
                }
                made
            }
        };
        let made = Arc::new(made);
        *slot = Some((plain.to_owned(), variant.clone(), Arc::clone(&made)));
        Ok(made)
    }
}

impl Session {
    /// The session of a plan's graph, where that is not the model as it is.
    pub(super) fn of_plan(
        &self,
        planned: &Planned,
        blobs: &dyn Blobs,
    ) -> Result<Option<Arc<Session>>> {
        let of = |mended: &Mended| {
            self.variant(
                &mended.plain,
                &Variant::Changed(mended.changes.clone()),
                blobs,
            )
        };
        planned.mended.as_ref().map(of).transpose()
    }
}

/// The remedies among some changes.
pub(super) fn standing<'p>(
    places: &'p Places,
    changes: &'p [Change],
) -> impl Iterator<Item = &'p Place> {
    let last_fits = last_fits(changes);
    let named = changes.iter().filter_map(|change| match *change {
        Change::Remedy(index) => places.places.get(index),
        Change::Way { .. } | Change::Int16(_) | Change::Division(_) => None,
    });
    // What makes an input takes the factors in as long as a Linear runs with such a fit.
    let equalized = places.places.iter().filter(move |place| {
        let mut readers = places.equalized_with(place.node.0).iter();
        place.remedy == Remedy::Equalize
            && readers.any(|reader| is_equalized(last_fits.get(&reader.0)))
    });
    named.chain(equalized)
}

/// The fit that each Linear was changed to last, by node index.
pub(super) fn last_fits(changes: &[Change]) -> BTreeMap<usize, Option<Fit>> {
    let ways = changes.iter().filter_map(|change| match *change {
        Change::Way { linear, fit, .. } => Some((linear, fit)),
        _ => None,
    });
    ways.collect()
}

/// Whether that equalizes.
pub(super) fn is_equalized(fit: Option<&Option<Fit>>) -> bool {
    matches!(fit, Some(Some(Fit { equalize: true, .. })))
}
