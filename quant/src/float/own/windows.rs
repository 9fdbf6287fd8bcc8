//! Windows over any number of spatial axes: which elements each takes.

use super::call::Call;

/// How windows lie on an input `[batch, channels, spatial..]`.
pub(super) struct Windows {
    pub(super) input: Vec<usize>,
    pub(super) kernel: Vec<usize>,
    pub(super) strides: Vec<usize>,
    pub(super) dilations: Vec<usize>,
    /// Before each axis.
    pub(super) before: Vec<usize>,
    /// After each axis.
    pub(super) after: Vec<usize>,
    pub(super) output: Vec<usize>,
}

impl Windows {
    /// Those that a node states.
    pub(super) fn of(
        call: &Call<'_>,
        input: &[usize],
        kernel: &[usize],
    ) -> Result<Windows, String> {
        let rank = kernel.len();
        if input.len() != rank || rank == 0 {
            return Err(format!(
                "windows {kernel:?} do not fit an input of spatial axes {input:?}"
            ));
        }
        let strides = call.sizes("strides", rank, 1)?;
        let dilations = call.sizes("dilations", rank, 1)?;
        let mut pads = call.sizes("pads", 2 * rank, 0)?;
        let positive = |sizes: &[usize]| sizes.iter().all(|&size| size > 0);
        if !positive(kernel) || !positive(&strides) || !positive(&dilations) {
            return Err("its windows are empty".to_owned());
        }
        let auto = call.text("auto_pad", "NOTSET");
        if auto.starts_with("SAME") {
            for axis in 0..rank {
                let extent = (kernel[axis] - 1) * dilations[axis] + 1;
                let last = input[axis].saturating_sub(1) / strides[axis] * strides[axis];
                let total = (last + extent).saturating_sub(input[axis]);
                let half = total / 2;
                (pads[axis], pads[rank + axis]) = match auto {
                    "SAME_LOWER" => (total - half, half),
                    _ => (half, total - half),
                };
            }
        }
        let ceil = call.int("ceil_mode", 0) != 0;
        let output = (0..rank)
            .map(|axis| {
                let extent = (kernel[axis] - 1) * dilations[axis] + 1;
                let padded = input[axis] + pads[axis] + pads[rank + axis];
                let Some(room) = padded.checked_sub(extent) else {
                    return Err(format!(
                        "a window of {extent} is larger than {padded} elements"
                    ));
                };
                let mut count = match ceil {
                    true => room.div_ceil(strides[axis]) + 1,
                    false => room / strides[axis] + 1,
                };
                // A window that starts in the padding after the input is none.
                if ceil && (count - 1) * strides[axis] >= input[axis] + pads[axis] {
                    count -= 1;
                }
                Ok(count)
            })
            .collect::<Result<_, _>>()?;
        Ok(Windows {
            input: input.to_vec(),
            kernel: kernel.to_vec(),
            strides,
            dilations,
            before: pads[..rank].to_vec(),
            after: pads[rank..].to_vec(),
            output,
        })
    }

    /// For each element of the window at `place`: which of the kernel it is, and which of the input,
    /// None where it is padding. Both are counted in row-major order.
    pub(super) fn each(&self, place: &[usize], mut take: impl FnMut(usize, Option<usize>)) {
        let mut offset = vec![0; self.kernel.len()];
        for number in 0..self.kernel.iter().product() {
            unravel(number, &self.kernel, &mut offset);
            let mut flat = Some(0);
            for axis in 0..offset.len() {
                let at = place[axis] * self.strides[axis] + offset[axis] * self.dilations[axis];
                let at = at
                    .checked_sub(self.before[axis])
                    .filter(|&at| at < self.input[axis]);
                flat = flat.and_then(|flat| Some(flat * self.input[axis] + at?));
            }
            take(number, flat);
        }
    }

    /// How many elements of the window lie on the input or its stated padding.
    pub(super) fn counted(&self, place: &[usize]) -> usize {
        let along = |axis: usize| {
            let limit = self.input[axis] + self.before[axis] + self.after[axis];
            let start = place[axis] * self.strides[axis];
            (0..self.kernel[axis])
                .filter(|offset| start + offset * self.dilations[axis] < limit)
                .count()
        };
        (0..self.kernel.len()).map(along).product()
    }
}

/// The index that a place in row-major order has.
pub(super) fn unravel(mut number: usize, shape: &[usize], index: &mut [usize]) {
    for axis in (0..shape.len()).rev() {
        index[axis] = number % shape[axis].max(1);
        number /= shape[axis].max(1);
    }
}
