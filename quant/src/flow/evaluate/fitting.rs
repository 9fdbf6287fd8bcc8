//! Fits of a group's layers: which are tried, and their figures beside those of the plain ways.

use dual16_nash::ways::Way;

use super::{
    super::{
        LayerMeasured, Notice, WayMeasured,
        choice::AllMeasured,
        fits::{self, Tried},
        footprint::{self, LargestBatch},
    },
    Group, Wanted,
};
use crate::{
    Result,
    fit::{Fit, LadderOptions},
    settings::WayChoice,
};
impl Group<'_> {
    /// What is fitted of a layer: what was asked for by name; otherwise, where a way of one product is
    /// not good enough, all that there is.
    pub(super) fn fits(&self, id: usize, measured: &AllMeasured) -> Vec<(Way, Vec<Fit>)> {
        let settings = &self.session.job.settings;
        let Some(request) = self.session.request.linears.get(&id) else {
            return Vec::new();
        };
        if let Some(fit) = request.fit {
            return vec![(request.start, vec![fit])];
        }
        let fixed = request.explicit && request.requested != WayChoice::Auto;
        if fixed {
            return Vec::new();
        }
        let poor = |way: &&WayMeasured| {
            let db = way.metrics.sqnr_rank();
            way.legal && db.is_finite() && db < settings.min_layer_sqnr
        };
        let measured = measured.get(&id).map_or(&[][..], Vec::as_slice);
        let fits = |way: Way| {
            let options = LadderOptions::new(way.activation_dtype(), way.weight_dtype());
            let fits = options.fits.into_iter().filter(|fit| fit.fits(way).is_ok());
            (way, fits.collect::<Vec<_>>())
        };
        let ways = measured.iter().filter(poor).map(|way| fits(way.way));
        ways.filter(|(_, fits)| !fits.is_empty()).collect()
    }

    /// Fits what is tried and measures what is accepted, of as many layers at once as memory allows.
    pub(super) fn fit(&mut self, tried: &Tried, measured: &mut AllMeasured) -> Result<()> {
        let session = self.session;
        let files = &session.job.calibration;
        let batch = footprint::largest_batch(session, files, self.context.blobs)?;
        let batch = batch.or(self.largest);
        let context = self.context;
        fits::in_parts(session, context, tried, &batch, |part| {
            self.fit_part(part, &batch, measured)
        })
    }

    fn fit_part(
        &mut self,
        tried: &Tried,
        batch: &LargestBatch,
        measured: &mut AllMeasured,
    ) -> Result<()> {
        let session = self.session;
        let what = format!("fitting {}", self.names(tried.keys()));
        let bytes = session.fit_bytes(tried, batch);
        let _held = self.context.reserve(session, &what, bytes)?;
        let fits = fits::fit(&self.source, session, self.context, tried)?;
        self.declined.extend(fits.declined);
        let trials = fits.accepted.into_iter().map(|(id, accepted)| {
            let accepted = accepted.into_iter();
            let trials = accepted.map(|(way, fitted)| (way, Some(fitted)));
            (id, trials.collect())
        });
        let trials: Wanted = trials.collect();
        match trials.is_empty() {
            true => Ok(()),
            false => self.measure_held(&trials, measured),
        }
    }

    /// The warning that a layer does not get the fit that was asked for.
    pub(super) fn not_fitted(&self, id: usize, layer: &LayerMeasured) -> Option<Notice> {
        let asked = self.session.request.linears.get(&id)?.fit;
        (asked != layer.fit).then(|| Notice {
            warning: true,
            code: "NOT_FITTED".to_owned(),
            subject: layer.layer.clone(),
            message: format!(
                "{} was requested and {} runs: {}",
                layer.requested, layer.effective, layer.reason
            ),
        })
    }
}
