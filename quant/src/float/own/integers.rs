//! Products and ranges of integers, noticed where 32 bits do not hold them.

use ndarray::{ArrayD, IxDyn};

use super::{
    Made,
    call::{Call, beyond, broadcast, stored},
};

/// A product of integer matrices.
pub(super) fn matmul(call: &Call<'_>) -> Made {
    let y = product(&call.integers(0)?, &call.integers(1)?)?;
    Ok(vec![stored(&y, call.elem())?])
}

/// numpy's matmul.
pub(super) fn product(a: &ArrayD<i64>, b: &ArrayD<i64>) -> Result<ArrayD<i64>, String> {
    let misfit = || {
        format!(
            "matrices of shapes {:?} and {:?} cannot be multiplied",
            a.shape(),
            b.shape()
        )
    };
    let (mut a_shape, mut b_shape) = (a.shape().to_vec(), b.shape().to_vec());
    let (row, column) = (a_shape.len() == 1, b_shape.len() == 1);
    if row {
        a_shape.insert(0, 1);
    }
    if column {
        b_shape.push(1);
    }
    let ([a_batch @ .., m, k], [b_batch @ .., k2, n]) = (a_shape.as_slice(), b_shape.as_slice())
    else {
        return Err(misfit());
    };
    if k != k2 {
        return Err(misfit());
    }
    let batch = broadcast(a_batch, b_batch)?;
    let shaped = |x: &ArrayD<i64>, own: &[usize], rows: usize, columns: usize| {
        let whole = [own, &[rows, columns]].concat();
        let target = [batch.as_slice(), &[rows, columns]].concat();
        let x = x
            .as_standard_layout()
            .into_owned()
            .into_shape_with_order(IxDyn(&whole));
        x.ok().and_then(|x| {
            let x = x.broadcast(IxDyn(&target))?;
            Some(
                x.as_standard_layout()
                    .into_owned()
                    .into_raw_vec_and_offset()
                    .0,
            )
        })
    };
    let a = shaped(a, a_batch, *m, *k).ok_or_else(misfit)?;
    let b = shaped(b, b_batch, *k, *n).ok_or_else(misfit)?;
    let count: usize = batch.iter().product();
    let mut y = vec![0_i64; count * m * n];
    for matrix in 0..count {
        for i in 0..*m {
            for j in 0..*n {
                let mut sum = 0_i64;
                for l in 0..*k {
                    let one = a[(matrix * m + i) * k + l].checked_mul(b[(matrix * k + l) * n + j]);
                    sum = one
                        .and_then(|one| sum.checked_add(one))
                        .ok_or_else(|| beyond("of a product"))?;
                }
                y[(matrix * m + i) * n + j] = sum;
            }
        }
    }
    let mut shape = batch;
    if !row {
        shape.push(*m);
    }
    if !column {
        shape.push(*n);
    }
    super::call::tensor(&shape, y)
}

/// From start to limit by steps.
pub(super) fn range(call: &Call<'_>) -> Made {
    let one = |index: usize| -> Result<i64, String> {
        let all = call.integers(index)?;
        all.first()
            .copied()
            .ok_or_else(|| format!("its input {index} is empty"))
    };
    let (start, limit, step) = (one(0)?, one(1)?, one(2)?);
    if step == 0 {
        return Err("its step is 0".to_owned());
    }
    let span = if step > 0 {
        limit - start
    } else {
        start - limit
    };
    let count = usize::try_from(span.max(0))
        .unwrap_or(0)
        .div_ceil(step.unsigned_abs() as usize);
    let all: Vec<i64> = (0..count as i64)
        .map(|index| start + index * step)
        .collect();
    let y = super::call::tensor(&[count], all)?;
    Ok(vec![stored(&y, call.elem())?])
}
