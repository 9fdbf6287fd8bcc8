//! Convolutions and averages over windows, backwards: both are sums over the same taps.

use ndarray::ArrayView2;

use crate::{
    float::{Tap, Taps},
    ways::add_product,
};

/// A linear map of planes that is made of windows.
pub(in crate::sensitivity) enum Window {
    /// Each plane alone: y[output] += weight * x[input], a weight for each tap.
    Average {
        taps: Vec<(Tap, f32)>,
        /// Elements of a plane of the input and of the output.
        sizes: [usize; 2],
    },
    /// Conv, or ConvTranspose, which is a Conv with input and output exchanged.
    Convolution(Convolution),
}

/// The weights of a Conv and where they lie.
pub(in crate::sensitivity) struct Convolution {
    pub(super) taps: Vec<Tap>,
    /// Conv `[O, C / groups, kernel..]`; ConvTranspose `[C, O / groups, kernel..]`.
    pub(super) weight: Vec<f32>,
    pub(super) groups: usize,
    /// Channels of a group on the side of the windows' results: the output's of a Conv, the input's
    /// of a ConvTranspose.
    pub(super) results: usize,
    /// Channels of a group on the other side.
    pub(super) sources: usize,
    /// Elements of the kernel.
    pub(super) volume: usize,
    /// Elements of a plane on the side of the results and on the other.
    pub(super) sizes: [usize; 2],
    pub(super) transposed: bool,
}

impl Window {
    /// An average of what lies in each window.
    pub(super) fn average(taps: &Taps, input: usize, count_include_pad: bool) -> Self {
        let mut counts = vec![0usize; taps.counted.len()];
        for tap in &taps.taps {
            counts[tap.output as usize] += 1;
        }
        if count_include_pad {
            counts.copy_from_slice(&taps.counted);
        }
        let weighted = |tap: &Tap| {
            let count = counts[tap.output as usize].max(1);
            (*tap, 1.0 / count as f32)
        };
        Window::Average {
            taps: taps.taps.iter().map(weighted).collect(),
            sizes: [input, taps.counted.len()],
        }
    }

    /// One pass: adds to the operand's cotangent.
    pub(super) fn pull(&self, y: &[f32], x: &mut [f32]) {
        match self {
            Window::Average {
                taps,
                sizes: [input, output],
            } => {
                let planes = y.chunks_exact((*output).max(1));
                for (y, x) in planes.zip(x.chunks_exact_mut((*input).max(1))) {
                    for (tap, weight) in taps {
                        x[tap.input as usize] += weight * y[tap.output as usize];
                    }
                }
            }
            Window::Convolution(convolution) => convolution.pull(y, x),
        }
    }
}

impl Convolution {
    fn pull(&self, y: &[f32], x: &mut [f32]) {
        let [result_size, source_size] = self.sizes;
        let results = self.results * result_size;
        let sources = self.sources * source_size;
        let (y_group, x_group) = match self.transposed {
            true => (sources, results),
            false => (results, sources),
        };
        let weights = self.results * self.sources * self.volume;
        let parts = y
            .chunks_exact(y_group.max(1))
            .zip(x.chunks_exact_mut(x_group.max(1)));
        let mut columns = vec![0.0; self.sources * self.volume * result_size];
        for (part, (y, x)) in parts.enumerate() {
            let group = part % self.groups.max(1);
            let weight = self.weight.get(group * weights..(group + 1) * weights);
            let weight = ArrayView2::from_shape(
                (self.results, self.sources * self.volume),
                weight.unwrap_or_default(),
            );
            let Ok(weight) = weight else { continue };
            match self.transposed {
                false => self.conv(&weight, y, x, &mut columns),
                true => self.conv_transpose(&weight, y, x, &mut columns),
            }
        }
    }

    /// Columns of the windows from what was made of them, added where they were taken.
    fn conv(&self, weight: &ArrayView2<'_, f32>, y: &[f32], x: &mut [f32], columns: &mut [f32]) {
        let [result_size, source_size] = self.sizes;
        columns.fill(0.0);
        if let Ok(y) = ArrayView2::from_shape((self.results, result_size), y) {
            add_product(weight.t(), y, columns);
        }
        let planes = columns.chunks_exact((self.volume * result_size).max(1));
        for (columns, x) in planes.zip(x.chunks_exact_mut(source_size.max(1))) {
            for tap in &self.taps {
                x[tap.input as usize] += columns[self.column(tap)];
            }
        }
    }

    /// The windows of the cotangent, times the weights.
    fn conv_transpose(
        &self,
        weight: &ArrayView2<'_, f32>,
        y: &[f32],
        x: &mut [f32],
        columns: &mut [f32],
    ) {
        let [result_size, source_size] = self.sizes;
        columns.fill(0.0);
        let planes = columns.chunks_exact_mut((self.volume * result_size).max(1));
        for (columns, y) in planes.zip(y.chunks_exact(source_size.max(1))) {
            for tap in &self.taps {
                columns[self.column(tap)] = y[tap.input as usize];
            }
        }
        let shape = (self.sources * self.volume, result_size);
        if let Ok(columns) = ArrayView2::from_shape(shape, &*columns) {
            add_product(weight.view(), columns, x);
        }
    }

    fn column(&self, tap: &Tap) -> usize {
        tap.kernel as usize * self.sizes[0] + tap.output as usize
    }
}
