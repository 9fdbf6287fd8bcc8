//! Where masked elements end: low enough that the table of exp has 0 for them, and no lower, so that
//! they take no room from the scores beside them.
//!
//! The exp of a Softmax gives what its input may be at most. Backwards from there each operand gets
//! its own bound, such that the mask holds whatever is added to it; forwards again, the end of each
//! range. All of it is in numbers times [`Side::sign`], masked elements below.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::ScaleSource;
use crate::{
    Result,
    graph::{Brought, Graph, Node, Passage, Side, ValueId, ValueKind},
    notice::Notice,
    observe::Range,
};

/// Added to every bound, so that no rounding on the way lifts a masked element over it: e^-1 of the
/// half step at which a table would round up.
const MARGIN: f32 = 1.0;

/// Scores vanish beside a mask of this magnitude: one f32 step is 1 there. Below it a row that is
/// masked whole keeps the differences between its scores.
const ABSORBS: f32 = 8_388_608.0;

/// A value holds masked elements.
pub(crate) const MASK: &str = "MASK";

/// Tensors after a mask that a notice names.
const NAMED: usize = 3;

/// Where masked elements of one value end.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Floor {
    /// End of the value's range; masked elements beyond saturate.
    pub end: f32,
    /// Masked elements in calibration, or in the constant.
    pub masked: u64,
    /// No operand has brought them: the value is the mask.
    pub entered: bool,
}

/// The floor of every value that holds masked elements and has a scale of its own.
pub(crate) fn floors(source: &ScaleSource<'_>) -> Result<BTreeMap<usize, Floor>> {
    let graph = source.graph;
    let mut floors = Floors {
        source,
        entered: BTreeMap::new(),
        bounds: BTreeMap::new(),
        ends: BTreeMap::new(),
    };
    floors.find_masks();
    floors.bound()?;
    floors.end();
    let own = floors
        .ends
        .iter()
        .filter(|(id, _)| graph.origin(**id) == **id);
    let floor = |(id, end): (&ValueId, &f32)| {
        let side = graph.mask_side(*id).unwrap_or(Side::Below);
        let floor = Floor {
            end: side.sign() * end,
            masked: source.masked(*id).map_or(0, |masked| masked.count()),
            entered: floors.entered.get(id).copied().unwrap_or_default(),
        };
        (id.0, floor)
    };
    Ok(own.map(floor).collect())
}

struct Floors<'a> {
    source: &'a ScaleSource<'a>,
    /// Values that hold masked elements, and whether those come from no operand.
    entered: BTreeMap<ValueId, bool>,
    /// What masked elements may be at most.
    bounds: BTreeMap<ValueId, f32>,
    /// Where ranges end.
    ends: BTreeMap<ValueId, f32>,
}

