//! Every operation of a [`Graph`](crate::graph::Graph) in integers. Operands are widened to int16,
//! which holds both dtypes; results are made in the output's dtype at once.

use dual16_nash::{
    decompose,
    dtype::{IntDtype, QInt},
    elementwise,
    linear::{AccumulatorPeak, RightOperand, matmul, matmul_acc},
    lut::Lut,
    moves,
    reduce::{reduce_dot, reduce_max, reduce_sum, reduced_count},
    requant::Rescale,
    scale::Scale,
    tensor::{Tensor as Raw, TensorRef},
};
use ndarray::IxDyn;

use super::ops_f32::{batched_matmul, moved, operand, row_length};
use crate::{
    Error, Result,
    error::KernelContext,
    graph::{Node, Op, ReduceKind},
    plan::QParams,
    qtensor::{QData, QTensor, each_dtype},
    tensor::Tensor,
};

/// An operand: widened elements, shape, scale.
struct Operand<'a> {
    data: std::borrow::Cow<'a, [i16]>,
    shape: &'a [usize],
    scale: Scale,
}

impl Operand<'_> {
    fn view(&self, node: &Node) -> Result<TensorRef<'_, i16>> {
        TensorRef::new(&self.data, self.shape).of(&node.name)
    }
}

/// Runs an operation whose output has a scale of its own; every one but moves, maxima, tables and
/// Linears.
pub(super) fn arithmetic(
    node: &Node,
    inputs: &[&QTensor],
    output: QParams,
    peak: &mut AccumulatorPeak,
) -> Result<QTensor> {
    let scale = Scale::new(output.scale).of(&node.name)?;
    let (data, shape) = match output.dtype {
        IntDtype::Int8 => {
            let raw = compute::<i8>(node, inputs, scale, peak)?;
            (QData::I8(raw.data), raw.shape)
        }
        IntDtype::Int16 => {
            let raw = compute::<i16>(node, inputs, scale, peak)?;
            (QData::I16(raw.data), raw.shape)
        }
    };
    Ok(QTensor { data, shape, scale })
}

fn compute<Y: QInt>(
    node: &Node,
    inputs: &[&QTensor],
    to: Scale,
    peak: &mut AccumulatorPeak,
) -> Result<Raw<Y>> {
    let name = node.name.as_str();
    let operands: Vec<Operand<'_>> = inputs
        .iter()
        .map(|x| Operand {
            data: x.to_i16(),
            shape: &x.shape,
            scale: x.scale,
        })
        .collect();
    let get = |index: usize| operands.get(index).ok_or_else(|| missing(node, index));
    let between = |x: &Operand<'_>| Rescale::between(x.scale, to);
    match &node.op {
        Op::Add => {
            let (a, b) = (get(0)?, get(1)?);
            elementwise::add(a.view(node)?, between(a), b.view(node)?, between(b)).of(name)
        }
        Op::Sub => {
            let (a, b) = (get(0)?, get(1)?);
            elementwise::sub(a.view(node)?, between(a), b.view(node)?, between(b)).of(name)
        }
        Op::Mul => {
            let (a, b) = (get(0)?, get(1)?);
            let rescale = Rescale::of_product(a.scale, b.scale, to);
            elementwise::mul(a.view(node)?, b.view(node)?, rescale).of(name)
        }
        Op::Relu => {
            let x = get(0)?;
            let mut data = vec![Y::default(); x.data.len()];
            elementwise::relu(&x.data, Some(between(x)), &mut data).of(name)?;
            Ok(Raw {
                shape: x.shape.to_vec(),
                data,
            })
        }
        &Op::Clip { min, max } => {
            let x = get(0)?;
            let mut data = vec![Y::default(); x.data.len()];
            elementwise::rescale_to(&x.data, between(x), &mut data).of(name)?;
            let nearest = |bound: f32| (f64::from(bound) / to.to_f64()).round() as i64;
            let (least, most) = (Y::saturate(nearest(min)), Y::saturate(nearest(max)));
            for y in &mut data {
                *y = (*y).max(least).min(most);
            }
            Ok(Raw {
                shape: x.shape.to_vec(),
                data,
            })
        }
        Op::ToInt8 { .. } => {
            let x = get(0)?;
            let mut data = vec![Y::default(); x.data.len()];
            elementwise::rescale_to(&x.data, between(x), &mut data).of(name)?;
            Ok(Raw {
                shape: x.shape.to_vec(),
                data,
            })
        }
        Op::Concat { axis } => {
            let mut parts = Vec::with_capacity(operands.len());
            for x in &operands {
                parts.push((x.view(node)?, between(x)));
            }
            moves::concat_rescaled(&parts, *axis as i64).of(name)
        }
        Op::Reduce {
            kind,
            axes,
            keepdims,
        } => {
            let x = get(0)?;
            let axes: Vec<i64> = axes.iter().map(|&axis| axis as i64).collect();
            let rescale = match kind {
                ReduceKind::Mean => {
                    let count = reduced_count(x.shape, &axes).of(name)?.max(1);
                    Rescale::of_mean(x.scale, count, to)
                }
                ReduceKind::Sum | ReduceKind::Max => between(x),
            };
            reduce_sum(x.view(node)?, &axes, *keepdims, rescale).of(name)
        }
        Op::MatMul => {
            let (a, b) = (get(0)?, get(1)?);
            let rescale = Rescale::of_product(a.scale, b.scale, to);
            batched_matmul(node, a.view(node)?, b.view(node)?, |a, b, shape, out| {
                let mut y = vec![Y::default(); shape.n * shape.o];
                let own = matmul(a, b, RightOperand::KByO, shape, rescale, &mut y).of(name)?;
                *peak = peak.merge(own);
                out.extend(y);
                Ok(())
            })
        }
        Op::Dot {
            mean,
            axes,
            keepdims,
        } => {
            let (a, b) = (get(0)?, get(1)?);
            let axes: Vec<i64> = axes.iter().map(|&axis| axis as i64).collect();
            let count = match mean {
                true => reduced_count(a.shape, &axes).of(name)?.max(1),
                false => 1,
            };
            let rescale = Rescale::of_dot(a.scale, b.scale, count, to);
            let (y, own) =
                reduce_dot(a.view(node)?, b.view(node)?, &axes, *keepdims, rescale).of(name)?;
            *peak = peak.merge(own);
            Ok(y)
        }
        Op::Linear(_) | Op::LayerNormFp16 { .. } | Op::Lut(_) | Op::Move(_) | Op::Island(_) => {
            Err(Error::FloatRun {
                node: node.name.clone(),
                reason: "it is no plain integer operation".to_owned(),
            })
        }
    }
}

