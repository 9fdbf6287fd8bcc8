//! Every operation of a [`Graph`](crate::graph::Graph) in f32, for VALIDATION and for the inner
//! values that CALIBRATION computes. Shapes and broadcasting are nash's own.

use dual16_nash::{
    elementwise::map_binary,
    linear::GemmShape,
    moves::{self, AxisSlice},
    reduce::{reduce_dot_f32, reduce_max, reduce_mean_f32, reduce_sum_f32, reduced_count},
    tensor::{Tensor as Raw, TensorRef},
};
use ndarray::{ArrayView2, IxDyn};

use crate::ways::gemm_f32_on;
use crate::{
    Error, Result,
    error::KernelContext,
    graph::{Move, Node, Op, ReduceKind},
    tensor::Tensor,
};

/// Runs a node that is neither an island nor a quantized Linear. `shapes` are those of its outputs
/// in the float run.
pub(crate) fn run(
    node: &Node,
    inputs: &[&Tensor],
    shapes: &[Option<&[usize]>],
) -> Result<Vec<Tensor>> {
    let views = Views::new(inputs);
    let inputs = views.all(node)?;
    let one = |tensor: Raw<f32>| from_raw(node, tensor).map(|tensor| vec![tensor]);
    match &node.op {
        Op::Linear(linear) => {
            let x = operand(node, &inputs, 0)?;
            let (o, k) = linear.weight.dim();
            let shape = GemmShape {
                n: x.data().len() / k.max(1),
                k,
                o,
            };
            let mut y = gemm_f32_on(x.data(), linear.weight.view(), shape);
            if let Some(bias) = &linear.bias {
                for row in y.chunks_exact_mut(o.max(1)) {
                    row.iter_mut().zip(bias.iter()).for_each(|(y, b)| *y += b);
                }
            }
            let mut dims = x.shape().to_vec();
            if let Some(last) = dims.last_mut() {
                *last = o;
            }
            one(Raw::new(y, dims).of(&node.name)?)
        }
        Op::MatMul => one(matmul(
            node,
            operand(node, &inputs, 0)?,
            operand(node, &inputs, 1)?,
        )?),
        Op::Dot {
            mean,
            axes,
            keepdims,
        } => {
            let (a, b) = (operand(node, &inputs, 0)?, operand(node, &inputs, 1)?);
            let axes: Vec<i64> = axes.iter().map(|&axis| axis as i64).collect();
            let divisor = match mean {
                true => reduced_count(a.shape(), &axes).of(&node.name)?.max(1),
                false => 1,
            };
            one(reduce_dot_f32(a, b, &axes, *keepdims, divisor as f64).of(&node.name)?)
        }
        Op::Add => one(binary(node, &inputs, |a, b| a + b)?),
        Op::Sub => one(binary(node, &inputs, |a, b| a - b)?),
        Op::Mul => one(binary(node, &inputs, |a, b| a * b)?),
        Op::Concat { axis } => one(moves::concat(&inputs, *axis as i64).of(&node.name)?),
        Op::Reduce {
            kind,
            axes,
            keepdims,
        } => {
            let x = operand(node, &inputs, 0)?;
            let axes: Vec<i64> = axes.iter().map(|&axis| axis as i64).collect();
            let reduced = match kind {
                ReduceKind::Sum => reduce_sum_f32(x, &axes, *keepdims),
                ReduceKind::Mean => reduce_mean_f32(x, &axes, *keepdims),
                ReduceKind::Max => reduce_max(x, &axes, *keepdims),
            };
            one(reduced.of(&node.name)?)
        }
        Op::Relu => one(map(operand(node, &inputs, 0)?, |x| x.max(0.0))),
        &Op::Clip { min, max } => one(map(operand(node, &inputs, 0)?, |x| x.max(min).min(max))),
        &Op::ToInt8 { step } => one(map(operand(node, &inputs, 0)?, |x| {
            (x / step).round().clamp(-128.0, 127.0) * step
        })),
        &Op::LayerNormFp16 { axes, eps } => {
            let x = operand(node, &inputs, 0)?;
            one(Raw {
                data: normalized(x.data(), row_length(x.shape(), axes), eps),
                shape: x.shape().to_vec(),
            })
        }
        Op::Lut(function) => one(map(operand(node, &inputs, 0)?, |x| function.eval_f32(x))),
        Op::Move(movement) => {
            let moved = moved(node, movement, operand(node, &inputs, 0)?, shapes)?;
            moved
                .into_iter()
                .map(|tensor| from_raw(node, tensor))
                .collect()
        }
        Op::Island(island) => Err(Error::FloatRun {
            node: node.name.clone(),
            reason: format!("{} has no kernel of its own", island.op_type),
        }),
    }
}

