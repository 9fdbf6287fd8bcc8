//! Convolutions of any number of spatial axes, in f64, and blocks put back into an image.

use super::{
    Made,
    call::{Call, tensor},
    windows::{Windows, unravel},
};
use crate::tensor::Datum;

/// Conv.
pub(super) fn conv(call: &Call<'_>) -> Made {
    let (x, w) = (call.floats(0)?, call.floats(1)?);
    let flat = |index: usize| -> Result<Vec<f64>, String> {
        Ok(call.floats(index)?.iter().map(|&x| f64::from(x)).collect())
    };
    let mut y = product(call, (x.shape(), &flat(0)?), (w.shape(), &flat(1)?))?;
    if let Some(bias) = call.optional_floats(2)? {
        let per = y.elements.len() / (y.shape[0] * y.shape[1]).max(1);
        for (place, y) in y.elements.iter_mut().enumerate() {
            let channel = place / per.max(1) % bias.len().max(1);
            *y += f64::from(*bias.iter().nth(channel).ok_or("its bias is empty")?);
        }
    }
    let elements = y.elements.iter().map(|&y| y as f32).collect();
    Ok(vec![Datum::F32(tensor(&y.shape, elements)?)])
}

/// A tensor in f64, which integers of 8 bits fill exactly.
pub(super) struct Wide {
    pub(super) shape: Vec<usize>,
    pub(super) elements: Vec<f64>,
}

/// The products of a convolution, without bias.
pub(super) fn product(
    call: &Call<'_>,
    (x_shape, x): (&[usize], &[f64]),
    (w_shape, w): (&[usize], &[f64]),
) -> Result<Wide, String> {
    let misfit = || format!("a weight of shape {w_shape:?} does not fit an input of {x_shape:?}");
    let (&[n, c, ref spatial @ ..], &[o, per_group, ref kernel @ ..]) = (x_shape, w_shape) else {
        return Err(misfit());
    };
    let groups = usize::try_from(call.int("group", 1)).map_err(|_| misfit())?;
    if groups == 0 || per_group * groups != c || o % groups != 0 {
        return Err(misfit());
    }
    let windows = Windows::of(call, spatial, kernel)?;
    let (size, volume) = (
        spatial.iter().product::<usize>(),
        kernel.iter().product::<usize>(),
    );
    let count: usize = windows.output.iter().product();
    let mut y = Vec::with_capacity(n * o * count);
    let mut place = vec![0; kernel.len()];
    for batch in 0..n {
        for channel in 0..o {
            let first = channel / (o / groups) * per_group;
            for number in 0..count {
                unravel(number, &windows.output, &mut place);
                let mut sum = 0.0;
                windows.each(&place, |of_kernel, at| {
                    let Some(at) = at else { return };
                    for input in 0..per_group {
                        sum += x[(batch * c + first + input) * size + at]
                            * w[(channel * per_group + input) * volume + of_kernel];
                    }
                });
                y.push(sum);
            }
        }
    }
    Ok(Wide {
        shape: [&[n, o], windows.output.as_slice()].concat(),
        elements: y,
    })
}

