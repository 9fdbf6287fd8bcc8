//! Products of two activations, backwards.

use dual16_nash::{elementwise::map_binary, tensor::TensorRef};
use ndarray::{ArrayView2, CowArray, IxDyn};

use crate::{
    Error, Result, error::KernelContext, exec::ops_f32::operand as operand_of, graph::Node,
    tensor::Tensor, ways::add_product,
};

/// One factor's derivative: y = a b, batched as numpy does.
pub(in crate::sensitivity) struct Factors<'v> {
    /// The other factor.
    other: CowArray<'v, f32, IxDyn>,
    /// Whether the derivative is by the first factor.
    by_first: bool,
    /// Pairs of matrices, in the order of the output.
    pairs: Vec<(usize, usize)>,
    /// M, K and N of `[M, K] * [K, N]`.
    sizes: [usize; 3],
}

impl<'v> Factors<'v> {
    pub(super) fn new(
        node: &Node,
        inputs: &[&'v Tensor],
        operand: usize,
        y: &Tensor,
    ) -> Result<Self> {
        let (a, b) = (operand_of(node, inputs, 0)?, operand_of(node, inputs, 1)?);
        let (&[ref a_batch @ .., m, k], &[ref b_batch @ .., _, n]) = (a.shape(), b.shape()) else {
            return Err(Error::FloatRun {
                node: node.name.clone(),
                reason: format!("a product that gives {:?} has no matrices", y.shape()),
            });
        };
        let numbers = |batch: &[usize]| (0..batch.iter().product()).collect::<Vec<usize>>();
        let (a_numbers, b_numbers) = (numbers(a_batch), numbers(b_batch));
        let pairs = map_binary(
            TensorRef::new(&a_numbers, a_batch).of(&node.name)?,
            TensorRef::new(&b_numbers, b_batch).of(&node.name)?,
            |a, b| (a, b),
        );
        let by_first = operand == 0;
        Ok(Factors {
            other: if by_first { b } else { a }.as_standard_layout(),
            by_first,
            pairs: pairs.of(&node.name)?.data,
            sizes: [m, k, n],
        })
    }

    /// `g_a += g_y b^T`, or `g_b += a^T g_y`.
    pub(super) fn pull(&self, y: &[f32], x: &mut [f32]) {
        let [m, k, n] = self.sizes;
        let other = self.other.as_slice().unwrap_or_default();
        let own = if self.by_first { m * k } else { k * n };
        let others = if self.by_first { k * n } else { m * k };
        for (&(a, b), y) in self.pairs.iter().zip(y.chunks_exact((m * n).max(1))) {
            let (at, of) = if self.by_first { (a, b) } else { (b, a) };
            let (Some(x), Some(other)) = (
                x.get_mut(at * own..(at + 1) * own),
                other.get(of * others..(of + 1) * others),
            ) else {
                continue;
            };
            let y = ArrayView2::from_shape((m, n), y);
            if self.by_first {
                let other = ArrayView2::from_shape((k, n), other);
                if let (Ok(y), Ok(other)) = (y, other) {
                    add_product(y, other.reversed_axes(), x);
                }
            } else {
                let other = ArrayView2::from_shape((m, k), other);
                if let (Ok(y), Ok(other)) = (y, other) {
                    add_product(other.reversed_axes(), y, x);
                }
            }
        }
    }
}
