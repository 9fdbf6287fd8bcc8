//! Why the outputs lose what they lose, in words, and the flag that would help: for the few operators that
//! cost them most by a search's estimate, where the outputs are not as good as they are to be.

use std::collections::BTreeMap;

use dual16_nash::{IntDtype, legality::Rules, ways::Way};

use super::{
    super::{Notice, session::Session},
    told::WIDE_ACCUMULATOR,
};
use crate::{
    fit::Fit,
    graph::{NodeId, Op, ValueId},
    measured::{Planned, operators::rows},
    plan::{Change, Floor, LinearPlan, ROUNDS_TO_ZERO, SATURATED},
    remedy::{Places, Remedy},
    report::OperatorMeasured,
    settings::{DEFAULT_MIN_OUTPUT_SQNR, OperatorChoice},
};

/// Operators that are spoken of, at most.
const NAMED: usize = 3;
/// Largest magnitude over the root of the mean square from which one value rules the scale. A normal
/// distribution of a million values has 5.
const OUTLIER: f64 = 12.0;
/// Share of values that saturate, or become 0, from which that is the cause.
const MUCH: f64 = 0.01;

/// The fit that is advised.
const GPTQ: Fit = Fit {
    gptq: true,
    ..Fit::low_rank(0)
};

/// Where nothing is left that would help.
const TRIED: &str = "what the search had for this place was tried, see `mended` in result.json";

/// What is known of a job's runs besides its rows.
pub(super) struct Known<'a> {
    pub(super) session: &'a Session,
    pub(super) planned: &'a Planned,
    /// What remedies there are, where they were looked for.
    pub(super) places: Option<&'a Places>,
    /// Where masked elements end, by value.
    pub(super) floors: &'a BTreeMap<usize, Floor>,
    /// What was told already.
    pub(super) notices: &'a [&'a Notice],
}

/// What is to be said, the worst first. `rows` are all operators, in the order of the graph.
pub(super) fn advice(known: &Known<'_>, rows: &[OperatorMeasured]) -> Vec<Notice> {
    let Known {
        session, planned, ..
    } = *known;
    let ranked: Vec<&str> = planned
        .in_the_way
        .iter()
        .map(|named| {
            named
                .rsplit_once(" (")
                .map_or(named.as_str(), |(name, _)| name)
        })
        .collect();
    if ranked.is_empty() {
        return vec![Notice {
            warning: true,
            code: "ADVICE".to_owned(),
            subject: session.output_names().join(", "),
            message: format!(
                "what an operator loses alone says little of the outputs: `dual16 analyze` shows what each costs \
                 them, and --min-output-sqnr {DEFAULT_MIN_OUTPUT_SQNR} looks for remedies"
            ),
        }];
    }
    let named = ranked
        .iter()
        .filter_map(|name| rows.iter().find(|row| row.name == *name));
    let worst: Vec<&OperatorMeasured> = named.take(NAMED).collect();
    let told = worst.into_iter().map(|row| {
        let (cause, help) = Case { known, row }.told();
        Notice {
            warning: true,
            code: "ADVICE".to_owned(),
            subject: row.name.clone(),
            message: format!("{cause}; {help}"),
        }
    });
    told.collect()
}

/// One operator that loses much.
struct Case<'a> {
    known: &'a Known<'a>,
    row: &'a OperatorMeasured,
}

