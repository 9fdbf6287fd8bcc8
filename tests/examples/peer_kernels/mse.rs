//! The MSE observer: range and search over one tensor, as calibration calls it. A search is one
//! thread's work; on several threads each has a tensor of its own, as the batches of a calibration
//! are, and a call counts as its time for one tensor.
//!
//! Inputs: `values`, any shape. Outputs: `index` of the chosen candidate for each dtype, and
//! `range_bits` [min, max] of each clipped range as the bits of its f32.

use anyhow::{Context, Result};
use dual16_nash::IntDtype;
use dual16_quant::observe::{MseChoice, Sketch, Wants};
use rayon::ThreadPool;
use rayon::prelude::*;

use crate::tensors::{File, write};
use crate::{Clock, Request};

const NOTHING: Wants = Wants {
    histogram: false,
    mse_int8: false,
    mse_int16: false,
};

pub(crate) const INT8: Wants = Wants {
    mse_int8: true,
    ..NOTHING
};

pub(crate) const INT16: Wants = Wants {
    mse_int16: true,
    ..NOTHING
};

pub(crate) const BOTH: Wants = Wants {
    mse_int8: true,
    ..INT16
};

pub(crate) fn measure(
    request: &Request,
    pool: &ThreadPool,
    clock: Clock,
    wants: &Wants,
) -> Result<Vec<f64>> {
    let (values, shape) = File::read(&request.inputs)?.tensor::<f32>("values")?;
    // Copies, so that threads do not share cache lines that real batches would not share.
    let tensors = vec![values; request.threads];
    let mut sketches = Vec::new();
    let mut seconds = clock.time(pool, || {
        let observe = |values: &Vec<f32>| Sketch::of(values, &shape, *wants);
        sketches = tensors.par_iter().map(observe).collect();
        Ok(())
    })?;
    for call in &mut seconds {
        *call /= request.threads as f64;
    }
    let sketch = sketches.first().context("no thread")?;
    let wanted = [
        (wants.mse_int8, IntDtype::Int8),
        (wants.mse_int16, IntDtype::Int16),
    ];
    let choices: Vec<MseChoice> = wanted
        .into_iter()
        .filter(|(wanted, _)| *wanted)
        .filter_map(|(_, dtype)| sketch.mse(dtype))
        .collect();
    let bits = |choice: &MseChoice| [choice.range.min(), choice.range.max()].map(f32::to_bits);
    write(
        &request.outputs,
        &[
            ("index", choices.iter().map(|c| c.index.into()).collect()),
            (
                "range_bits",
                choices.iter().flat_map(bits).map(i64::from).collect(),
            ),
        ],
    )?;
    Ok(seconds)
}