/// MatMul with a high-precision output.
pub(super) fn matmul_high_precision(
    node: &Node,
    inputs: &[&QTensor],
    peak: &mut AccumulatorPeak,
) -> Result<Tensor> {
    let name = node.name.as_str();
    let (a, b) = (operand(node, inputs, 0)?, operand(node, inputs, 1)?);
    let step = a.scale.to_f64() * b.scale.to_f64();
    let (a_data, b_data) = (a.to_i16(), b.to_i16());
    let (a_view, b_view) = (
        TensorRef::new(&a_data, &a.shape).of(name)?,
        TensorRef::new(&b_data, &b.shape).of(name)?,
    );
    let raw = batched_matmul(node, a_view, b_view, |a, b, shape, out| {
        let mut acc = vec![0i64; shape.n * shape.o];
        let own = matmul_acc(a, b, RightOperand::KByO, shape, &mut acc).of(name)?;
        *peak = peak.merge(own);
        out.extend(acc.iter().map(|&acc| (acc as f64 * step) as f32));
        Ok(())
    })?;
    Tensor::from_shape_vec(IxDyn(&raw.shape), raw.data).map_err(|error| Error::FloatRun {
        node: node.name.clone(),
        reason: error.to_string(),
    })
}

/// A LayerNorm in fp16, in floats.
pub(super) fn layer_norm_fp16(
    node: &Node,
    x: &QTensor,
    (axes, eps): (usize, f64),
) -> Result<Tensor> {
    let x = x.dequantize();
    let mut y = Tensor::zeros(x.raw_dim());
    let width = row_length(x.shape(), axes);
    if let (Some(x), Some(y)) = (x.as_slice(), y.as_slice_mut()) {
        decompose::layer_norm_fp16(x, width, eps, y).of(&node.name)?;
    }
    Ok(y)
}

/// A table.
pub(super) fn look_up(node: &Node, x: &QTensor, table: &Lut, output: QParams) -> Result<QTensor> {
    let scale = Scale::new(output.scale).of(&node.name)?;
    let data = each_dtype!(&x.data, q => match output.dtype {
        IntDtype::Int8 => {
            let mut y = vec![0i8; q.len()];
            table.apply(q, &mut y).of(&node.name)?;
            QData::I8(y)
        }
        IntDtype::Int16 => {
            let mut y = vec![0i16; q.len()];
            table.apply(q, &mut y).of(&node.name)?;
            QData::I16(y)
        }
    });
    Ok(QTensor {
        data,
        shape: x.shape.clone(),
        scale,
    })
}

/// A move or a maximum: the scale is kept.
pub(super) fn keep_scale(
    node: &Node,
    x: &QTensor,
    shapes: &[Option<&[usize]>],
) -> Result<Vec<QTensor>> {
    let tensor = |data: QData, shape: Vec<usize>| QTensor {
        data,
        shape,
        scale: x.scale,
    };
    match &x.data {
        QData::I8(data) => {
            let parts = kept(node, TensorRef::new(data, &x.shape).of(&node.name)?, shapes)?;
            Ok(parts
                .into_iter()
                .map(|raw| tensor(QData::I8(raw.data), raw.shape))
                .collect())
        }
        QData::I16(data) => {
            let parts = kept(node, TensorRef::new(data, &x.shape).of(&node.name)?, shapes)?;
            Ok(parts
                .into_iter()
                .map(|raw| tensor(QData::I16(raw.data), raw.shape))
                .collect())
        }
    }
}

fn kept<T: QInt>(
    node: &Node,
    x: TensorRef<'_, T>,
    shapes: &[Option<&[usize]>],
) -> Result<Vec<Raw<T>>> {
    match &node.op {
        Op::Move(movement) => moved(node, movement, x, shapes),
        Op::Reduce {
            kind: ReduceKind::Max,
            axes,
            keepdims,
        } => {
            let axes: Vec<i64> = axes.iter().map(|&axis| axis as i64).collect();
            reduce_max(x, &axes, *keepdims)
                .of(&node.name)
                .map(|raw| vec![raw])
        }
        _ => Err(Error::FloatRun {
            node: node.name.clone(),
            reason: "it does not keep its input's scale".to_owned(),
        }),
    }
}

fn missing(node: &Node, index: usize) -> Error {
    Error::FloatRun {
        node: node.name.clone(),
        reason: format!("operand {index} is missing"),
    }
}