/// Moves elements of any type.
pub(crate) fn moved<T: Copy>(
    node: &Node,
    movement: &Move,
    x: TensorRef<'_, T>,
    shapes: &[Option<&[usize]>],
) -> Result<Vec<Raw<T>>> {
    let name = node.name.as_str();
    let float_shape = || {
        shapes
            .first()
            .copied()
            .flatten()
            .ok_or_else(|| Error::FloatRun {
                node: node.name.clone(),
                reason: "the float run did not give its output's shape".to_owned(),
            })
    };
    let one = match movement {
        Move::Reshape => Raw::new(x.data().to_vec(), float_shape()?.to_vec()).of(name)?,
        Move::Unsqueeze { axis } => {
            let mut shape = x.shape().to_vec();
            shape.insert((*axis).min(shape.len()), 1);
            Raw::new(x.data().to_vec(), shape).of(name)?
        }
        Move::Transpose { perm } => moves::transpose(x, perm).of(name)?,
        Move::Slice {
            axes,
            starts,
            ends,
            steps,
        } => {
            let bounds = axes.iter().zip(starts).zip(ends).zip(steps);
            let slices: Vec<AxisSlice> = bounds
                .map(|(((&axis, &start), &end), &step)| AxisSlice {
                    axis: axis as i64,
                    start,
                    end,
                    step,
                })
                .collect();
            moves::slice(x, &slices).of(name)?
        }
        Move::Gather {
            axis,
            indices,
            shape,
        } => {
            let indices = TensorRef::new(indices, shape).of(name)?;
            moves::gather(x, indices, *axis as i64).of(name)?
        }
        Move::Expand => moves::expand(x, float_shape()?).of(name)?,
        Move::Split { axis, parts } => {
            let length = x.shape().get(*axis).copied().unwrap_or_default();
            let lengths = parts.of(length).ok_or_else(|| Error::FloatRun {
                node: node.name.clone(),
                reason: format!("an axis of length {length} cannot be cut into {parts:?}"),
            })?;
            return moves::split(x, *axis as i64, &lengths).of(name);
        }
    };
    Ok(vec![one])
}

/// Elements of the last axes.
pub(super) fn row_length(shape: &[usize], axes: usize) -> usize {
    shape.iter().rev().take(axes).product::<usize>().max(1)
}

/// (x - mean) / sqrt(var + eps) of each row, in f64 and rounded once.
fn normalized(x: &[f32], width: usize, eps: f64) -> Vec<f32> {
    let row = |row: &[f32]| {
        let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / width as f64;
        let average = mean(&mut row.iter().map(|&x| f64::from(x)));
        let centred: Vec<f64> = row.iter().map(|&x| f64::from(x) - average).collect();
        let variance = mean(&mut centred.iter().map(|c| c * c));
        let deviation = (variance + eps).sqrt();
        centred.into_iter().map(move |c| (c / deviation) as f32)
    };
    x.chunks_exact(width).flat_map(row).collect()
}

/// Product of two activations, batched as numpy does: `[.., M, K] * [.., K, N]`.
fn matmul(node: &Node, a: TensorRef<'_, f32>, b: TensorRef<'_, f32>) -> Result<Raw<f32>> {
    batched_matmul(node, a, b, |a, b, shape, out: &mut Vec<f32>| {
        let b = ArrayView2::from_shape((shape.k, shape.o), b);
        let b = b.map_err(|error| Error::FloatRun {
            node: node.name.clone(),
            reason: error.to_string(),
        })?;
        out.extend(gemm_f32_on(a, b.t(), shape));
        Ok(())
    })
}