impl Floors<'_> {
    /// Finds the values that hold masked elements: seen in the data, or sure to come.
    fn find_masks(&mut self) {
        let graph = self.source.graph;
        let never_used = self.masks_never_used();
        for (id, _) in graph.maskable() {
            let made = matches!(graph.value(id).kind, ValueKind::Activation);
            let seen = !made && self.source.masked(id).is_some();
            if seen || never_used.contains(&id) {
                self.entered.insert(id, true);
            }
        }
        for (_, node) in graph.running() {
            for &output in &node.outputs {
                let Some(side) = graph.mask_side(output) else {
                    continue;
                };
                let brought = graph.brought(node, side);
                let brought = brought
                    .iter()
                    .any(|b| self.entered.contains_key(&b.operand));
                let seen = || graph.may_hold_mask(node) && self.source.masked(output).is_some();
                if brought || graph.makes_mask(node) || seen() {
                    self.entered.insert(output, !brought);
                }
            }
        }
    }

    /// Inputs that are added to scores and were 0 throughout calibration.
    fn masks_never_used(&self) -> Vec<ValueId> {
        let graph = self.source.graph;
        let mut found = Vec::new();
        for (_, node) in graph.running() {
            let side = node.outputs.first().and_then(|&id| graph.mask_side(id));
            for brought in side.into_iter().flat_map(|side| graph.brought(node, side)) {
                let origin = graph.origin(brought.operand);
                let added = matches!(brought.passage, Passage::Plus { .. });
                let given = matches!(graph.value(origin).kind, ValueKind::Input);
                if added && given && self.source.unmasked_range(origin) == Range::ZERO {
                    found.push(origin);
                }
            }
        }
        found
    }

    /// From each Softmax backwards: what masked elements may be at most.
    fn bound(&mut self) -> Result<()> {
        let graph = self.source.graph;
        for sink in graph.mask_sinks() {
            let dtype = self.source.request.values[sink.exp.0].dtype;
            let step = self.source.value(sink.exp, dtype)?.scale;
            self.lower(sink.shifted, (step / 2.0).ln().min(0.0) - MARGIN);
        }
        for (_, node) in graph.running().rev() {
            for &output in &node.outputs {
                let Some(bound) = self.bounds.get(&output).copied() else {
                    continue;
                };
                let side = graph.mask_side(output).unwrap_or(Side::Below);
                for brought in graph.brought(node, side) {
                    if let Some(bound) = self.before(&brought, side, output, bound) {
                        self.lower(brought.operand, bound);
                    }
                }
            }
        }
        Ok(())
    }

    /// The bound of an operand, given that of the node's output.
    fn before(&self, brought: &Brought, side: Side, output: ValueId, bound: f32) -> Option<f32> {
        let before = match brought.passage {
            Passage::Same => bound,
            Passage::Plus { other, sign } => {
                let other = signed(self.source.unmasked_range(other), side.sign() * sign);
                bound - other.max() - MARGIN
            }
            Passage::Times(factor) => {
                let (least, most) = self.factor(factor)?;
                (bound / least).min(bound / most)
            }
            Passage::Over(divisor) => {
                let (least, most) = self.factor(divisor)?;
                (bound * least).min(bound * most)
            }
            Passage::OverUnknown => bound * self.quotient(brought.operand, output),
        };
        before.is_finite().then_some(before)
    }

    /// Least and largest magnitude of a factor that leaves a mask one.
    fn factor(&self, id: ValueId) -> Option<(f32, f32)> {
        let range = self.source.unmasked_range(id);
        let constant = matches!(self.source.graph.value(id).kind, ValueKind::Constant(_));
        if range.min() > 0.0 {
            Some((range.min(), range.max()))
        } else if constant && range.max() < 0.0 {
            Some((-range.max(), -range.min()))
        } else {
            None
        }
    }

    /// How much larger a value is than what was made of it.
    fn quotient(&self, id: ValueId, made: ValueId) -> f32 {
        let [from, to] = [id, made].map(|id| self.source.unmasked_range(id).amax());
        from / to
    }

    /// Lowers a mask's bound. The range reaches as far below 0 as above: what that gives is free.
    fn lower(&mut self, id: ValueId, bound: f32) {
        if !self.entered.contains_key(&id) {
            return;
        }
        let side = self.source.graph.mask_side(id).unwrap_or(Side::Below);
        let unmasked = signed(self.source.unmasked_range(id), side.sign());
        let bound = bound.min(-unmasked.max());
        let lowest = self.bounds.entry(id).or_insert(bound);
        *lowest = lowest.min(bound);
    }

    /// From each mask forwards: where its range ends. That is its bound, but where a row that is
    /// masked whole keeps the differences between its scores, in the float run and so here.
    fn end(&mut self) {
        let graph = self.source.graph;
        for (&id, &bound) in &self.bounds {
            if self.entered.get(&id) == Some(&true) {
                self.ends.insert(id, bound);
            }
        }
        for (_, node) in graph.running() {
            for &output in &node.outputs {
                if let Some(&bound) = self.bounds.get(&output) {
                    let end = self.end_of(node, output, bound);
                    self.ends.insert(output, end);
                }
            }
        }
    }

    fn end_of(&self, node: &Node, output: ValueId, bound: f32) -> f32 {
        let graph = self.source.graph;
        let mut sinks = graph.mask_sinks().iter();
        if sinks.any(|sink| sink.shifted == output) || !self.keeps_scores(output) {
            return bound;
        }
        let side = graph.mask_side(output).unwrap_or(Side::Below);
        let after = |brought: Brought| {
            let end = *self.ends.get(&brought.operand)?;
            Some(match brought.passage {
                Passage::Same => end,
                Passage::Plus { other, sign } => {
                    end + signed(self.source.unmasked_range(other), side.sign() * sign).min()
                }
                Passage::Times(factor) => end * self.factor(factor)?.1,
                Passage::Over(divisor) => end / self.factor(divisor)?.0,
                Passage::OverUnknown => end / self.quotient(brought.operand, output),
            })
        };
        let ends = graph.brought(node, side).into_iter().filter_map(after);
        ends.filter(|end| end.is_finite()).fold(bound, f32::min)
    }

    /// Whether masked elements still tell their scores apart.
    fn keeps_scores(&self, id: ValueId) -> bool {
        let side = self.source.graph.mask_side(id).unwrap_or(Side::Below);
        let masked = self.source.masked(id).and_then(|masked| masked.range());
        masked.is_some_and(|range| signed(range, side.sign()).max() > -ABSORBS)
    }
}

/// A range times 1 or -1.
fn signed(range: Range, sign: f32) -> Range {
    match sign < 0.0 {
        true => Range::new(-range.max(), -range.min()).unwrap_or(range),
        false => range,
    }
}

/// One notice for each mask: what it is called, what was left out, where it ends and what it reaches.
pub(crate) fn notices(graph: &Graph, floors: &BTreeMap<usize, Floor>) -> Vec<Notice> {
    let notice = |(&id, floor): (&usize, &Floor)| {
        let Floor { end, masked, .. } = floor;
        let reached: Vec<String> = reached(graph, floors, ValueId(id))
            .map(|(name, floor)| format!("'{name}' at {:.1}", floor.end))
            .collect();
        let named = &reached[..reached.len().min(NAMED)];
        let mut message = format!(
            "it masks what a Softmax is of: {masked} masked elements are left out of its range and \
             saturate at {end:.1}"
        );
        if !named.is_empty() {
            message += &format!("; those that it makes, in {}", named.join(", "));
        }
        if reached.len() > NAMED {
            message += &format!(" and {} more", reached.len() - NAMED);
        }
        Notice {
            warning: false,
            code: MASK.to_owned(),
            subject: graph.values[id].name.clone(),
            message,
        }
    };
    let entered = floors.iter().filter(|(_, floor)| floor.entered);
    entered.map(notice).collect()
}

/// Values of the model after a mask that have a floor of their own.
fn reached<'a>(
    graph: &'a Graph,
    floors: &'a BTreeMap<usize, Floor>,
    mask: ValueId,
) -> impl Iterator<Item = (&'a str, &'a Floor)> {
    let mut after = BTreeSet::from([mask]);
    for (_, node) in graph.running() {
        for &output in &node.outputs {
            let side = graph.mask_side(output);
            let mut brought = side.into_iter().flat_map(|side| graph.brought(node, side));
            if brought.any(|brought| after.contains(&brought.operand)) {
                after.insert(output);
            }
        }
    }
    after.remove(&mask);
    after.into_iter().filter_map(|id| {
        let value = graph.value(id);
        let floor = floors.get(&id.0)?;
        value.onnx.as_ref().map(|_| (value.name.as_str(), floor))
    })
}
