//! Stage evaluate: every Linear alone, its first way and, where that is not enough, every way;
//! the layer's choice is made and reported as soon as its figures are known. The reduce turns the
//! choices into the plan.

mod clipping;
mod fitting;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use dual16_nash::{legality::Rules, ways::Way};

use serde::{Deserialize, Serialize};

use self::clipping::clipped;
use super::{
    Blobs, Context, Event, LayerMeasured, Notice, QueuedStage, WayMeasured,
    asked::Asked,
    checkpoints::BatchId,
    choice::{AllMeasured, Choice},
    fits::Tried,
    float_share,
    footprint::{self, LargestBatch},
    mend::Begin,
    observe::observe_inside,
    payload::{load, store},
    session::Session,
    stage::{Parts, Stage},
    trouble,
    wants::{all_ways, slots_of},
};
use crate::{
    Error, Result,
    exec::captured,
    fit::{Fit, Fitted},
    graph::{NodeId, Op, ValueId},
    measured::Planned,
    metrics::Metrics,
    observe::Statistics,
    plan::{Calibration, Change, Key, Plan, ScaleSource, Slot, shared},
    ways::isolated::{FittedWay, IsolatedLayer, IsolatedWay},
};

/// Tasks that the layers are cut into, about. More would take longer to hand out than to run, fewer would
/// leave workers idle; it must not depend on the number of workers.
const GROUPS: u64 = 16;

/// The figures of every Linear alone, and the plan that follows from them.
pub(super) struct Evaluate;

/// Some Linears, over all batches.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Linears {
    /// Node indices, in execution order.
    linears: Vec<usize>,
    /// Blob of the [`Calibration`].
    calibration: String,
}

/// What was found of them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Evaluated {
    /// By node index.
    layers: Vec<(usize, LayerMeasured)>,
    /// Ways that could not be measured, for one.
    notices: Vec<Notice>,
    /// Of tensors inside the Linears that more ways were measured of.
    inside: Vec<(Key, Statistics)>,
}

/// The plan, and what settings ask for beyond it.
pub(super) struct Evaluation {
    /// Blob of the [`Planned`].
    pub(super) planned: String,
    /// Where operators are to change: those before a Linear with its fit, those that settings name.
    pub(super) begin: Option<Begin>,
}

impl Evaluate {
    /// Groups of consecutive layers.
    pub(super) fn start(session: &Session, calibration: &str) -> Result<QueuedStage> {
        let map = |linears| Linears {
            linears,
            calibration: calibration.to_owned(),
        };
        Self::queued(
            groups(session).into_iter().map(map),
            &calibration.to_owned(),
        )
    }
}

/// The Linears in groups of consecutive ones, of as much work each as can be; those of one weight, and those that
/// read one value, stay together. The last task of a stage is then as short as any, and no worker waits long for
/// another.
pub(super) fn groups(session: &Session) -> Vec<Vec<usize>> {
    let graph = &session.graph;
    let node = |&id: &usize| graph.node(NodeId(id));
    let work = |ids: &[usize]| {
        let each = ids.iter().map(|id| graph.macs(node(id)));
        each.fold(0, u64::saturating_add)
    };
    let inputs =
        |ids: &[usize]| -> BTreeSet<ValueId> { ids.iter().map(|id| node(id).inputs[0]).collect() };
    let sets = shared::by_weight(graph);
    let all = sets.iter().map(|set| work(set));
    let share = all.fold(0, u64::saturating_add) / GROUPS;
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for set in sets {
        let own = inputs(&set);
        let beside = |group: &&mut Vec<usize>| !inputs(group).is_disjoint(&own);
        if let Some(group) = groups.iter_mut().find(beside) {
            group.extend(set);
            continue;
        }
        match groups.last_mut() {
            Some(last) if work(last).saturating_add(work(&set)) <= share => last.extend(set),
            _ => groups.push(set),
        }
    }
    groups
}

impl Stage for Evaluate {
    const NAME: &'static str = "evaluate";
    type Map = Linears;
    type Part = Evaluated;
    /// Blob of the [`Calibration`].
    type Given = String;
    type Done = Evaluation;

    fn map(
        session: &Session,
        map: Linears,
        context: &Context<'_>,
        told: &mut Vec<Event>,
    ) -> Result<Evaluated> {
        self::map(session, map, context, told)
    }

