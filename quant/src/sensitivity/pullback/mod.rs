//! What an operation passes back: the cotangent of an operand from that of an output.
//!
//! Most operations are one of two maps, found once for a batch and applied to every pass: the output
//! is picked from the operand element by element ([`Local::Picked`]), or the operand's elements are
//! each in one element of the output ([`Local::Pooled`]). Only products need kernels of their own.

mod function;
mod island;
mod matmul;
mod normalized;
mod window;

use std::borrow::Cow;

use dual16_nash::tensor::TensorRef;
use ndarray::ArrayView2;

use self::{matmul::Factors, normalized::Normalized, window::Window};
use super::{analysis::Analysis, values::FloatValues};
use crate::{
    Error, Result,
    error::KernelContext,
    exec::ops_f32::{moved, operand as operand_of},
    graph::{Linear, Node, Op, ReduceKind},
    tensor::Tensor,
    ways::add_product,
};

/// The derivative of one output of a node by one operand, at the float run's values.
pub(super) enum Local<'v> {
    /// y[j] = f(x[source[j]]): `g_x[source[j]] += factor[j] * g_y[j]`.
    Picked {
        /// None where it is j.
        source: Option<Vec<u32>>,
        factor: Factor<'v>,
    },
    /// x[i] is in y[target[i]]: `g_x[i] += factor[i] * g_y[target[i]]`.
    Pooled {
        target: Vec<u32>,
        factor: Factor<'v>,
    },
    /// y = x W^T.
    Linear(&'v Linear),
    /// A LayerNorm without weight and bias.
    Normalized(Normalized),
    /// A factor of a product of two activations.
    MatMul(Factors<'v>),
    /// A convolution or an average over windows.
    Window(Window),
}

/// The derivative of an element.
pub(super) enum Factor<'v> {
    /// The same for all.
    All(f32),
    /// By element: of the output that is picked, of the operand that is pooled.
    Each(Cow<'v, [f32]>),
}

impl<'v> Local<'v> {
    /// Of output `place` of a node by operand `operand`; None where it is not known, or is 0
    /// everywhere.
    pub(super) fn of(
        analysis: &Analysis<'v>,
        values: &'v FloatValues,
        node: &'v Node,
        operand: usize,
        place: usize,
    ) -> Result<Option<Local<'v>>> {
        if let Op::Island(island) = &node.op {
            return island::local(analysis, values, node, island, operand, place);
        }
        let inputs = node
            .inputs
            .iter()
            .map(|&input| values.tensor(analysis, input))
            .collect::<Result<Vec<&Tensor>>>()?;
        let x = operand_of(node, &inputs, operand)?;
        let made = node.outputs.get(place).ok_or_else(|| Error::FloatRun {
            node: node.name.clone(),
            reason: format!("it has no output {place}"),
        })?;
        let y = values.tensor(analysis, *made)?;
        let picked = |source, factor| Local::Picked { source, factor };
        Ok(Some(match &node.op {
            Op::Linear(linear) => Local::Linear(linear),
            Op::MatMul => Local::MatMul(Factors::new(node, &inputs, operand, y)?),
            Op::Add => picked(broadcast(node, x, y)?, Factor::All(1.0)),
            Op::Sub => {
                let sign = if operand == 0 { 1.0 } else { -1.0 };
                picked(broadcast(node, x, y)?, Factor::All(sign))
            }
            Op::Mul => {
                let other = operand_of(node, &inputs, 1 - operand.min(1))?;
                let factor = Factor::Each(expanded(node, other, y)?);
                picked(broadcast(node, x, y)?, factor)
            }
            Op::Concat { axis } => Local::Pooled {
                target: concat_positions(node, *axis, &inputs, operand, y)?,
                factor: Factor::All(1.0),
            },
            Op::Reduce {
                kind,
                axes,
                keepdims,
            } => reduce(node, *kind, axes, *keepdims, x, y)?,
            Op::Dot { mean, axes, .. } => {
                let other = operand_of(node, &inputs, 1 - operand.min(1))?;
                let share = match mean {
                    true => y.len() as f32 / x.len().max(1) as f32,
                    false => 1.0,
                };
                let factor: Vec<f32> = other.iter().map(|&x| finite(x) * share).collect();
                Local::Pooled {
                    target: pooled(node, axes, x, y)?,
                    factor: Factor::Each(factor.into()),
                }
            }
            Op::Relu => {
                let slope = x.iter().map(|&x| if x > 0.0 { 1.0 } else { 0.0 });
                picked(None, Factor::Each(slope.collect()))
            }
            &Op::Clip { min, max } => {
                let slope = x
                    .iter()
                    .map(|&x| if x >= min && x <= max { 1.0 } else { 0.0 });
                picked(None, Factor::Each(slope.collect()))
            }
            // A staircase: on the whole it passes everything.
            Op::ToInt8 { .. } => picked(None, Factor::All(1.0)),
            &Op::LayerNormFp16 { axes, eps } => Local::Normalized(Normalized::new(x, y, axes, eps)),
            Op::Lut(function) => picked(None, Factor::Each(function::slopes(*function, x, y))),
            Op::Move(movement) => {
                let shapes = values.shapes(node);
                let indices = indices(node, x.len())?;
                let whole = TensorRef::new(&indices, x.shape()).of(&node.name)?;
                let moved = moved(node, movement, whole, &shapes)?
                    .into_iter()
                    .nth(place);
                picked(moved.map(|moved| moved.data), Factor::All(1.0))
            }
            Op::Island(_) => return Ok(None),
        }))
    }

    /// Adds what this passes back: `y` is `[lanes, elements of the output]`, `x` likewise of the
    /// operand.
    pub(super) fn pull(&self, lanes: usize, y: &[f32], x: &mut [f32]) {
        let (y_len, x_len) = (y.len() / lanes.max(1), x.len() / lanes.max(1));
        if y_len == 0 || x_len == 0 {
            return;
        }
        match self {
            Local::Linear(linear) => {
                let o = linear.weight.nrows();
                let y = ArrayView2::from_shape((y.len() / o.max(1), o), y);
                if let Ok(y) = y {
                    add_product(y, linear.weight.view(), x);
                }
            }
            _ => {
                let pairs = y.chunks_exact(y_len).zip(x.chunks_exact_mut(x_len));
                pairs.for_each(|(y, x)| self.pull_one(y, x));
            }
        }
    }

    fn pull_one(&self, y: &[f32], x: &mut [f32]) {
        match self {
            Local::Picked {
                source: None,
                factor,
            } => match factor {
                Factor::All(factor) => {
                    let pairs = x.iter_mut().zip(y);
                    pairs.for_each(|(x, y)| *x += factor * y);
                }
                Factor::Each(factors) => {
                    let pairs = x.iter_mut().zip(y).zip(factors.iter());
                    pairs.for_each(|((x, y), factor)| *x += factor * y);
                }
            },
            Local::Picked {
                source: Some(source),
                factor,
            } => {
                let mut add = |at: u32, g: f32| {
                    if let Some(x) = x.get_mut(at as usize) {
                        *x += g;
                    }
                };
                let pairs = source.iter().zip(y);
                match factor {
                    Factor::All(factor) => pairs.for_each(|(&at, y)| add(at, factor * y)),
                    Factor::Each(factors) => {
                        let pairs = pairs.zip(factors.iter());
                        pairs.for_each(|((&at, y), factor)| add(at, factor * y));
                    }
                }
            }
            Local::Pooled { target, factor } => {
                let of = |at: u32| y.get(at as usize).copied().unwrap_or_default();
                let pairs = x.iter_mut().zip(target);
                match factor {
                    Factor::All(factor) => pairs.for_each(|(x, &at)| *x += factor * of(at)),
                    Factor::Each(factors) => {
                        let pairs = pairs.zip(factors.iter());
                        pairs.for_each(|((x, &at), factor)| *x += factor * of(at));
                    }
                }
            }
            Local::Normalized(normalized) => normalized.pull(y, x),
            Local::MatMul(factors) => factors.pull(y, x),
            Local::Window(window) => window.pull(y, x),
            // All lanes at once.
            Local::Linear(_) => {}
        }
    }
}

