//! Notices of what a job met and did not stop at. The figures it cost are with the figures.

use std::collections::BTreeSet;

use super::Notice;
use crate::{
    exec::Trouble,
    graph::{Graph, Node, ValueId},
    plan::{Calibration, Key, MASK, Plan, SATURATED, mask_notices, saturation},
};

/// A tensor of the float run held NaN or infinity.
pub(super) const NON_FINITE: &str = "NON_FINITE";

/// What is to be told of a plan: what building it found, and what its scales do to the model.
pub(super) fn of_plan(
    graph: &Graph,
    calibration: &Calibration,
    plan: &Plan,
    mut found: Vec<Notice>,
) -> Vec<Notice> {
    found.extend(in_calibration(graph, calibration));
    found.extend(saturation::notices(graph, plan, &calibration.floors));
    found.extend(mask_notices(graph, &calibration.floors));
    found
}

/// What the float runs of calibration held that is NaN or infinite.
fn in_calibration(graph: &Graph, calibration: &Calibration) -> Vec<Notice> {
    let left_out = calibration.statistics.iter().filter_map(|(key, seen)| {
        let subject = match *key {
            Key::Value(id) if !graph.is_running(ValueId(id)) => return None,
            // A row that is masked whole is NaN from there on; one notice says so.
            Key::Value(id) if graph.is_inside_softmax(ValueId(id)) => return None,
            Key::Value(id) => graph.value(ValueId(id)).name.clone(),
            Key::Above(_) | Key::Below(_) => return None,
            Key::Slot(node, slot) => format!("{}.{}", graph.nodes[node].name, slot.suffix()),
        };
        (seen.left_out() > 0).then(|| Notice {
            warning: true,
            code: NON_FINITE.to_owned(),
            subject,
            message: format!(
                "{} of its values are NaN or infinite in the float run: they are left out of its \
                 range; as integers, infinities saturate and NaN is 0",
                seen.left_out()
            ),
        })
    });
    left_out.collect()
}

/// What the runs of the whole quantized model met: VALIDATION's trouble and CONVERTED's. What was
/// NaN, infinite or a mask in the float run is told of in `known` already.
pub(super) fn in_runs(graph: &Graph, trouble: &[Trouble; 2], known: &[&Notice]) -> Vec<Notice> {
    let [validation, converted] = trouble;
    let told: BTreeSet<&str> = known
        .iter()
        .filter(|notice| [NON_FINITE, MASK].contains(&notice.code.as_str()))
        .map(|notice| notice.subject.as_str())
        .collect();
    let values = validation
        .saturated
        .keys()
        .chain(converted.saturated.keys());
    let values: BTreeSet<usize> = values.copied().collect();
    let mut notices: Vec<Notice> = values
        .into_iter()
        .filter(|&id| !told.contains(graph.value(ValueId(id)).name.as_str()))
        .map(|id| saturated(graph, id, trouble))
        .collect();
    let mut reasons = BTreeSet::new();
    for (_, node) in graph.running() {
        let lost = |trouble: &Trouble| Some(trouble.lost.get(&node.outputs.first()?.0)?.clone());
        let reason = lost(validation).or_else(|| lost(converted));
        // The first node with a reason is the one that failed; the others are made of its output.
        if let Some(reason) = reason.filter(|reason| reasons.insert(reason.clone())) {
            notices.push(Notice {
                warning: true,
                code: "NODE_FAILED".to_owned(),
                subject: node.name.clone(),
                message: format!("{reason}; what is made of its output has no figures"),
            });
        }
    }
    notices
}

/// One value, NaN or infinite in the quantized model only.
fn saturated(graph: &Graph, id: usize, trouble: &[Trouble; 2]) -> Notice {
    let count = |trouble: &Trouble| trouble.saturated.get(&id).map_or(0, |value| value.count);
    let [validation, converted] = trouble.each_ref().map(count);
    let runs = match (validation, converted) {
        (0, converted) => format!("{converted} values in CONVERTED"),
        (validation, 0) => format!("{validation} values in VALIDATION"),
        (validation, converted) => {
            format!("{validation} values in VALIDATION and {converted} in CONVERTED")
        }
    };
    let zeros: Vec<String> = trouble
        .iter()
        .find_map(|trouble| trouble.saturated.get(&id))
        .into_iter()
        .flat_map(|value| value.zeros.keys())
        .map(|operand| format!("'{operand}'"))
        .collect();
    let cause = match zeros.as_slice() {
        [] => String::new(),
        zeros => format!(
            " where its operand {} is 0 once quantized",
            zeros.join(" or ")
        ),
    };
    let made = |node: &&Node| node.outputs.contains(&ValueId(id));
    let node = graph.running().map(|(_, node)| node).find(made);
    Notice {
        warning: true,
        code: SATURATED.to_owned(),
        subject: node.map_or_else(
            || graph.value(ValueId(id)).name.clone(),
            |node| node.name.clone(),
        ),
        message: format!(
            "{runs} have no finite result{cause}: infinities saturate, NaN is 0, and a table has \
             its value one step away"
        ),
    }
}