    fn reduce(
        session: &Session,
        calibration: String,
        parts: Parts<'_, Self>,
        blobs: &dyn Blobs,
        _told: &mut Vec<Event>,
    ) -> Result<Evaluation> {
        self::reduce(session, calibration, parts, blobs)
    }
}

/// Measures a group of layers and chooses for each.
fn map(
    session: &Session,
    Linears {
        linears,
        calibration,
    }: Linears,
    context: &Context<'_>,
    told: &mut Vec<Event>,
) -> Result<Evaluated> {
    let calibration: Calibration = load("calibration", &calibration, context.blobs)?;
    let with_inside: Calibration;
    let source = session.scale_source(&calibration);
    let largest = footprint::largest_batch(session, session.measured_files(), context.blobs)?;
    let mut group = Group {
        session,
        choice: Choice::of(session),
        source,
        context,
        largest,
        notices: Vec::new(),
        saturations: BTreeMap::new(),
        failed: Vec::new(),
        declined: BTreeMap::new(),
    };
    let mut layers = Vec::new();
    let first: Wanted = linears
        .iter()
        .map(|&id| (id, plain(session.first_ways(NodeId(id)))))
        .collect();
    let mut measured = group.measure(&first)?;
    let rest: Wanted = linears
        .iter()
        .map(|&id| (id, plain(group.further_ways(id, &measured))))
        .filter(|(_, ways)| !ways.is_empty())
        .collect();
    let unknown = |slots: Vec<Slot>, id: usize| -> Vec<Slot> {
        let known = |slot: &Slot| calibration.statistics.contains_key(&Key::Slot(id, *slot));
        slots.into_iter().filter(|slot| !known(slot)).collect()
    };
    let slots: BTreeMap<usize, Vec<Slot>> = ways_of(&rest)
        .into_iter()
        .map(|(id, ways)| (id, unknown(slots_of(&ways), id)))
        .filter(|(_, slots)| !slots.is_empty())
        .collect();
    let inside = observe_inside(session, context, &slots)?;
    if !inside.is_empty() {
        let mut known = calibration.clone();
        known.statistics.extend(inside.clone());
        with_inside = known;
        group.source = session.scale_source(&with_inside);
    }
    if !rest.is_empty() {
        for (id, ways) in group.measure(&rest)? {
            measured.entry(id).or_default().extend(ways);
        }
    }
    let tried: Tried = linears
        .iter()
        .map(|&id| (id, group.fits(id, &measured)))
        .filter(|(_, ways)| !ways.is_empty())
        .collect();
    group.fit(&tried, &mut measured)?;
    for ways in measured.values_mut() {
        ways.sort_by_key(|measured| (measured.way, measured.fit()));
    }
    for &id in measured.keys() {
        let declined = group.declined.get(&id).map(String::as_str);
        let layer = group.choice.of_layer(id, &measured, declined)?;
        group.notices.extend(group.not_fitted(id, &layer));
        group.tell_saturations(id, &layer);
        group.notices.extend(clipped(&layer));
        layers.push((id, layer));
    }
    told.extend(group.notices.iter().cloned().map(Event::Notice));
    told.extend(layers.iter().map(|(_, layer)| Event::Layer(layer.clone())));
    Ok(Evaluated {
        layers,
        notices: group.notices,
        inside: inside.into_iter().collect(),
    })
}

