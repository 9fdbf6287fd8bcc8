//! The ways `a16w8` and `split` of one layer, from integers to requantized integers, as a converted
//! model runs them. On several threads each takes some output channels, whose weights it alone
//! packs; joining their columns is part of the time.
//!
//! Inputs of `a16w8`: `x` [N, K] int16, `w` [O, K] int8, `weight` scales [O], scales `input` and
//! `output`. Of `split`: `hi`, `lo` [O, K] int8 with `hi_weight` and `lo_weight` [O] instead, and
//! the scales `high` and `low` of the two planes' outputs. Outputs: `y` [N * O].

use anyhow::Result;
use dual16_nash::elementwise::add;
use dual16_nash::linear::{channel_rescales, linear};
use dual16_nash::{GemmShape, Rescale, Scale, ShapeError, TensorRef};
use rayon::ThreadPool;
use rayon::prelude::*;

use crate::tensors::{File, write};
use crate::{Clock, Request};

/// An int8 weight with what carries each channel's sum to the output scale.
struct Plane {
    weight: Vec<i8>,
    rescales: Vec<Rescale>,
}

impl Plane {
    fn read(file: &File, weight: &str, scales: &str, output: &str) -> Result<Self> {
        let scales: Vec<Scale> = file
            .tensor::<f32>(scales)?
            .0
            .into_iter()
            .map(Scale::new)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            weight: file.matrix(weight)?.0,
            rescales: channel_rescales(scale(file, "input")?, &scales, scale(file, output)?),
        })
    }

    /// Channels `first..first + shape.o` of the layer.
    fn run(&self, x: &[i16], first: usize, shape: GemmShape) -> Result<Vec<i16>, ShapeError> {
        let mut y = vec![0; shape.n * shape.o];
        let weight = &self.weight[first * shape.k..][..shape.o * shape.k];
        let rescales = &self.rescales[first..][..shape.o];
        linear(x, weight, shape, None, rescales, &mut y)?;
        Ok(y)
    }
}

pub(crate) fn measure_a16w8(
    request: &Request,
    pool: &ThreadPool,
    clock: Clock,
) -> Result<Vec<f64>> {
    let file = File::read(&request.inputs)?;
    let plane = Plane::read(&file, "w", "weight", "output")?;
    measure(request, &file, &plane, pool, clock, |x, first, shape| {
        plane.run(x, first, shape)
    })
}

pub(crate) fn measure_split(
    request: &Request,
    pool: &ThreadPool,
    clock: Clock,
) -> Result<Vec<f64>> {
    let file = File::read(&request.inputs)?;
    let high = Plane::read(&file, "hi", "hi_weight", "high")?;
    let low = Plane::read(&file, "lo", "lo_weight", "low")?;
    let output = scale(&file, "output")?;
    let from_high = Rescale::between(scale(&file, "high")?, output);
    let from_low = Rescale::between(scale(&file, "low")?, output);
    measure(request, &file, &high, pool, clock, |x, first, shape| {
        let (high, low) = (high.run(x, first, shape)?, low.run(x, first, shape)?);
        let dims = [shape.n, shape.o];
        let (high, low) = (TensorRef::new(&high, &dims)?, TensorRef::new(&low, &dims)?);
        Ok(add(high, from_high, low, from_low)?.data)
    })
}

/// Times `run(x, first, shape)`, called for the channels of each thread.
fn measure(
    request: &Request,
    file: &File,
    plane: &Plane,
    pool: &ThreadPool,
    clock: Clock,
    run: impl Fn(&[i16], usize, GemmShape) -> Result<Vec<i16>, ShapeError> + Sync,
) -> Result<Vec<f64>> {
    let (x, [n, k]) = file.matrix::<i16>("x")?;
    let o = plane.rescales.len();
    let channels = o.div_ceil(request.threads);
    let firsts: Vec<usize> = (0..o).step_by(channels).collect();
    let mut y = Vec::new();
    let seconds = clock.time(pool, || {
        let part = |&first: &usize| {
            let o = channels.min(o - first);
            run(&x, first, GemmShape { n, k, o })
        };
        let parts: Vec<Vec<i16>> = firsts.par_iter().map(part).collect::<Result<_, _>>()?;
        y = join_columns(parts, n);
        Ok(())
    })?;
    write(
        &request.outputs,
        &[("y", y.into_iter().map(i64::from).collect())],
    )?;
    Ok(seconds)
}

/// `[n, o_1]`, `[n, o_2]` … side by side.
fn join_columns(mut parts: Vec<Vec<i16>>, n: usize) -> Vec<i16> {
    if parts.len() == 1 {
        return parts.swap_remove(0);
    }
    let mut joined = Vec::with_capacity(parts.iter().map(Vec::len).sum());
    for row in 0..n {
        for part in &parts {
            let width = part.len() / n;
            joined.extend_from_slice(&part[row * width..][..width]);
        }
    }
    joined
}

fn scale(file: &File, name: &str) -> Result<Scale> {
    Ok(Scale::new(file.number(name)?)?)
}
