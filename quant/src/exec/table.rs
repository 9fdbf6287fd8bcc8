//! A function of one variable as CONVERTED runs it, and how far that is from VALIDATION.

use std::sync::OnceLock;

use dual16_nash::{
    Error as KernelError,
    dtype::{IntDtype, QInt},
    lut::{Lut, LutSpec, SEGMENTS},
};

use crate::qtensor::{QTensor, each_dtype};

/// A table and what it was made for.
pub struct Table {
    /// The integers.
    pub lut: Lut,
    spec: LutSpec,
    /// By input from qmin up: the table's value less the function's, rounded; in real numbers.
    errors: OnceLock<Vec<f32>>,
}

impl Table {
    /// Builds the table, by its own division or by the one given.
    pub(super) fn new(
        spec: LutSpec,
        division: Option<&[i32; SEGMENTS + 1]>,
    ) -> Result<Self, KernelError> {
        let lut = match division {
            Some(bounds) => Lut::divided(&spec, bounds),
            None => Lut::build(&spec),
        }?;
        Ok(Table {
            lut,
            spec,
            errors: OnceLock::new(),
        })
    }

    /// What each element of the output is in CONVERTED beyond what it is in VALIDATION, given the same
    /// input: what the table gives less the function's value after its fake quant.
    pub(crate) fn beyond_function(&self, x: &QTensor) -> Vec<f32> {
        let errors = self.errors.get_or_init(|| {
            let step = self.spec.output_scale.get();
            // The table was built of this specification, so it is a good one.
            let errors = self.lut.errors(&self.spec).unwrap_or_default();
            errors
                .into_iter()
                .map(|error| error as f32 * step)
                .collect()
        });
        let qmin = self.spec.input.qmin();
        let at = |q: i32| errors.get((q - qmin) as usize).copied().unwrap_or(0.0);
        each_dtype!(&x.data, data => data.iter().map(|q| at(q.to_i32())).collect())
    }
}

/// Whether a table from one format to another has segments, and with them an error of its own.
pub(crate) fn has_segments(input: IntDtype, output: IntDtype) -> bool {
    (input, output) != (IntDtype::Int8, IntDtype::Int8)
}
