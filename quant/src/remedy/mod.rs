//! Remedies: other ways to compute an operation, made of operators the chip has and equal to it in
//! exact arithmetic, for places where an integer tensor of the plain way loses what the model's
//! outputs need. One file a remedy; each finds its places in a graph and adds an alternative for each.

mod dot;
pub(crate) mod equalize;
mod fp16;
mod late_mean;
mod mul_sum;
mod split_operand;
mod two_range;
mod two_tables;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use dual16_nash::{dtype::IntDtype, legality::Rules};
use serde::{Deserialize, Serialize};

use crate::{
    graph::{Extended, Fragment, Graph, NodeId, Op, Stated, ValueId},
    plan::ScaleSource,
};

/// What a remedy does; the name is what settings and reports call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Remedy {
    /// A sum of squares in two ranges: small values apart from outliers.
    TwoRange,
    /// A sum of squares as a product of a row with itself.
    Dot,
    /// The core of a LayerNorm in fp16.
    Fp16,
    /// The mean of a LayerNorm taken away after the scaling.
    LateMean,
    /// A sum of exponentials in two tables: small values apart from large ones.
    TwoTables,
    /// The second operand of a MatMul as two int8 planes.
    SplitOperand,
    /// A MatMul as products and sums on the vector unit.
    MulSum,
    /// Columns of what Linears read equalized, for fits of their weights.
    Equalize,
}

impl Remedy {
    /// Every remedy.
    pub const ALL: [Remedy; 8] = [
        Remedy::TwoRange,
        Remedy::Dot,
        Remedy::Fp16,
        Remedy::LateMean,
        Remedy::TwoTables,
        Remedy::SplitOperand,
        Remedy::MulSum,
        Remedy::Equalize,
    ];

    /// Lower-case name.
    pub const fn name(self) -> &'static str {
        match self {
            Remedy::TwoRange => "two_range",
            Remedy::Dot => "dot",
            Remedy::Fp16 => "fp16",
            Remedy::LateMean => "late_mean",
            Remedy::TwoTables => "two_tables",
            Remedy::SplitOperand => "split",
            Remedy::MulSum => "mul_sum",
            Remedy::Equalize => "eq",
        }
    }

    /// What it is, in a few words.
    pub const fn description(self) -> &'static str {
        match self {
            Remedy::TwoRange => "squares in two ranges, small values apart from outliers",
            Remedy::Dot => "a sum of squares as a product of a row with itself",
            Remedy::Fp16 => "a LayerNorm in fp16, which no public document promises",
            Remedy::LateMean => "the mean is taken away after the scaling, at its finer step",
            Remedy::TwoTables => "a sum of exp in two tables, small values at a step of their own",
            Remedy::SplitOperand => "second operand as two int8 planes, two products added",
            Remedy::MulSum => "products and their sum on the vector unit, each rounded to int16",
            Remedy::Equalize => "columns of a Linear's input divided, its weight multiplied",
        }
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Remedy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = |remedy: &Remedy| remedy.name() == text;
        Remedy::ALL.into_iter().find(named).ok_or_else(|| {
            let names = Remedy::ALL.map(Remedy::name).join(", ");
            format!("unknown remedy '{text}'; one of {names}")
        })
    }
}

/// One place where a remedy can stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// What stands there.
    pub remedy: Remedy,
    /// The node whose output it makes instead; of an equalization, the first of the Linears that it is for.
    pub node: NodeId,
    /// Nodes that it makes needless with that one, where nothing else reads what they make.
    pub with: Vec<NodeId>,
    /// Number of the alternative in [`Places::extended`].
    pub alternative: usize,
}

/// A graph with every remedy that it has a place for.
#[derive(Debug)]
pub struct Places {
    /// The graph and the alternatives.
    pub extended: Extended,
    /// By alternative; of those at one node the cheapest first.
    pub places: Vec<Place>,
}

impl Places {
    /// The Linears that the equalization of a Linear's input is for, itself among them; none where there is
    /// no such place.
    pub(crate) fn equalized_with(&self, linear: usize) -> &[NodeId] {
        let divided = self.extended.alternatives().iter();
        let mut divided = divided.filter_map(|alternative| alternative.divided.as_ref());
        let with = divided.find(|divided| divided.readers.contains(&NodeId(linear)));
        with.map_or(&[], |divided| &divided.readers)
    }

