//! From work to time.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Chip, Key, Work};

/// How long some work takes on a chip, in microseconds. An estimate, always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// From start to end: the larger of compute, and load and store together, which share the memory;
    /// and the start of every operator.
    pub latency_us: f64,
    /// Matrix unit, vector unit, tables, moves, requantization and float islands, one after the other.
    pub compute_us: f64,
    /// From memory outside the chip.
    pub load_us: f64,
    /// To memory outside the chip.
    pub store_us: f64,
    /// What takes most of it.
    pub bound: Bound,
}

/// What most of the time goes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Bound {
    /// Starting operators.
    #[default]
    Launch,
    /// Multiply-accumulates on the matrix unit.
    Matrix,
    /// Elementwise operations and reductions on the vector unit, in integers and in fp16.
    Vector,
    /// Look-up tables.
    Lut,
    /// Giving values another place.
    Move,
    /// Going from int8 to int16 and back.
    Requantize,
    /// Going to floats and back, and the round trip to whatever computes in them.
    FloatIsland,
    /// Memory outside the chip.
    Memory,
}

impl Bound {
    /// What a table prints.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Launch => "launch",
            Self::Matrix => "matrix",
            Self::Vector => "vector",
            Self::Lut => "table",
            Self::Move => "move",
            Self::Requantize => "requantize",
            Self::FloatIsland => "float",
            Self::Memory => "memory",
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Estimate {
    /// The time of one operator's work.
    pub fn of(work: &Work, chip: &Chip) -> Self {
        let per_second = |count: u64, giga: f64| count as f64 / (giga * 1e9) * 1e6;
        // Two operations to a multiply-accumulate, as TOPS count.
        let mac_rate = chip.get(Key::Int8Tops) * 1e3 / 2.0 * chip.get(Key::MatrixUtilization);
        let rates = [
            1.0,
            chip.get(Key::FeatureInt8WeightInt16Rate),
            chip.get(Key::FeatureInt16WeightInt8Rate),
            chip.get(Key::DoubleInt16Rate),
        ];
        let counts = work.macs.counts().into_iter().zip(rates);
        let matrix: f64 = counts
            .map(|(count, rate)| per_second(count, mac_rate * rate))
            .sum();
        let bytes = |elements: super::Elements| {
            elements
                .int8
                .saturating_add(elements.int16.saturating_mul(2))
        };
        let vector_rate = chip.get(Key::VectorGbPerS);
        let fp16 = work.fp16_elements.saturating_mul(2);
        let vector = per_second(bytes(work.vector), vector_rate)
            + per_second(fp16, chip.get(Key::Fp16GbPerS));
        let lut = per_second(bytes(work.lut), vector_rate / chip.get(Key::LutPasses));
        let moved = per_second(work.moved_bytes, chip.get(Key::MoveGbPerS));
        let requantize = per_second(work.requantized_bytes, chip.get(Key::RequantizeGbPerS));
        let converted = work.dequantized_bytes.saturating_add(work.quantized_bytes);
        let island = per_second(converted, chip.get(Key::RequantizeGbPerS))
            + work.float_islands as f64 * chip.get(Key::FloatRoundTripUs);
        let memory = chip.get(Key::DdrGbPerS) * chip.get(Key::DdrUtilization);
        let load_us = per_second(work.loaded_bytes, memory);
        let store_us = per_second(work.stored_bytes, memory);
        let launch = work.launches as f64 * chip.get(Key::LaunchUs);
        let parts = [
            (Bound::Matrix, matrix),
            (Bound::Vector, vector),
            (Bound::Lut, lut),
            (Bound::Move, moved),
            (Bound::Requantize, requantize),
            (Bound::FloatIsland, island),
        ];
        let compute_us: f64 = parts.iter().map(|(_, us)| us).sum();
        let most = match load_us + store_us > compute_us {
            true => (Bound::Memory, load_us + store_us),
            // The first of equals, so that no work at all is bound by its start.
            false => parts
                .into_iter()
                .fold((Bound::Launch, 0.0), |a, b| if b.1 > a.1 { b } else { a }),
        };
        Self {
            latency_us: compute_us.max(load_us + store_us) + launch,
            compute_us,
            load_us,
            store_us,
            bound: if launch > most.1 {
                Bound::Launch
            } else {
                most.0
            },
        }
    }

    /// One operator after the other: times add up, and what bounds the longer one bounds both.
    #[must_use]
    pub fn then(self, other: Self) -> Self {
        Self {
            latency_us: self.latency_us + other.latency_us,
            compute_us: self.compute_us + other.compute_us,
            load_us: self.load_us + other.load_us,
            store_us: self.store_us + other.store_us,
            bound: match other.latency_us > self.latency_us {
                true => other.bound,
                false => self.bound,
            },
        }
    }
}