/// ConvTranspose: each input element adds the kernel at its place.
pub(super) fn transposed(call: &Call<'_>) -> Made {
    let (x, w) = (call.floats(0)?, call.floats(1)?);
    let misfit = || {
        format!(
            "a weight of shape {:?} does not fit an input of {:?}",
            w.shape(),
            x.shape()
        )
    };
    let (&[n, c, ref spatial @ ..], &[c2, per_group, ref kernel @ ..]) = (x.shape(), w.shape())
    else {
        return Err(misfit());
    };
    let groups = usize::try_from(call.int("group", 1)).map_err(|_| misfit())?;
    let rank = kernel.len();
    if groups == 0 || c != c2 || c % groups != 0 || spatial.len() != rank {
        return Err(misfit());
    }
    let strides = call.sizes("strides", rank, 1)?;
    let dilations = call.sizes("dilations", rank, 1)?;
    let pads = call.sizes("pads", 2 * rank, 0)?;
    let extra = call.sizes("output_padding", rank, 0)?;
    let output: Vec<usize> = (0..rank)
        .map(|axis| {
            let whole = strides[axis] * spatial[axis].saturating_sub(1)
                + extra[axis]
                + (kernel[axis] - 1) * dilations[axis]
                + 1;
            let left = whole.checked_sub(pads[axis] + pads[rank + axis]);
            left.ok_or_else(|| "its pads are larger than its output".to_owned())
        })
        .collect::<Result<_, _>>()?;
    let (size, volume) = (
        spatial.iter().product::<usize>(),
        kernel.iter().product::<usize>(),
    );
    let (count, outputs) = (output.iter().product::<usize>(), per_group * groups);
    let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    let w: Vec<f64> = w.iter().map(|&w| f64::from(w)).collect();
    let mut y = vec![0.0; n * outputs * count];
    let (mut at, mut offset) = (vec![0; rank], vec![0; rank]);
    for number in 0..size {
        unravel(number, spatial, &mut at);
        for of_kernel in 0..volume {
            unravel(of_kernel, kernel, &mut offset);
            let place = (0..rank).try_fold(0, |flat, axis| {
                let place = at[axis] * strides[axis] + offset[axis] * dilations[axis];
                let place = place.checked_sub(pads[axis])?;
                (place < output[axis]).then_some(flat * output[axis] + place)
            });
            let Some(place) = place else { continue };
            for batch in 0..n {
                for input in 0..c {
                    let first = input / (c / groups) * per_group;
                    let value = x[(batch * c + input) * size + number];
                    for channel in 0..per_group {
                        y[(batch * outputs + first + channel) * count + place] +=
                            value * w[(input * per_group + channel) * volume + of_kernel];
                    }
                }
            }
        }
    }
    if let Some(bias) = call.optional_floats(2)? {
        for (index, y) in y.iter_mut().enumerate() {
            let channel = index / count.max(1) % outputs.max(1);
            *y += f64::from(*bias.iter().nth(channel).ok_or("its bias is too short")?);
        }
    }
    let shape = [&[n, outputs], output.as_slice()].concat();
    let elements = y.into_iter().map(|y| y as f32).collect();
    Ok(vec![Datum::F32(tensor(&shape, elements)?)])
}

/// Col2Im: columns of blocks added into an image.
pub(super) fn col2im(call: &Call<'_>) -> Made {
    let x = call.floats(0)?;
    let sizes = |index: usize| -> Result<Vec<usize>, String> {
        let list = call.list(index)?.unwrap_or_default();
        let sizes: Option<Vec<usize>> = list.iter().map(|&x| usize::try_from(x).ok()).collect();
        sizes.ok_or_else(|| format!("its input {index} has a negative size"))
    };
    let (image, block) = (sizes(1)?, sizes(2)?);
    let windows = Windows::of(call, &image, &block)?;
    let &[n, rows, columns] = x.shape() else {
        return Err(format!(
            "its input has shape {:?}, not three dimensions",
            x.shape()
        ));
    };
    let volume: usize = block.iter().product();
    let count: usize = windows.output.iter().product();
    if columns != count || volume == 0 || rows % volume != 0 {
        return Err(format!(
            "{rows} x {columns} are no blocks of {block:?} in {image:?}"
        ));
    }
    let (channels, size) = (rows / volume, image.iter().product::<usize>());
    let flat: Vec<f32> = x.iter().copied().collect();
    let mut y = vec![0.0_f32; n * channels * size];
    let mut place = vec![0; block.len()];
    for number in 0..count {
        unravel(number, &windows.output, &mut place);
        windows.each(&place, |of_block, at| {
            let Some(at) = at else { return };
            for plane in 0..n * channels {
                y[plane * size + at] += flat[(plane * volume + of_block) * columns + number];
            }
        });
    }
    let shape = [&[n, channels], image.as_slice()].concat();
    Ok(vec![Datum::F32(tensor(&shape, y)?)])
}