    /// The places at some nodes: those of a remedy for one of them, or that make one of them needless.
    pub(crate) fn at<'p>(
        &'p self,
        nodes: &'p BTreeSet<usize>,
    ) -> impl Iterator<Item = (usize, &'p Place)> {
        let places = self.places.iter().enumerate();
        places.filter(|(_, place)| {
            let mut replaced = std::iter::once(&place.node).chain(&place.with);
            // It comes and goes with a fit of its Linear.
            place.remedy != Remedy::Equalize && replaced.any(|node| nodes.contains(&node.0))
        })
    }

    /// The first place at each node that a remedy has to do with: what it replaces, and its own.
    pub(crate) fn first_by_node(&self) -> BTreeMap<usize, usize> {
        let mut of = BTreeMap::new();
        let mut first: BTreeMap<NodeId, usize> = BTreeMap::new();
        for (index, place) in self.places.iter().enumerate() {
            if place.remedy == Remedy::Equalize {
                continue;
            }
            let own = self.extended.alternatives().get(place.alternative);
            let own = own.into_iter().flat_map(|alternative| &alternative.nodes);
            let spot = *first.entry(place.node).or_insert(index);
            let replaced = std::iter::once(&place.node).chain(&place.with);
            of.extend(own.chain(replaced).map(|id| (id.0, spot)));
        }
        of
    }

    /// Looks through a graph. What a remedy's constants depend on is read from the calibration, so
    /// equal calibrations give equal places.
    pub fn of(source: &ScaleSource<'_>) -> Places {
        let mut extension = source.graph.clone().extended();
        let mut places = Vec::new();
        let rules = Rules::of(source.settings.march, source.settings.toolchain);
        let int16_operands = rules.max_int16_gemm_operands;
        // One product is cheaper than two ranges, two with the planes between are dearer.
        if int16_operands >= 2 {
            dot::extend(source, int16_operands, &mut extension, &mut places);
        }
        two_range::extend(source, &mut extension, &mut places);
        if int16_operands < 2 {
            dot::extend(source, int16_operands, &mut extension, &mut places);
        }
        if source.settings.allow_fp16 && !source.settings.strict {
            fp16::extend(source, &mut extension, &mut places);
        }
        late_mean::extend(source, &mut extension, &mut places);
        two_tables::extend(source, &mut extension, &mut places);
        if int16_operands < 2 {
            split_operand::extend(source, &mut extension, &mut places);
            // Checked where settings are made.
            if let Ok(chip) = source.settings.chip() {
                mul_sum::extend(source, &chip, &mut extension, &mut places);
            }
        }
        equalize::extend(source, &mut extension, &mut places);
        Places {
            extended: extension.finish(),
            places,
        }
    }
}

/// Whether a value is asked to be int16.
fn is_int16(source: &ScaleSource<'_>, id: ValueId) -> bool {
    let origin = source.graph.origin(id);
    source.request.values[origin.0].dtype == IntDtype::Int16
}

/// A value as two int8 planes, hi and lo, which add up to it up to the rounding of lo. None where nothing
/// was observed of it but 0.
fn planes(
    source: &ScaleSource<'_>,
    fragment: &mut Fragment<'_>,
    of: ValueId,
) -> Option<[ValueId; 2]> {
    // Every value is a multiple of its own int16 step, so that the planes lose nothing but where the
    // largest is not a whole number of steps.
    let step = largest(source, of)? / 127.0;
    let whole = source.graph.value(of).shape.clone();
    let stated = |scale| Stated {
        dtype: Some(IntDtype::Int8),
        scale: Some(scale),
        room: None,
    };
    let quantize = Op::ToInt8 { step };
    let high = fragment.node("hi", quantize, vec![of], whole.clone(), stated(step));
    let rest = vec![of, high];
    let low = fragment.node("lo", Op::Sub, rest, whole, stated(step / 254.0));
    Some([high, low])
}

/// The largest magnitude that was observed of a value; None where it is 0 or nothing was.
fn largest(source: &ScaleSource<'_>, id: ValueId) -> Option<f32> {
    let (min, max) = source.observed_range(id)?;
    Some(min.abs().max(max.abs())).filter(|largest| *largest > 0.0 && largest.is_finite())
}

/// The node that makes a value, in a graph whose nodes all run.
fn maker(graph: &Graph, id: ValueId) -> Option<NodeId> {
    let makes =
        |(node, of): (NodeId, &crate::graph::Node)| of.outputs.contains(&id).then_some(node);
    graph.running().find_map(makes)
}
