//! What a way of a Linear costs on the chip, counted as the article counts: its "flops" are
//! multiply-accumulates, whatever unit makes them.

use crate::linear::GemmShape;
use crate::ways::Way;

/// Where the multiply-accumulates run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// The matrix unit.
    Tensor,
    /// The vector unit: elementwise ops and reductions.
    Vector,
}

/// Cost of one Linear over one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cost {
    /// Multiply-accumulates.
    pub macs: u64,
    /// Where they run.
    pub unit: Unit,
    /// Bytes of intermediate products that the chip writes and reads back: N*O*K int16 for
    /// `mul_sum`, 0 otherwise. The simulation holds none of them.
    pub product_bytes: u64,
}

/// Cost of a Linear `x [n, k] * w [o, k]^T` run in a way. Saturates at `u64::MAX`.
pub fn cost(way: Way, GemmShape { n, k, o }: GemmShape) -> Cost {
    let macs = (n as u64).saturating_mul(k as u64).saturating_mul(o as u64);
    match way {
        Way::A8W8 | Way::A16W8 | Way::A8W16 | Way::A16W16 => Cost {
            macs,
            unit: Unit::Tensor,
            product_bytes: 0,
        },
        Way::Split => Cost {
            macs: macs.saturating_mul(2),
            unit: Unit::Tensor,
            product_bytes: 0,
        },
        Way::MulSum => Cost {
            macs,
            unit: Unit::Vector,
            product_bytes: macs.saturating_mul(2),
        },
    }
}