/// Gathers the choices and makes the plan.
fn reduce(
    session: &Session,
    digest: String,
    parts: Parts<'_, Evaluate>,
    blobs: &dyn Blobs,
) -> Result<Evaluation> {
    let mut calibration: Calibration = load("calibration", &digest, blobs)?;
    let mut digest = digest;
    let observed = calibration.statistics.len();
    let mut layers = Vec::new();
    let mut notices = session.notices();
    notices.extend(float_share::told(session)?);
    for evaluated in parts {
        let evaluated = evaluated?;
        layers.extend(evaluated.layers);
        notices.extend(evaluated.notices);
        calibration.statistics.extend(evaluated.inside);
    }
    // Those of one weight were measured with the first of them.
    layers.sort_by_key(|(id, _)| *id);
    for (id, layer) in &layers {
        let fits = layer.ways.iter().filter_map(|way| way.fitted.as_ref());
        let mut equalized = fits.filter(|fitted| fitted.fit.fit.equalize);
        if let Some(fitted) = equalized.next() {
            let fitted: Fitted = load("fitted integers", &fitted.fit.blob, blobs)?;
            calibration
                .columns
                .extend(fitted.columns.map(|columns| (*id, columns)));
        }
    }
    if !calibration.columns.is_empty() || calibration.statistics.len() > observed {
        digest = store("calibration", &calibration, blobs)?;
    }
    let asked = layers.iter().filter_map(|(id, layer)| {
        let fit = layer.fit.filter(|fit| fit.equalize)?;
        Some(Change::Way {
            linear: *id,
            way: layer.effective,
            fit: Some(fit),
        })
    });
    let mut asked: Vec<Change> = asked.collect();
    if !session.request.operators.is_empty() {
        let places = session.places(&digest, blobs)?;
        let operators = Asked::of(&session.request, &session.graph, &places);
        notices.extend(operators.notices());
        asked.extend(operators.changes());
    }
    let mut planned = Planned {
        plan: Plan::default(),
        layers,
        notices,
        found: Vec::new(),
        calibration: digest.clone(),
        mended: None,
        steps: Vec::new(),
        refused: Vec::new(),
        offers: Vec::new(),
        in_the_way: Vec::new(),
    };
    let (plan, found) = Plan::build(&session.scale_source(&calibration), &planned.chosen())?;
    planned.found = trouble::of_plan(&session.graph, &calibration, &plan, found);
    planned.plan = plan;
    let planned = store("plan", &planned, blobs)?;
    // Where operators are changed, what they make then has to be observed.
    let begin = (!asked.is_empty()).then(|| Begin::asked(planned.clone(), digest, asked));
    Ok(Evaluation { planned, begin })
}

struct Group<'a> {
    session: &'a Session,
    choice: Choice<'a>,
    source: ScaleSource<'a>,
    context: &'a Context<'a>,
    largest: LargestBatch,
    notices: Vec<Notice>,
    /// What saturates in a layer in a way, whatever its input is.
    saturations: BTreeMap<(usize, Way, Option<Fit>), Vec<String>>,
    /// Ways that could not be set up, by node index.
    failed: Vec<(usize, WayMeasured)>,
    /// Why a layer does not get the fit that was asked for.
    declined: BTreeMap<usize, String>,
}

/// A way to measure, with integers fitted for it or plain.
type Trial = (Way, Option<Arc<FittedWay>>);

/// Ways to measure, by node index.
type Wanted = BTreeMap<usize, Vec<Trial>>;

fn plain(ways: Vec<Way>) -> Vec<Trial> {
    ways.into_iter().map(|way| (way, None)).collect()
}