/// Walks the broadcast batch axes of a product and lets `one` append each matrix.
pub(crate) fn batched_matmul<A: Copy, B: Copy, Y>(
    node: &Node,
    a: TensorRef<'_, A>,
    b: TensorRef<'_, B>,
    mut one: impl FnMut(&[A], &[B], GemmShape, &mut Vec<Y>) -> Result<()>,
) -> Result<Raw<Y>> {
    let misfit = || Error::FloatRun {
        node: node.name.clone(),
        reason: format!(
            "shapes {:?} and {:?} have no matrix product",
            a.shape(),
            b.shape()
        ),
    };
    let (&[ref a_batch @ .., n, k], &[ref b_batch @ .., inner, o]) = (a.shape(), b.shape()) else {
        return Err(misfit());
    };
    if inner != k {
        return Err(misfit());
    }
    // The index of every matrix, broadcast like any pair of tensors.
    let count = |batch: &[usize]| batch.iter().product::<usize>();
    let a_index: Vec<usize> = (0..count(a_batch)).collect();
    let b_index: Vec<usize> = (0..count(b_batch)).collect();
    let pairs = map_binary(
        TensorRef::new(&a_index, a_batch).of(&node.name)?,
        TensorRef::new(&b_index, b_batch).of(&node.name)?,
        |a, b| (a, b),
    )
    .of(&node.name)?;
    let shape = GemmShape { n, k, o };
    let mut data = Vec::with_capacity(pairs.data.len() * n * o);
    for (i, j) in pairs.data {
        let a = a
            .data()
            .get(i * n * k..(i + 1) * n * k)
            .ok_or_else(misfit)?;
        let b = b
            .data()
            .get(j * k * o..(j + 1) * k * o)
            .ok_or_else(misfit)?;
        one(a, b, shape, &mut data)?;
    }
    let mut dims = pairs.shape;
    dims.extend([n, o]);
    Raw::new(data, dims).of(&node.name)
}

fn binary(
    node: &Node,
    inputs: &[TensorRef<'_, f32>],
    f: impl FnMut(f32, f32) -> f32,
) -> Result<Raw<f32>> {
    map_binary(operand(node, inputs, 0)?, operand(node, inputs, 1)?, f).of(&node.name)
}

fn map(x: TensorRef<'_, f32>, f: impl Fn(f32) -> f32) -> Raw<f32> {
    Raw {
        data: x.data().iter().map(|&x| f(x)).collect(),
        shape: x.shape().to_vec(),
    }
}

/// An operand, or an error that names the node that lacks it.
pub(crate) fn operand<T: Copy>(node: &Node, inputs: &[T], index: usize) -> Result<T> {
    inputs.get(index).copied().ok_or_else(|| Error::FloatRun {
        node: node.name.clone(),
        reason: format!("operand {index} is missing"),
    })
}

fn from_raw(node: &Node, raw: Raw<f32>) -> Result<Tensor> {
    Tensor::from_shape_vec(IxDyn(&raw.shape), raw.data).map_err(|error| Error::FloatRun {
        node: node.name.clone(),
        reason: error.to_string(),
    })
}

/// Tensors in standard layout, as nash reads them; a copy only where a layout is not standard.
struct Views<'a>(Vec<ndarray::CowArray<'a, f32, IxDyn>>);

impl<'a> Views<'a> {
    fn new(inputs: &[&'a Tensor]) -> Self {
        Views(
            inputs
                .iter()
                .map(|tensor| tensor.as_standard_layout())
                .collect(),
        )
    }

    fn all(&self, node: &Node) -> Result<Vec<TensorRef<'_, f32>>> {
        let mut views = Vec::with_capacity(self.0.len());
        for tensor in &self.0 {
            views.push(
                TensorRef::new(tensor.as_slice().unwrap_or_default(), tensor.shape())
                    .of(&node.name)?,
            );
        }
        Ok(views)
    }
}
