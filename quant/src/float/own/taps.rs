//! The windows of a node written out, for whoever goes through a convolution or a pool backwards.

use super::{
    call::Call,
    windows::{Windows, unravel},
};
use crate::model::OnnxNode;

/// Elements that taps may be of, at most: what a plane, a kernel and their windows are counted in.
const MOST: usize = u32::MAX as usize;

/// One product of a window: which element of the output it is part of, of the kernel and of the
/// input, each in row-major order over the spatial axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tap {
    pub(crate) output: u32,
    pub(crate) kernel: u32,
    pub(crate) input: u32,
}

/// Every window of one plane of the input.
#[derive(Debug)]
pub(crate) struct Taps {
    /// Spatial axes of the output.
    pub(crate) output: Vec<usize>,
    /// In the order of the output, then of the kernel; padding has none.
    pub(crate) taps: Vec<Tap>,
    /// By element of the output: how many elements of its window lie on the input or its stated
    /// padding.
    pub(crate) counted: Vec<usize>,
}

impl Taps {
    /// The windows that a node states over an input and with a kernel of these spatial axes; None
    /// where they do not fit.
    pub(crate) fn of(node: &OnnxNode, input: &[usize], kernel: &[usize]) -> Option<Taps> {
        let call = Call {
            node,
            operands: &[],
        };
        let windows = Windows::of(&call, input, kernel).ok()?;
        let sizes = [input, kernel, &windows.output];
        if sizes
            .iter()
            .any(|size| size.iter().product::<usize>() > MOST)
        {
            return None;
        }
        let count = windows.output.iter().product();
        let mut taps = Vec::new();
        let mut counted = Vec::with_capacity(count);
        let mut place = vec![0; kernel.len()];
        for number in 0..count {
            unravel(number, &windows.output, &mut place);
            windows.each(&place, |of_kernel, at| {
                taps.extend(at.map(|at| Tap {
                    output: number as u32,
                    kernel: of_kernel as u32,
                    input: at as u32,
                }));
            });
            counted.push(windows.counted(&place));
        }
        Some(Taps {
            output: windows.output,
            taps,
            counted,
        })
    }
}
