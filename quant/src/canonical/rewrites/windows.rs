//! Conv, ConvTranspose and pools with every attribute of their windows written out, `auto_pad` as
//! pads (ONNX, Conv-11, ConvTranspose-11, MaxPool-12, AveragePool-19). Where the pads follow from a
//! length that is not fixed they are computed in the graph and padded before the convolution.

use super::{Node, Rewritten, kernels::to_kernel};
use crate::{
    canonical::{
        known::Known,
        refusal::Refusal,
        replacement::{Replacement, int_attribute, ints_attribute, text_attribute},
    },
    onnx::AttributeProto,
};

pub(super) fn rewrite(known: &Known<'_>, node: &Node<'_>) -> Rewritten {
    match node.op() {
        "Conv" | "ConvInteger" | "ConvTranspose" | "MaxPool" | "AveragePool" | "LpPool" => {}
        _ => return Ok(None),
    }
    let window = Window::of(known, node)?;
    match window.auto_pad {
        "NOTSET" | "VALID" if node.ints("output_shape").is_some() => {
            return output_shape(known, node, &window);
        }
        "NOTSET" | "VALID" => {}
        "SAME_UPPER" | "SAME_LOWER" if node.op() == "ConvTranspose" => {
            return transposed(known, node, &window);
        }
        "SAME_UPPER" | "SAME_LOWER" => return same(known, node, &window),
        other => {
            return Err(Refusal::new(format!(
                "its auto_pad '{other}' is none that ONNX has"
            )));
        }
    }
    let mut attributes = node.attributes_but(&["auto_pad"]);
    let before = attributes.len();
    if window.auto_pad == "VALID" {
        attributes.retain(|attribute| attribute.name != "pads");
    }
    window.state(&mut attributes);
    let whole = before == attributes.len() && node.attribute("auto_pad").is_none();
    if whole {
        return Ok(None);
    }
    let new = Replacement::of(node.proto);
    Ok(Some(new.last_with(node.op(), &node.inputs(), attributes)))
}

/// The windows of a node; `auto_pad` is still to be resolved.
struct Window<'n> {
    auto_pad: &'n str,
    kernel: Vec<i64>,
    strides: Vec<i64>,
    dilations: Vec<i64>,
    pads: Vec<i64>,
}

impl<'n> Window<'n> {
    fn of(known: &Known<'_>, node: &Node<'n>) -> Result<Window<'n>, Refusal> {
        let kernel = match node.ints("kernel_shape") {
            Some(kernel) => kernel.to_vec(),
            None if node.op().contains("Pool") => {
                return Err(Refusal::new("its kernel_shape is missing"));
            }
            None => {
                let weight = node.needs(1)?;
                let shape = known.value(weight).shape.unwrap_or_default();
                let spatial: Option<Vec<i64>> =
                    shape.iter().skip(2).map(|&dim| Some(dim? as i64)).collect();
                spatial
                    .filter(|spatial| !spatial.is_empty())
                    .ok_or_else(|| {
                        Refusal::new(format!(
                            "its kernel_shape is missing and the shape of '{weight}' is not known"
                        ))
                    })?
            }
        };
        let rank = kernel.len();
        let list = |name: &str, length: usize, default: i64| match node.ints(name) {
            Some(values) if values.len() == length => Ok(values.to_vec()),
            Some(values) => Err(Refusal::new(format!(
                "its {name} {values:?} are not {length}"
            ))),
            None => Ok(vec![default; length]),
        };
        let window = Window {
            auto_pad: node.text("auto_pad").unwrap_or("NOTSET"),
            strides: list("strides", rank, 1)?,
            dilations: list("dilations", rank, 1)?,
            pads: list("pads", 2 * rank, 0)?,
            kernel,
        };
        let positive = |name: &str, values: &[i64]| match values
            .iter()
            .all(|&value| (1..1 << 31).contains(&value))
        {
            true => Ok(()),
            false => Err(Refusal::new(format!(
                "its {name} {values:?} are not all above 0"
            ))),
        };
        positive("kernel_shape", &window.kernel)?;
        positive("strides", &window.strides)?;
        positive("dilations", &window.dilations)?;
        Ok(window)
    }

    /// Adds what is not stated.
    fn state(&self, attributes: &mut Vec<AttributeProto>) {
        let all = [
            ("kernel_shape", &self.kernel),
            ("strides", &self.strides),
            ("dilations", &self.dilations),
            ("pads", &self.pads),
        ];
        for (name, values) in all {
            if !attributes.iter().any(|attribute| attribute.name == name) {
                attributes.push(ints_attribute(name, values));
            }
        }
    }

    /// From the first element of a window to its last.
    fn extent(&self, axis: usize) -> i64 {
        (self.kernel[axis] - 1) * self.dilations[axis]
    }

    /// Padding of one axis in all, for `ceil(length / stride)` outputs.
    fn total(&self, axis: usize, length: i64) -> i64 {
        let stride = self.strides[axis];
        let outputs = (length + stride - 1) / stride;
        ((outputs - 1) * stride + self.extent(axis) + 1 - length).max(0)
    }

    /// Before and after.
    fn parts(&self, total: i64) -> (i64, i64) {
        match self.auto_pad {
            "SAME_LOWER" => (total - total / 2, total / 2),
            _ => (total / 2, total - total / 2),
        }
    }
}

