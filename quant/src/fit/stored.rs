//! Integers of a fitted weight as they go from task to task: an int8 one takes a byte.

use dual16_nash::dtype::IntDtype;
use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::grid::Quantized;

/// A [`Quantized`], flat.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Stored {
    shape: (usize, usize),
    scales: Vec<f32>,
    integers: Integers,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Integers {
    Int8(Vec<i8>),
    Int16(Vec<i16>),
}

impl From<Quantized> for Stored {
    fn from(quantized: Quantized) -> Self {
        let Quantized { q, scales, dtype } = quantized;
        Self {
            shape: q.dim(),
            scales,
            integers: match dtype {
                // Within int8, by what a Quantized is.
                IntDtype::Int8 => Integers::Int8(q.iter().map(|&q| q as i8).collect()),
                IntDtype::Int16 => Integers::Int16(q.iter().copied().collect()),
            },
        }
    }
}

impl TryFrom<Stored> for Quantized {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        let Stored {
            shape,
            scales,
            integers,
        } = stored;
        let (dtype, integers) = match integers {
            Integers::Int8(integers) => {
                let integers = integers.into_iter().map(i16::from).collect();
                (IntDtype::Int8, integers)
            }
            Integers::Int16(integers) => (IntDtype::Int16, integers),
        };
        if scales.len() != shape.0 {
            return Err(format!("{} scales for a weight of {shape:?}", scales.len()));
        }
        let q = Array2::from_shape_vec(shape, integers).map_err(|error| error.to_string())?;
        Ok(Self { q, scales, dtype })
    }
}