/// By element of a broadcast result, which of the operand it is; None where it is the same.
fn broadcast(node: &Node, x: &Tensor, y: &Tensor) -> Result<Option<Vec<u32>>> {
    if x.shape() == y.shape() {
        return Ok(None);
    }
    let indices = indices(node, x.len())?;
    let whole = TensorRef::new(&indices, x.shape()).of(&node.name)?;
    let expanded = dual16_nash::moves::expand(whole, y.shape()).of(&node.name)?;
    Ok(Some(expanded.data))
}

/// An operand as a broadcast result has it; what is not finite, as a mask of -inf, passes nothing.
fn expanded<'v>(node: &Node, x: &'v Tensor, y: &Tensor) -> Result<Cow<'v, [f32]>> {
    let all_finite = x.iter().all(|x| x.is_finite());
    if let (true, true, Some(elements)) = (all_finite, x.shape() == y.shape(), x.as_slice()) {
        return Ok(Cow::Borrowed(elements));
    }
    let elements: Vec<f32> = x.iter().map(|&x| finite(x)).collect();
    let whole = TensorRef::new(&elements, x.shape()).of(&node.name)?;
    let expanded = dual16_nash::moves::expand(whole, y.shape()).of(&node.name)?;
    Ok(Cow::Owned(expanded.data))
}

