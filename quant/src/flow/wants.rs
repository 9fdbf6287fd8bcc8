//! What observation must keep, so that every scale that a plan may need can be derived.

use dual16_nash::{IntDtype, ways::Way};

use super::session::Session;
use crate::{
    graph::{NodeId, Op, ValueId},
    observe::{ObserverKind, Wants},
    plan::Slot,
    settings::WayChoice,
};

impl Session {
    /// Ways of a Linear that may be measured before the job ends.
    pub(super) fn ways_in_play(&self, linear: NodeId) -> Vec<Way> {
        match self.request.linears.get(&linear.0) {
            Some(request) => match (request.explicit, request.requested) {
                (true, WayChoice::Fixed(way) | WayChoice::Fitted(way, _)) => vec![way],
                _ => Way::ALL.to_vec(),
            },
            None => Vec::new(),
        }
    }

    /// What observation must keep of a value so that every scale it may need can be derived.
    pub(super) fn wants(&self, id: ValueId) -> Wants {
        if self.job.settings.keep_statistics {
            return Wants::ALL;
        }
        let request = &self.request.values[id.0];
        let mut dtypes = vec![request.dtype];
        // A mask may need the room of int16, and so may the outputs.
        let settings = &self.job.settings;
        let mending = settings.min_output_sqnr > 0.0 || !settings.output_targets.is_empty();
        if mending || self.gemm_inputs.contains(&id.0) || self.graph.mask_side(id).is_some() {
            dtypes = IntDtype::ALL.to_vec();
        }
        let mut observers = vec![request.observer];
        let slots = self.input_observers.get(&id.0);
        observers.extend(slots.into_iter().flatten());
        wants_of(&observers, &dtypes)
    }

    /// The same for a tensor inside a Linear; these are int16 always.
    pub(super) fn slot_wants(&self, linear: NodeId, slot: Slot) -> Wants {
        if self.job.settings.keep_statistics {
            return Wants::ALL;
        }
        let observer = self.request.slot(linear.0, slot).observer;
        wants_of(
            &[observer.unwrap_or(self.job.settings.observer)],
            &[IntDtype::Int16],
        )
    }

    /// What is kept of each value in each sketch that observing one batch makes.
    pub(super) fn sketches(&self) -> impl Iterator<Item = Wants> {
        let made = self.graph.running().flat_map(|(_, node)| &node.outputs);
        let values = self.graph.inputs.iter().chain(made).copied();
        let own = values.filter(|&id| self.graph.origin(id) == id);
        let inside = self.graph.linears().flat_map(move |(linear, ..)| {
            let slots = self.slots_to_observe(linear).into_iter();
            slots.map(move |slot| self.slot_wants(linear, slot))
        });
        let by_sign = Wants {
            histogram: true,
            ..Wants::default()
        };
        let tables = self.tables_in_play().flat_map(move |_| [by_sign; 2]);
        own.map(|id| self.wants(id)).chain(inside).chain(tables)
    }

    /// What tables read that may be divided by the inputs seen: none before there are remedies.
    pub(super) fn tables_in_play(&self) -> impl Iterator<Item = ValueId> {
        let observed = self.has_remedies();
        let tables = self
            .graph
            .running()
            .filter(|(_, node)| matches!(node.op, Op::Lut(_)));
        let inputs = tables.filter_map(|(_, node)| node.inputs.first().copied());
        inputs.filter(move |_| observed)
    }

    /// What is measured of every layer: every way under auto, the one way otherwise.
    pub(super) fn first_ways(&self, linear: NodeId) -> Vec<Way> {
        match self.request.linears.get(&linear.0) {
            Some(request) if request.requested == WayChoice::Auto => all_ways(request.start),
            Some(request) => vec![request.start],
            None => Vec::new(),
        }
    }

    /// Tensors inside a Linear that are observed with the values of the graph. Of the model as it is, those of
    /// the ways that are measured in any case: others are observed where a layer turns out to need them
    /// ([`observe_inside`](super::observe::observe_inside)), and with the remedies, for a search may take any.
    pub(super) fn slots_to_observe(&self, linear: NodeId) -> Vec<Slot> {
        let kept = self.job.settings.keep_statistics;
        match (kept, self.has_remedies()) {
            (true, true) => Vec::new(),
            (true, false) | (false, true) => slots_of(&self.ways_in_play(linear)),
            (false, false) => slots_of(&self.first_ways(linear)),
        }
    }
}

/// The five ways, and the layer's own where it is another.
pub(super) fn all_ways(start: Way) -> Vec<Way> {
    let mut ways: Vec<Way> = Way::FIVE.to_vec();
    if !ways.contains(&start) {
        ways.push(start);
    }
    ways
}

/// Tensors inside a Linear that these ways need scales for.
pub(super) fn slots_of(ways: &[Way]) -> Vec<Slot> {
    let of = |way, slots: [Slot; 2]| slots.into_iter().filter(move |_| ways.contains(&way));
    let mul_sum = of(Way::MulSum, [Slot::Product, Slot::Sum]);
    let split = of(Way::Split, [Slot::High, Slot::Low]);
    mul_sum.chain(split).collect()
}

fn wants_of(observers: &[ObserverKind], dtypes: &[IntDtype]) -> Wants {
    let pairs = observers
        .iter()
        .flat_map(|&observer| dtypes.iter().map(move |&d| (observer, d)));
    pairs
        .map(|(observer, dtype)| Wants::of(observer, dtype))
        .fold(Wants::default(), Wants::union)
}
