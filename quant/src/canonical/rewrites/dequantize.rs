//! DequantizeLinear of a constant, folded: (q - zero point) * scale, for the whole tensor, along an
//! axis or in blocks along it (ONNX, DequantizeLinear-21).

use ndarray::{ArrayD, IxDyn};

use super::{Node, Rewritten};
use crate::{
    canonical::{
        decode::narrowed,
        known::{Known, counted},
        refusal::Refusal,
        replacement::Replacement,
    },
    onnx::{DataType, f32_initializer},
    tensor::Tensor,
};

pub(super) fn rewrite(known: &Known<'_>, node: &Node<'_>) -> Rewritten {
    if node.op() != "DequantizeLinear" {
        return Ok(None);
    }
    let (x, scale) = (node.needs(0)?, node.needs(1)?);
    let zero_point = node.input(2);
    let constant = [Some(x), Some(scale), zero_point]
        .into_iter()
        .flatten()
        .all(|name| known.is_constant(name));
    if !constant {
        return Ok(None);
    }
    let numbers = |name: &str| {
        let tensor = known.tensor(name)?;
        known.read(tensor, |tensor, at| match tensor.is_float() {
            true => tensor.to_f32(at),
            false => tensor.to_i64(at).map(|x| x.mapv(|x| x as f32)),
        })
    };
    let missing = |name: &str| Refusal::new(format!("the elements of '{name}' cannot be read"));
    let q = numbers(x).ok_or_else(|| missing(x))?;
    let scale = numbers(scale).ok_or_else(|| missing(scale))?;
    let zero = match zero_point {
        Some(name) => Some(numbers(name).ok_or_else(|| missing(name))?),
        None => None,
    };
    let made = made(known, node);
    let axis = counted(node.int("axis").unwrap_or(1), q.ndim());
    let block = node.int("block_size").unwrap_or(0);
    let place = Place::of(&q, &scale, axis, block)?;
    let mut y = Tensor::zeros(q.raw_dim());
    for (index, &q) in q.indexed_iter() {
        let at = place.of_element(ndarray::Dimension::slice(&index));
        let (Some(scale), zero) = (
            scale.get(IxDyn(&at)),
            zero.as_ref().map(|zero| zero.get(IxDyn(&at))),
        ) else {
            return Err(place.misfit());
        };
        let zero = match zero {
            Some(zero) => *zero.ok_or_else(|| place.misfit())?,
            None => 0.0,
        };
        let exact = (q - zero) * scale;
        y[&index] = narrowed(exact, made, true).unwrap_or(exact);
    }
    let mut new = Replacement::of(node.proto);
    let folded = new.constant_of(x, f32_initializer("", y.view()));
    Ok(Some(new.last("Identity", &[&folded])))
}

/// Type of what a DequantizeLinear makes: what it says, or that of its scale.
pub(super) fn made(known: &Known<'_>, node: &Node<'_>) -> DataType {
    let stated = node
        .int("output_dtype")
        .and_then(|elem| DataType::try_from(elem as i32).ok())
        .filter(|&elem| elem != DataType::Undefined);
    stated.unwrap_or_else(|| known.elem(node.input(1).unwrap_or_default()))
}

/// Which scale an element has.
enum Place {
    Whole(usize),
    Axis(usize),
    Block(usize, usize),
}

impl Place {
    fn of(
        q: &ArrayD<f32>,
        scale: &Tensor,
        axis: Option<usize>,
        block: i64,
    ) -> Result<Place, Refusal> {
        match (scale.len(), axis, usize::try_from(block)) {
            (1, _, _) if scale.ndim() < 2 || q.ndim() < 2 => Ok(Place::Whole(scale.ndim())),
            (_, Some(axis), Ok(block)) if block > 0 && scale.ndim() == q.ndim() => {
                Ok(Place::Block(axis, block))
            }
            (length, Some(axis), _)
                if scale.ndim() == 1 && q.shape().get(axis) == Some(&length) =>
            {
                Ok(Place::Axis(axis))
            }
            _ => Err(Place::Whole(0).misfit()),
        }
    }

    fn of_element(&self, index: &[usize]) -> Vec<usize> {
        match *self {
            Place::Whole(rank) => vec![0; rank],
            Place::Axis(axis) => vec![index[axis]],
            Place::Block(axis, block) => {
                let mut at = index.to_vec();
                at[axis] /= block;
                at
            }
        }
    }

    fn misfit(&self) -> Refusal {
        Refusal::new("its scale or zero point does not fit its input, axis and block_size")
    }
}