impl Group<'_> {
    /// What else is measured where the template's way is not good enough.
    fn further_ways(&self, id: usize, measured: &AllMeasured) -> Vec<Way> {
        let Some(request) = self.session.request.linears.get(&id) else {
            return Vec::new();
        };
        let poor = self
            .choice
            .deciders(id)
            .iter()
            .filter_map(|id| measured.get(id))
            .flatten()
            .any(|way| way.metrics.sqnr_rank() < self.session.job.settings.min_layer_sqnr);
        let measured = measured.get(&id).map_or(&[][..], Vec::as_slice);
        if request.explicit || !poor {
            return Vec::new();
        }
        let done = |way: &Way| measured.iter().any(|measured| measured.way == *way);
        all_ways(request.start)
            .into_iter()
            .filter(|way| !done(way))
            .collect()
    }

    /// Measures all that is wanted, in as few passes over the batches as memory allows. A layer's
    /// figures do not depend on what is measured beside it.
    fn measure(&mut self, wanted: &Wanted) -> Result<AllMeasured> {
        let mut measured: AllMeasured = BTreeMap::new();
        let mut part = Wanted::new();
        for (&id, ways) in wanted {
            for trial in ways {
                let mut larger = part.clone();
                larger.entry(id).or_default().push(trial.clone());
                let bytes = self
                    .session
                    .evaluate_bytes(&ways_of(&larger), &self.largest);
                if !part.is_empty() && !self.context.could_hold(bytes) {
                    self.measure_part(&part, &mut measured)?;
                    larger = Wanted::from([(id, vec![trial.clone()])]);
                }
                part = larger;
            }
        }
        self.measure_part(&part, &mut measured)?;
        Ok(measured)
    }

    /// One pass over all measured batches.
    fn measure_part(&mut self, wanted: &Wanted, measured: &mut AllMeasured) -> Result<()> {
        let session = self.session;
        let bytes = session.evaluate_bytes(&ways_of(wanted), &self.largest);
        let what = format!("measuring {}", self.names(wanted.keys()));
        let _held = self.context.reserve(session, &what, bytes)?;
        self.measure_held(wanted, measured)
    }

    /// The same, its memory reserved.
    fn measure_held(&mut self, wanted: &Wanted, measured: &mut AllMeasured) -> Result<()> {
        let session = self.session;
        let mut running: BTreeMap<usize, IsolatedLayer> = BTreeMap::new();
        for (&id, ways) in wanted {
            for trial in ways {
                running
                    .entry(id)
                    .or_default()
                    .ways
                    .extend(self.isolated(id, trial)?);
            }
        }
        let values: Vec<_> = wanted
            .keys()
            .map(|&id| session.graph.node(NodeId(id)))
            .flat_map(|node| [node.inputs[0], node.outputs[0]])
            .collect();
        let files = session.measured_files();
        for file in files {
            let mut batches = session.batches(file, self.context.blobs)?;
            let mut id = BatchId::first(file);
            session.for_each_batch(&mut batches, self.context, |_, batch| {
                let values = session.names_of(&values);
                let capture = session.float_run_on(&id, batch, &values)?;
                id.number += 1;
                for (&id, layer) in &mut running {
                    let node = session.graph.node(NodeId(id));
                    let x = captured(&session.graph, &capture, node.inputs[0])?;
                    let reference = captured(&session.graph, &capture, node.outputs[0])?;
                    layer.update(&node.name, x, reference, &mut |run| {
                        self.context.control.kernel_ran(run);
                    })?;
                }
                Ok(())
            })?;
        }
        let settings = &session.job.settings;
        let rules = Rules::of(settings.march, settings.toolchain);
        for (id, layer) in running {
            for way in layer.ways {
                let told = way.saturations().to_vec();
                self.saturations.insert((id, way.way(), way.fit()), told);
                let legality = rules.check(way.way());
                let finished = way.finish(&legality);
                measured.entry(id).or_default().push(finished);
            }
        }
        for (id, way) in self.failed.drain(..) {
            measured.entry(id).or_default().push(way);
        }
        Ok(())
    }

    /// Names of some layers, for a task that is refused.
    fn names<'i>(&self, ids: impl Iterator<Item = &'i usize>) -> String {
        let name = |id: &usize| self.session.graph.node(NodeId(*id)).name.as_str();
        ids.map(name).collect::<Vec<_>>().join(", ")
    }

    /// A way ready to measure; one that cannot be set up has no figures.
    fn isolated(&mut self, id: usize, (way, fitted): &Trial) -> Result<Option<IsolatedWay>> {
        let node = self.session.graph.node(NodeId(id));
        let Op::Linear(linear) = &node.op else {
            return Ok(None);
        };
        match IsolatedWay::new(&self.source, id, (node, linear), *way, fitted.clone()) {
            Ok(isolated) => Ok(Some(isolated)),
            Err(Error::Kernel { source, .. }) => {
                let fitted = fitted.as_ref().map(|fitted| fitted.told.clone());
                let mut failed = WayMeasured {
                    fitted,
                    ..WayMeasured::failed(*way, String::new())
                };
                let reason = format!("{} cannot be set up here: {source}", failed.name());
                failed.metrics = Metrics::none(reason.clone());
                failed.reason.clone_from(&reason);
                self.notices.push(Notice {
                    warning: true,
                    code: "WAY_NOT_MEASURED".to_owned(),
                    subject: node.name.clone(),
                    message: reason,
                });
                self.failed.push((id, failed));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// What saturates in a layer in the way that it runs.
    fn tell_saturations(&mut self, id: usize, layer: &LayerMeasured) {
        let told = self.saturations.get(&(id, layer.effective, layer.fit));
        let notices = told.into_iter().flatten().map(|message| Notice {
            warning: true,
            code: "SATURATED".to_owned(),
            subject: layer.layer.clone(),
            message: message.clone(),
        });
        self.notices.extend(notices);
    }
}

/// Ways to measure, whatever they are fitted.
fn ways_of(wanted: &Wanted) -> BTreeMap<usize, Vec<Way>> {
    let ways = |trials: &Vec<Trial>| trials.iter().map(|(way, _)| *way).collect();
    wanted
        .iter()
        .map(|(&id, trials)| (id, ways(trials)))
        .collect()
}
