//! The way `mul_sum` with its counts. On several threads each takes some rows of x: rows are
//! independent, so the result is the same.
//!
//! Inputs: `x` [N, K] and `w` [O, K] int16; scales `input`, `weight`, `product`, `sum`.
//! Outputs: `sums` [N * O], `counts` [zero, clipped].

use anyhow::Result;
use dual16_nash::mul_sum::{MulSumCounts, mul_sum_on};
use dual16_nash::{GemmShape, Isa, Rescale, Scale};
use rayon::ThreadPool;
use rayon::prelude::*;

use crate::tensors::{File, write};
use crate::{Clock, Request};

pub(crate) fn measure(request: &Request, pool: &ThreadPool, clock: Clock) -> Result<Vec<f64>> {
    let file = File::read(&request.inputs)?;
    let (x, [n, k]) = file.matrix::<i16>("x")?;
    let (w, [o, _]) = file.matrix::<i16>("w")?;
    let scale = |name| -> Result<Scale> { Ok(Scale::new(file.number(name)?)?) };
    let product = Rescale::of_product(scale("input")?, scale("weight")?, scale("product")?);
    let sum = Rescale::between(scale("product")?, scale("sum")?);
    let isa = if request.scalar {
        Isa::PORTABLE
    } else {
        Isa::best()
    };

    let rows = n.div_ceil(request.threads);
    let mut sums = vec![0i16; n * o];
    let mut counts = MulSumCounts::default();
    let seconds = clock.time(pool, || {
        let parts = x.par_chunks(rows * k).zip(sums.par_chunks_mut(rows * o));
        let part = |(x, sums): (&[i16], &mut [i16])| {
            let shape = GemmShape {
                n: x.len() / k,
                k,
                o,
            };
            mul_sum_on(isa, x, &w, shape, product, sum, sums)
        };
        counts = parts
            .map(part)
            .try_reduce(MulSumCounts::default, |a, b| Ok(a.merge(b)))?;
        Ok(())
    })?;
    write(
        &request.outputs,
        &[
            ("sums", sums.into_iter().map(i64::from).collect()),
            ("counts", vec![counts.zero as i64, counts.clipped as i64]),
        ],
    )?;
    Ok(seconds)
}