impl Case<'_> {
    /// The cause, and what helps.
    fn told(&self) -> (String, String) {
        let row = self.row;
        if row.dtype == "float" {
            return (
                format!("{} has no integer kernel and runs in float", row.op),
                "what it is given and what it makes are rounded all the same; `--strict` refuses such \
                 models"
                    .to_owned(),
            );
        }
        if let Some(noticed) = self.noticed() {
            return noticed;
        }
        // What is masked saturates, and is to.
        if let Some(floor) = self.floor() {
            let cause = format!(
                "{} of its elements are masked and saturate at {:.1}, which is part of the range that its steps \
                 are spread over",
                floor.masked, floor.end
            );
            return (cause, self.finer());
        }
        if row.clip_share > MUCH {
            return self.saturates();
        }
        if row.parts_db.is_some_and(|parts| parts > 1.0) {
            return (
                "its table or its rescaling is coarser than fake quant".to_owned(),
                self.untried(),
            );
        }
        let rms = (row.float[2] * row.float[2] + row.float[3]).sqrt();
        let largest = row.float[0].abs().max(row.float[1].abs());
        if rms > 0.0 && largest / rms > OUTLIER {
            let at = match row.largest_at {
                Some([token, channel]) => format!(" (row {token}, channel {channel})"),
                None => String::new(),
            };
            let zeros = match row.zero_share > MUCH {
                true => format!(
                    ", and {:.0} % of its values become 0",
                    100.0 * row.zero_share
                ),
                false => String::new(),
            };
            let cause = format!(
                "one outlier of {largest:.3}{at}, {:.0} times the root mean square, sets the scale{zeros}",
                largest / rms
            );
            return (cause, self.finer());
        }
        if row.dead_channels > 0 {
            let cause = format!(
                "{} of its channels are dead: all of their values are below half a step of the one scale and \
                 become 0",
                row.dead_channels
            );
            return (cause, self.other_columns());
        }
        if row.zero_share > MUCH {
            let cause = format!(
                "{:.0} % of its values are below half a step and become 0",
                100.0 * row.zero_share
            );
            return (cause, self.finer());
        }
        if let Some(linear) = self.linear()
            && linear.way.weight_dtype() == IntDtype::Int8
            && linear.way != Way::Split
        {
            let cause = "its int8 weights round more than the outputs bear".to_owned();
            return (cause, self.another_way(linear));
        }
        (
            format!(
                "its {} output rounds more than what follows bears",
                row.dtype
            ),
            self.finer(),
        )
    }

    fn saturates(&self) -> (String, String) {
        let row = self.row;
        let cause = format!("{:.1} % of its values saturate", 100.0 * row.clip_share);
        let beyond = row.range_covered.filter(|covered| *covered > 1.0);
        match beyond {
            Some(covered) => (
                format!(
                    "{cause}: they reach {covered:.2} times what its scale covers, which {} did not show",
                    match self.known.session.job.calibration.len() {
                        1 => "the one calibration file".to_owned(),
                        files => format!("the {files} calibration files"),
                    }
                ),
                format!(
                    "give more calibration batches, like the measured ones, or --fixed-scale {}={:.3e}",
                    row.name,
                    f64::from(row.scale.unwrap_or(1.0)) * covered
                ),
            ),
            None => (cause, format!("--layer-observer {}=minmax", row.name)),
        }
    }

    /// What a notice says of it already.
    fn noticed(&self) -> Option<(String, String)> {
        let graph = &self.known.session.graph;
        let (node, _) = self.made()?;
        let node = node.map(|node| graph.node(node).name.as_str());
        let names = |notice: &&&Notice| Some(notice.subject.as_str()) == node;
        let mut of = self.known.notices.iter().filter(names);
        of.find_map(|notice| match notice.code.as_str() {
            // An epsilon, for one.
            ROUNDS_TO_ZERO => Some((notice.message.clone(), self.finer())),
            SATURATED => Some((notice.message.clone(), self.finer())),
            WIDE_ACCUMULATOR => Some((
                notice.message.clone(),
                match self.linear() {
                    Some(linear) if linear.way != Way::A8W8 => format!(
                        "--linear {}=a8w8 has the narrowest sums, at its own cost",
                        self.row.name
                    ),
                    _ => self.untried(),
                },
            )),
            _ => None,
        })
    }

    /// The value that the row is of, and the node that makes it.
    fn made(&self) -> Option<(Option<NodeId>, ValueId)> {
        let graph = &self.known.session.graph;
        let named = |&(_, value): &(_, ValueId)| graph.value(value).name == self.row.name;
        rows(graph).find(named)
    }

    /// Where its masked elements end, if that is what sets its scale.
    fn floor(&self) -> Option<&Floor> {
        let (_, value) = self.made()?;
        let floor = self.known.floors.get(&value.0)?;
        let params = self.known.planned.plan.params(value)?;
        let reach = params.scale * params.dtype.qmax() as f32;
        (floor.end.abs() >= 0.99 * reach).then_some(floor)
    }

    /// Channels of a size: those that a Linear reads can be brought to one.
    fn other_columns(&self) -> String {
        let graph = &self.known.session.graph;
        let value = self.made().map(|(_, value)| value);
        let mut readers = graph.linears().filter(|(_, node, _)| {
            node.inputs
                .first()
                .is_some_and(|&input| Some(graph.origin(input)) == value)
        });
        match (self.row.dtype.as_str(), readers.next()) {
            ("int8", _) => self.finer(),
            (_, Some((_, node, _))) => format!("--linear {}=a16w8+eq", node.name),
            _ => self.untried(),
        }
    }

    /// A finer step for what the operator makes.
    fn finer(&self) -> String {
        match self.row.dtype == "int8" {
            true => format!("--dtype {}=int16", self.row.name),
            false => self.untried(),
        }
    }

    /// A remedy that the search did not come to, with the flag that asks for it.
    fn untried(&self) -> String {
        self.other_remedy().unwrap_or_else(|| TRIED.to_owned())
    }

    fn other_remedy(&self) -> Option<String> {
        let Known {
            session,
            planned,
            places,
            ..
        } = *self.known;
        let places = places?;
        let node = self.made()?.0?;
        let changes = planned.changes();
        let untried =
            |change: &Change| !changes.contains(change) && !planned.refused.contains(change);
        let table = matches!(session.graph.node(node).op, Op::Lut(_));
        let division = table.then_some((Change::Division(node.0), node, OperatorChoice::Division));
        let at = places.first_by_node().get(&node.0).copied();
        let at = at
            .and_then(|first| places.places.get(first))
            .map(|place| place.node);
        let remedies = places.places.iter().enumerate();
        let remedies = remedies
            .filter(|(_, place)| Some(place.node) == at && place.remedy != Remedy::Equalize);
        let remedies = remedies.map(|(index, place)| {
            (
                Change::Remedy(index),
                place.node,
                OperatorChoice::Remedy(place.remedy),
            )
        });
        let mut all = division.into_iter().chain(remedies);
        let (_, node, choice) = all.find(|(change, ..)| untried(change))?;
        let name = &session.graph.node(node).name;
        Some(format!("--operator {name}={choice} was not tried"))
    }

    /// How it runs, where it is a Linear.
    fn linear(&self) -> Option<&LinearPlan> {
        let graph = &self.known.session.graph;
        let named = |id: usize| {
            let node = graph.node(NodeId(id));
            matches!(node.op, Op::Linear(_)) && graph.value(node.outputs[0]).name == self.row.name
        };
        let mut linears = self.known.planned.plan.linears.iter();
        linears.find(|(id, _)| named(**id)).map(|(_, plan)| plan)
    }

    /// What is more exact than int8 weights rounded as these are: a fit, where there is none, and a way with
    /// int16 weights.
    fn another_way(&self, linear: &LinearPlan) -> String {
        let settings = &self.known.session.job.settings;
        let rules = Rules::of(settings.march, settings.toolchain);
        let (name, way) = (&self.row.name, linear.way);
        let fit = linear.params.fit.is_none() && GPTQ.fits(way).is_ok();
        let fit = fit.then(|| format!("--linear {name}={way}+gptq, which costs nothing"));
        let better = [Way::A16W16, Way::Split];
        let better = better.into_iter().find(|way| rules.check(*way).legal);
        let better = better.map(|better| format!("--linear {name}={better}"));
        let help: Vec<String> = fit.into_iter().chain(better).collect();
        help.join(", or ")
    }
}
