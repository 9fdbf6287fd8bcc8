//! What is told of the runs of the whole quantized model besides their figures.

use std::collections::HashMap;

use dual16_nash::{linear::AccumulatorPeak, ways::Way};

use super::super::{
    LayerMeasured, Notice, WayMeasured, payload::BatchErrors, session::Session, targets::Targets,
};
use crate::{
    Result,
    cost::PlanCost,
    error::KernelContext,
    graph::{NodeId, Op},
    measured::{PairedSums, Planned, operators::OperatorSums},
    metrics::OutputError,
    plan::Change,
    report::{EXACT_DB, WayFitted},
    ways::weight_bytes,
};

/// Accumulators wider than this deserve a warning: an int32 holds 31 bits of magnitude.
const WIDE_ACCUMULATOR_BITS: u32 = 31;
/// Code of the notice of one.
pub(super) const WIDE_ACCUMULATOR: &str = "WIDE_ACCUMULATOR";
/// dB between CONVERTED and VALIDATION from which it is said where they part.
const PARTED_DB: f64 = 1.0;
/// Operators that are named for it, at most.
const NAMED: usize = 3;
/// Those after the first are named from this share of what the integers add.
const NAMED_SHARE: f64 = 0.05;

/// Says which output is not as good as was asked, and what stands in the way.
pub(super) fn not_reached(
    session: &Session,
    planned: &Planned,
    total: &BatchErrors,
) -> Result<Option<Notice>> {
    let short = Targets::of(session)?.short(total);
    let Some(worst) = short.first() else {
        return Ok(None);
    };
    let name = |output: usize| session.output_name(session.graph.outputs[output]);
    let why = match planned.in_the_way.as_slice() {
        [] if parts(&total.outputs) => "its integers part from fake quant, see PARTED".to_owned(),
        [] => "nothing that was tried helps further".to_owned(),
        named => format!("what costs it most now: {}", named.join(", ")),
    };
    let others = match short.len() {
        1 => String::new(),
        all => format!(" ({} more outputs are short)", all - 1),
    };
    Ok(Some(Notice {
        warning: true,
        code: "NOT_REACHED".to_owned(),
        subject: name(worst.output),
        message: format!(
            "output '{}' has {}{others}; {why}",
            name(worst.output),
            worst.told
        ),
    }))
}

/// Layers that run another way for the outputs' sake, with what that is alone.
pub(super) fn mended_layers(
    session: &Session,
    planned: &mut Planned,
    total: &BatchErrors,
) -> Result<Vec<LayerMeasured>> {
    let mut told = Vec::new();
    if planned.mended.is_none() {
        return Ok(told);
    }
    let chip = session.job.settings.chip().of("the estimate")?;
    let cost = PlanCost::of(&session.graph, &planned.plan, &chip);
    let alone: HashMap<usize, &OperatorSums> = total
        .operators
        .iter()
        .map(|(id, sums)| (*id, sums))
        .collect();
    let macs = session.macs();
    let fits: HashMap<usize, WayFitted> = planned
        .layers
        .iter()
        .filter_map(|(id, layer)| {
            let fitted = planned.fitted(*id, layer.effective, layer.fit?)?;
            Some((*id, fitted.clone()))
        })
        .collect();
    let changed: Vec<usize> = planned
        .changes()
        .into_iter()
        .filter_map(|change| match change {
            Change::Way { linear, .. } => Some(linear),
            Change::Remedy(_) | Change::Int16(_) | Change::Division(_) => None,
        })
        .collect();
    for (id, layer) in &mut planned.layers {
        let way = layer.effective;
        if layer.ways.iter().any(|measured| layer.runs(measured)) {
            // Known by its figures, but not that it runs.
            told.extend(changed.contains(id).then(|| layer.clone()));
            continue;
        }
        let node = session.graph.node(NodeId(*id));
        let (Op::Linear(linear), Some(&output)) = (&node.op, node.outputs.first()) else {
            continue;
        };
        let Some(sums) = alone.get(&output.0) else {
            continue;
        };
        let counts = total
            .linears
            .iter()
            .find(|(of, ..)| of == id)
            .map(|(.., counts)| *counts);
        let scale = planned.plan.params(output).map(|params| params.scale);
        let factor = if way == Way::Split { 2 } else { 1 };
        let macs = macs.get(id).copied().unwrap_or(0);
        let (o, k) = linear.weight.dim();
        let rank = layer.fit.map_or(0, |fit| u64::from(fit.rank));
        let branch = rank * (o + k) as u64;
        let rows = macs / (o * k).max(1) as u64;
        let bias = match (layer.fit, &linear.bias) {
            (Some(_), None) => 4 * o as u64,
            _ => 0,
        };
        layer.ways.push(WayMeasured {
            way,
            fitted: fits.get(id).cloned(),
            weight_bytes: weight_bytes(linear, way) + bias + branch,
            legal: true,
            reason: String::new(),
            metrics: sums.isolated.finish(scale),
            macs: macs * factor + rows * branch,
            zero_fraction: sums.zero as f64 / sums.total.max(1) as f64,
            clip_fraction: sums.clipped as f64 / sums.total.max(1) as f64,
            accumulator_bits: counts.unwrap_or_default().accumulator_bits(),
            cost: cost.nodes.get(*id).copied().unwrap_or_default(),
        });
        layer
            .ways
            .sort_by_key(|measured| (measured.way, measured.fit()));
        told.push(layer.clone());
    }
    Ok(told)
}