/// Where the elements of a part lie in the whole.
fn concat_positions(
    node: &Node,
    axis: usize,
    inputs: &[&Tensor],
    operand: usize,
    y: &Tensor,
) -> Result<Vec<u32>> {
    let length = |x: &&Tensor| x.shape().get(axis).copied().unwrap_or_default();
    let lengths: Vec<usize> = inputs.iter().map(length).collect();
    let indices = indices(node, y.len())?;
    let whole = TensorRef::new(&indices, y.shape()).of(&node.name)?;
    let parts = dual16_nash::moves::split(whole, axis as i64, &lengths).of(&node.name)?;
    let part = parts.into_iter().nth(operand);
    Ok(part.map(|part| part.data).unwrap_or_default())
}

fn reduce<'v>(
    node: &Node,
    kind: ReduceKind,
    axes: &[usize],
    keepdims: bool,
    x: &Tensor,
    y: &Tensor,
) -> Result<Local<'v>> {
    if kind == ReduceKind::Max {
        let axes: Vec<i64> = axes.iter().map(|&axis| axis as i64).collect();
        let indices = indices(node, x.len())?;
        // To the first maximum.
        let x = x.as_standard_layout();
        let elements: Vec<(f32, u32)> = x.iter().copied().zip(indices).collect();
        let whole = TensorRef::new(&elements, x.shape()).of(&node.name)?;
        let first = |best: Option<(f32, u32)>, next: (f32, u32)| match best {
            Some(best) if best.0 >= next.0 => Some(best),
            _ => Some(next),
        };
        let best = dual16_nash::reduce::fold(whole, &axes, keepdims, None, first).of(&node.name)?;
        let source = best.data.into_iter();
        let source = source.map(|best| best.map_or(u32::MAX, |(_, index)| index));
        return Ok(Local::Picked {
            source: Some(source.collect()),
            factor: Factor::All(1.0),
        });
    }
    let share = match kind {
        ReduceKind::Mean => y.len() as f32 / x.len().max(1) as f32,
        _ => 1.0,
    };
    Ok(Local::Pooled {
        target: pooled(node, axes, x, y)?,
        factor: Factor::All(share),
    })
}

/// Which element of a reduction each of its operand is in: the result's indices, broadcast back over the
/// axes that are gone; no axes are all of them.
fn pooled(node: &Node, axes: &[usize], x: &Tensor, y: &Tensor) -> Result<Vec<u32>> {
    let kept: Vec<usize> = x
        .shape()
        .iter()
        .enumerate()
        .map(
            |(axis, &length)| match axes.is_empty() || axes.contains(&axis) {
                true => 1,
                false => length,
            },
        )
        .collect();
    let results = indices(node, y.len())?;
    let whole = TensorRef::new(&results, &kept).of(&node.name)?;
    let target = dual16_nash::moves::expand(whole, x.shape()).of(&node.name)?;
    Ok(target.data)
}

/// 0, 1, … of a tensor's elements.
fn indices(node: &Node, count: usize) -> Result<Vec<u32>> {
    let count = u32::try_from(count).map_err(|_| Error::FloatRun {
        node: node.name.clone(),
        reason: format!("{count} elements are more than an estimate can count"),
    })?;
    Ok((0..count).collect())
}

fn finite(x: f32) -> f32 {
    if x.is_finite() { x } else { 0.0 }
}