/// SAME_UPPER and SAME_LOWER of a convolution or a pool.
fn same(known: &Known<'_>, node: &Node<'_>, window: &Window<'_>) -> Rewritten {
    let x = node.needs(0)?;
    let shape = known.value(x).shape;
    let lengths: Option<Vec<i64>> = (0..window.kernel.len())
        .map(|axis| match window.strides[axis] {
            // The padding does not depend on the length, only the windows.
            1 => Some(1 << 20),
            _ => Some((*shape.as_ref()?.get(axis + 2)?)? as i64),
        })
        .collect();
    let mut attributes = node.attributes_but(&["auto_pad", "pads"]);
    if let Some(lengths) = lengths {
        let parts = lengths
            .iter()
            .enumerate()
            .map(|(axis, &length)| window.parts(window.total(axis, length)));
        let (before, after): (Vec<i64>, Vec<i64>) = parts.unzip();
        attributes.push(ints_attribute("pads", &[before, after].concat()));
        let new = Replacement::of(node.proto);
        return Ok(Some(new.last_with(node.op(), &node.inputs(), attributes)));
    }
    if node.op().contains("Pool") {
        return to_kernel(known, node, Vec::new());
    }
    let mut new = Replacement::of(node.proto);
    let pads = computed_pads(&mut new, x, window);
    let zero = new.number(0, known.elem(x));
    let padded = new.node_with(
        "Pad",
        &[x, &pads, &zero],
        vec![text_attribute("mode", "constant")],
    );
    let mut inputs = node.inputs();
    inputs[0] = &padded;
    attributes.push(ints_attribute(
        "pads",
        &window.pads.iter().map(|_| 0).collect::<Vec<_>>(),
    ));
    Ok(Some(new.last_with(node.op(), &inputs, attributes)))
}

/// `[0, 0, before.., 0, 0, after..]` from the shape of `x`.
fn computed_pads(new: &mut Replacement<'_>, x: &str, window: &Window<'_>) -> String {
    let axes = window.kernel.len();
    let shape = new.node_with("Shape", &[x], vec![int_attribute("start", 2)]);
    let strides = new.ints(&window.strides);
    let extents: Vec<i64> = (0..axes).map(|axis| window.extent(axis) + 1).collect();
    let extents = new.ints(&extents);
    let (one, two, zero) = (new.ints(&[1]), new.ints(&[2]), new.ints(&[0]));
    // (ceil(length / stride) - 1) * stride: the last multiple of the stride below the length.
    let below = new.node("Sub", &[&shape, &one]);
    let steps = new.node("Div", &[&below, &strides]);
    let last = new.node("Mul", &[&steps, &strides]);
    let end = new.node("Add", &[&last, &extents]);
    let over = new.node("Sub", &[&end, &shape]);
    let total = new.node("Max", &[&over, &zero]);
    let half = new.node("Div", &[&total, &two]);
    let rest = new.node("Sub", &[&total, &half]);
    let (before, after) = match window.auto_pad {
        "SAME_LOWER" => (rest, half),
        _ => (half, rest),
    };
    let none = new.ints(&[0, 0]);
    new.node_with(
        "Concat",
        &[&none, &before, &none, &after],
        vec![int_attribute("axis", 0)],
    )
}

/// ConvTranspose with SAME pads so that its output is `length * stride`.
fn transposed(known: &Known<'_>, node: &Node<'_>, window: &Window<'_>) -> Rewritten {
    if node.ints("output_shape").is_some() {
        return output_shape(known, node, window);
    }
    let extra = node
        .ints("output_padding")
        .map_or(vec![0; window.kernel.len()], <[i64]>::to_vec);
    let parts = (0..window.kernel.len()).map(|axis| {
        let total =
            window.extent(axis) + 1 - window.strides[axis] + extra.get(axis).copied().unwrap_or(0);
        window.parts(total.max(0))
    });
    let (before, after): (Vec<i64>, Vec<i64>) = parts.unzip();
    let mut attributes = node.attributes_but(&["auto_pad", "pads"]);
    attributes.push(ints_attribute("pads", &[before, after].concat()));
    let new = Replacement::of(node.proto);
    Ok(Some(new.last_with(node.op(), &node.inputs(), attributes)))
}

/// Pads that give a stated output.
fn output_shape(known: &Known<'_>, node: &Node<'_>, window: &Window<'_>) -> Rewritten {
    let x = node.needs(0)?;
    let wanted = node.ints("output_shape").unwrap_or_default();
    let shape = known.value(x).shape.unwrap_or_default();
    let lengths: Option<Vec<i64>> = shape.iter().skip(2).map(|&dim| Some(dim? as i64)).collect();
    let lengths = lengths
        .filter(|lengths| lengths.len() == window.kernel.len() && wanted.len() >= lengths.len())
        .ok_or_else(|| {
            Refusal::new(format!(
                "its output_shape needs the lengths of '{x}', which are not fixed"
            ))
        })?;
    let extra = node
        .ints("output_padding")
        .map_or(vec![0; window.kernel.len()], <[i64]>::to_vec);
    let wanted = &wanted[wanted.len() - lengths.len()..];
    let mut extra = extra;
    extra.resize(lengths.len(), 0);
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for axis in 0..lengths.len() {
        let full =
            window.strides[axis] * (lengths[axis] - 1) + extra[axis] + window.extent(axis) + 1;
        let total = full - wanted[axis];
        // What is missing of the output is padded like any other end of it.
        extra[axis] += (-total).max(0);
        let (more, less) = (total.max(0) - total.max(0) / 2, total.max(0) / 2);
        let parts = match window.auto_pad {
            "SAME_UPPER" => (less, more),
            _ => (more, less),
        };
        before.push(parts.0);
        after.push(parts.1);
    }
    let mut attributes =
        node.attributes_but(&["auto_pad", "pads", "output_shape", "output_padding"]);
    attributes.push(ints_attribute("output_padding", &extra));
    attributes.push(ints_attribute("pads", &[before, after].concat()));
    let new = Replacement::of(node.proto);
    Ok(Some(new.last_with(node.op(), &node.inputs(), attributes)))
}