/// dB that CONVERTED is behind VALIDATION at an output; negative where it is ahead.
fn gap(sums: &PairedSums<OutputError>) -> f64 {
    let [validation, converted] = [false, true].map(|run| sums.metrics(run, None));
    validation.sqnr_rank().min(EXACT_DB) - converted.sqnr_rank().min(EXACT_DB)
}

/// Whether CONVERTED is more than a dB from VALIDATION at an output.
pub(super) fn parts(outputs: &[PairedSums<OutputError>]) -> bool {
    let gaps = outputs.iter().map(gap).filter(|gap| gap.is_finite());
    gaps.map(f64::abs).fold(0.0, f64::max) > PARTED_DB
}

/// Where CONVERTED parts from VALIDATION by more than a dB, if it does at an output: the nodes whose
/// integers change it most beyond their fake quants. Errors that happen to cancel are no warning.
pub(super) fn parted(session: &Session, total: &BatchErrors) -> Option<Notice> {
    let outputs = total.outputs.iter().enumerate();
    let gaps = outputs.map(|(output, sums)| (output, gap(sums)));
    let (output, worst) = gaps
        .filter(|(_, gap)| gap.is_finite())
        .max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()).then(b.0.cmp(&a.0)))?;
    if worst.abs() <= PARTED_DB {
        return None;
    }
    let graph = &session.graph;
    let mut nodes: Vec<(usize, f64)> = total
        .parts
        .iter()
        .filter_map(|(&node, energies)| Some((node, *energies.get(output)?)))
        .filter(|(_, energy)| *energy > 0.0)
        .collect();
    nodes.sort_by(|a, b| b.1.total_cmp(&a.1));
    let all: f64 = nodes.iter().map(|(_, energy)| energy).sum();
    let named = nodes.iter().take(NAMED).enumerate();
    let named = named.filter(|(place, (_, energy))| *place == 0 || *energy > NAMED_SHARE * all);
    let named: Vec<String> = named
        .map(|(_, &(node, energy))| {
            let node = graph.node(NodeId(node));
            let kind = match &node.op {
                Op::Lut(function) => format!("the table of {function}"),
                op => format!("{}, rescaled", op.name()),
            };
            format!("'{}' ({kind}, {:.0} %)", node.name, 100.0 * energy / all)
        })
        .collect();
    let behind = worst > 0.0;
    Some(Notice {
        warning: behind,
        code: "PARTED".to_owned(),
        subject: match nodes.first() {
            Some(&(node, _)) => graph.node(NodeId(node)).name.clone(),
            None => session.output_name(graph.outputs[output]),
        },
        message: format!(
            "CONVERTED is {:.1} dB {} VALIDATION at '{}'; what its integers add beyond fake quant comes from {}",
            worst.abs(),
            if behind { "behind" } else { "ahead of" },
            session.output_name(graph.outputs[output]),
            match named.is_empty() {
                true => "its own operator".to_owned(),
                false => named.join(", "),
            }
        ),
    })
}

pub(super) fn wide_accumulators(session: &Session, total: &BatchErrors) -> Vec<Notice> {
    let linears = total
        .linears
        .iter()
        .map(|(id, _, counts)| (*id, AccumulatorPeak::new(counts.peak)));
    let matmuls = total
        .matmuls
        .iter()
        .map(|(id, peak)| (*id, AccumulatorPeak::new(*peak)));
    let mut peaks: Vec<(usize, AccumulatorPeak)> = linears.chain(matmuls).collect();
    peaks.sort_by_key(|(id, _)| *id);
    peaks.retain(|(_, peak)| peak.bits() > WIDE_ACCUMULATOR_BITS);
    let notice = |(id, peak): (usize, AccumulatorPeak)| Notice {
        warning: true,
        code: WIDE_ACCUMULATOR.to_owned(),
        subject: session.graph.node(NodeId(id)).name.clone(),
        message: format!(
            "its largest accumulator needs {} bits beside the sign; the width of the chip's is not public",
            peak.bits()
        ),
    };
    peaks.into_iter().map(notice).collect()
}
