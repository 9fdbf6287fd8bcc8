//! Islands, backwards, by what their ONNX operator is. An operator that is not here passes nothing:
//! what reaches an output only through it has no estimate.

use std::borrow::Cow;

use super::{
    Factor, Local, broadcast, finite,
    window::{Convolution, Window},
};
use crate::{
    Result,
    float::Taps,
    graph::{Island, Node, ValueId},
    model::OnnxNode,
    sensitivity::{analysis::Analysis, values::FloatValues},
    tensor::{Datum, Tensor},
};

/// Each element of the result is a function of the elements at its place.
const ELEMENTWISE: &[&str] = &[
    "Abs",
    "Acos",
    "Acosh",
    "Add",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "BatchNormalization",
    "Celu",
    "Clip",
    "Cos",
    "Cosh",
    "Div",
    "Elu",
    "Erf",
    "Exp",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Log",
    "Max",
    "Mean",
    "Min",
    "Mish",
    "Mul",
    "Neg",
    "PRelu",
    "Pow",
    "Reciprocal",
    "Relu",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Sub",
    "Sum",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "Where",
];

/// Each element of the result is one of the operand's, or a constant.
const MOVES: &[&str] = &[
    "CenterCropPad",
    "Compress",
    "DepthToSpace",
    "Expand",
    "Gather",
    "GatherElements",
    "GatherND",
    "Identity",
    "Pad",
    "Reshape",
    "ReverseSequence",
    "ScatterElements",
    "ScatterND",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Trilu",
    "Unsqueeze",
    "Where",
];

/// Step of a central difference, relative to the element: near the cube root of f32's epsilon, where
/// its two errors balance.
const STEP: f32 = 1.0 / 256.0;
/// The smallest step, relative to that of the mean of all elements.
const SMALLEST: f32 = 1.0 / 64.0;
/// Integers up to here are exact in f32.
const COUNTABLE: usize = 1 << 24;

/// One island, seen from one of its operands and one of its outputs.
struct Seen<'s, 'v> {
    analysis: &'s Analysis<'v>,
    values: &'v FloatValues,
    node: &'v Node,
    island: &'v Island,
    onnx: &'s OnnxNode,
    input: ValueId,
    x: &'v Tensor,
    y: &'v Tensor,
    place: usize,
}

pub(super) fn local<'v>(
    analysis: &Analysis<'v>,
    values: &'v FloatValues,
    node: &'v Node,
    island: &'v Island,
    operand: usize,
    place: usize,
) -> Result<Option<Local<'v>>> {
    let (Some(&input), Some(&output)) = (node.inputs.get(operand), node.outputs.get(place)) else {
        return Ok(None);
    };
    // Operands go by name: one that is given twice is changed in both places at once.
    if node.inputs[..operand].contains(&input) {
        return Ok(None);
    }
    let (Some(onnx), Some(x), Some(y), Some(&place)) = (
        analysis.float.node(island.onnx_node),
        values.get(analysis, input)?.as_f32(),
        values.get(analysis, output)?.as_f32(),
        island.made.get(place),
    ) else {
        return Ok(None);
    };
    let seen = Seen {
        analysis,
        values,
        node,
        island,
        onnx,
        input,
        x,
        y,
        place,
    };
    let op = island.op_type.as_str();
    match op {
        "Conv" => seen.conv(),
        "ConvTranspose" => seen.conv_transpose(),
        "AveragePool" => Ok(seen.average_pool()),
        "GlobalAveragePool" => Ok(seen.global_average_pool()),
        "MaxPool" => Ok(seen.max_pool()),
        "Resize" if onnx.text("mode").unwrap_or("nearest") == "nearest" => seen.moved(),
        _ if ELEMENTWISE.contains(&op) => seen.difference(),
        _ if MOVES.contains(&op) && onnx.text("reduction").unwrap_or("none") == "none" => {
            seen.moved()
        }
        _ => Ok(None),
    }
}

impl<'v> Seen<'_, 'v> {
    /// The island's output with the operand replaced.
    fn with(&self, x: Tensor) -> Result<Option<Tensor>> {
        let x = Datum::F32(x);
        let changed = |id: ValueId| (id == self.input).then_some(&x);
        let made = self
            .values
            .island(self.analysis, self.node, self.island, changed)?;
        Ok(match made.into_iter().nth(self.place) {
            Some(Datum::F32(made)) if made.shape() == self.y.shape() => Some(made),
            _ => None,
        })
    }

    /// Where the operand stands among what the ONNX node is given.
    fn stands_at(&self, position: usize) -> bool {
        let name = self.analysis.graph.value(self.input).onnx.as_deref();
        name.is_some() && self.onnx.input(position) == name
    }

    /// Central differences, all elements at once.
    fn difference(&self) -> Result<Option<Local<'v>>> {
        let op = self.island.op_type.as_str();
        if op == "BatchNormalization" && !self.stands_at(0) || op == "PRelu" && self.stands_at(1) {
            return Ok(None);
        }
        if !self.broadcasts() {
            return Ok(None);
        }
        let source = broadcast(self.node, self.x, self.y)?;
        let finite_sum: f32 = self.x.iter().map(|&x| finite(x).abs()).sum();
        let smallest = finite_sum / self.x.len().max(1) as f32 * SMALLEST;
        let step = |x: f32| match x.is_finite() {
            true => (x.abs().max(smallest) * STEP).max(f32::MIN_POSITIVE),
            false => 0.0,
        };
        let (above, below) = (self.x.mapv(|x| x + step(x)), self.x.mapv(|x| x - step(x)));
        // What the steps are in f32.
        let steps: Vec<f32> = above.iter().zip(&below).map(|(a, b)| a - b).collect();
        let (Some(above), Some(below)) = (self.with(above)?, self.with(below)?) else {
            return Ok(None);
        };
        let slope = |(place, (above, below)): (usize, (&f32, &f32))| {
            let at = source
                .as_ref()
                .map_or(place, |source| source[place] as usize);
            let step = steps.get(at).copied().unwrap_or_default();
            let slope = (above - below) / step;
            if step > 0.0 { finite(slope) } else { 0.0 }
        };
        let slopes = above.iter().zip(&below).enumerate().map(slope);
        let factor = Factor::Each(Cow::Owned(slopes.collect()));
        Ok(Some(Local::Picked { source, factor }))
    }

    /// Whether the output has the operand's shape, or one that it broadcasts to.
    fn broadcasts(&self) -> bool {
        let (x, y) = (self.x.shape(), self.y.shape());
        let mut axes = x.iter().rev().zip(y.iter().rev());
        x.len() <= y.len() && axes.all(|(x, y)| x == y || *x == 1)
    }

    /// Which element of the operand each of the output is: the island moves their numbers. What stays
    /// when their signs change was moved from elsewhere.
    fn moved(&self) -> Result<Option<Local<'v>>> {
        let count = self.x.len();
        if count >= COUNTABLE {
            return Ok(None);
        }
        let numbered = |sign: f32| {
            let numbers = (0..count).map(|index| sign * (index + 1) as f32).collect();
            Tensor::from_shape_vec(self.x.raw_dim(), numbers).unwrap_or_default()
        };
        let (Some(up), Some(down)) = (self.with(numbered(1.0))?, self.with(numbered(-1.0))?) else {
            return Ok(None);
        };
        let source = |(&up, &down): (&f32, &f32)| match up == -down && up >= 1.0 {
            true => up as u32 - 1,
            false => u32::MAX,
        };
        Ok(Some(Local::Picked {
            source: Some(up.iter().zip(&down).map(source).collect()),
            factor: Factor::All(1.0),
        }))
    }

    /// The kernel of a convolution by its data, if that is what the operand is.
    fn weight(&self) -> Result<Option<Tensor>> {
        if !self.stands_at(0) {
            return Ok(None);
        }
        let Some(name) = self.onnx.input(1) else {
            return Ok(None);
        };
        let operand = self.values.operand(self.analysis, self.node, name);
        let weight = operand.or_else(|| self.values.beside(name));
        match weight {
            Some(Datum::F32(weight)) => Ok(Some(weight.clone())),
            Some(_) => Ok(None),
            None => match self.analysis.float.constant(name)? {
                Datum::F32(weight) => Ok(Some(weight)),
                _ => Ok(None),
            },
        }
    }

    fn groups(&self) -> usize {
        let groups = self.onnx.int("group").unwrap_or(1);
        usize::try_from(groups).unwrap_or(1).max(1)
    }

    fn conv(&self) -> Result<Option<Local<'v>>> {
        let Some(weight) = self.weight()? else {
            return Ok(None);
        };
        let groups = self.groups();
        let (&[_, c, ref spatial @ ..], &[o, per_group, ref kernel @ ..], &[_, y_o, ref made @ ..]) =
            (self.x.shape(), weight.shape(), self.y.shape())
        else {
            return Ok(None);
        };
        let Some(taps) = Taps::of(self.onnx, spatial, kernel) else {
            return Ok(None);
        };
        if taps.output != made || y_o != o || per_group * groups != c || o % groups != 0 {
            return Ok(None);
        }
        Ok(Some(Local::Window(Window::Convolution(Convolution {
            taps: taps.taps,
            groups,
            results: o / groups,
            sources: per_group,
            volume: kernel.iter().product(),
            sizes: [made.iter().product(), spatial.iter().product()],
            transposed: false,
            weight: weight.iter().copied().collect(),
        }))))
    }

    /// The Conv whose transpose it is goes from this output to this input.
    fn conv_transpose(&self) -> Result<Option<Local<'v>>> {
        let Some(weight) = self.weight()? else {
            return Ok(None);
        };
        let groups = self.groups();
        let (&[_, c, ref spatial @ ..], &[c2, per_group, ref kernel @ ..], &[_, o, ref made @ ..]) =
            (self.x.shape(), weight.shape(), self.y.shape())
        else {
            return Ok(None);
        };
        let auto = self.onnx.text("auto_pad").unwrap_or("NOTSET");
        let Some(taps) = Taps::of(self.onnx, made, kernel).filter(|_| auto == "NOTSET") else {
            return Ok(None);
        };
        if taps.output != spatial || c2 != c || per_group * groups != o || c % groups != 0 {
            return Ok(None);
        }
        Ok(Some(Local::Window(Window::Convolution(Convolution {
            taps: taps.taps,
            groups,
            results: c / groups,
            sources: per_group,
            volume: kernel.iter().product(),
            sizes: [spatial.iter().product(), made.iter().product()],
            transposed: true,
            weight: weight.iter().copied().collect(),
        }))))
    }

    /// Windows of a pool.
    fn pool(&self) -> Option<Taps> {
        let &[_, _, ref spatial @ ..] = self.x.shape() else {
            return None;
        };
        let kernel = self.onnx.ints("kernel_shape")?.iter();
        let kernel: Option<Vec<usize>> = kernel.map(|&k| usize::try_from(k).ok()).collect();
        let taps = Taps::of(self.onnx, spatial, &kernel?)?;
        (self.y.shape().get(2..) == Some(taps.output.as_slice())).then_some(taps)
    }

    fn average_pool(&self) -> Option<Local<'v>> {
        let taps = self.pool()?;
        let input = self.x.shape().iter().skip(2).product();
        let padded = self.onnx.int("count_include_pad").unwrap_or(0) != 0;
        Some(Local::Window(Window::average(&taps, input, padded)))
    }

    fn global_average_pool(&self) -> Option<Local<'v>> {
        let size = self.x.len() / self.y.len().max(1);
        let target = (0..self.x.len()).map(|index| (index / size.max(1)) as u32);
        Some(Local::Pooled {
            target: target.collect(),
            factor: Factor::All(1.0 / size.max(1) as f32),
        })
    }

    /// To the first maximum of each window.
    fn max_pool(&self) -> Option<Local<'v>> {
        let taps = self.pool()?;
        let size: usize = self.x.shape().iter().skip(2).product();
        let x = self.x.as_standard_layout();
        let mut source = Vec::with_capacity(self.y.len());
        for (plane, x) in x.as_slice()?.chunks_exact(size.max(1)).enumerate() {
            let mut best = vec![None; taps.counted.len()];
            for tap in &taps.taps {
                let (at, best) = (tap.input as usize, &mut best[tap.output as usize]);
                if best.is_none_or(|best: usize| x[at] > x[best]) {
                    *best = Some(at);
                }
            }
            let number = |at: Option<usize>| at.map_or(u32::MAX, |at| (plane * size + at) as u32);
            source.extend(best.into_iter().map(number));
        }
        Some(Local::Picked {
            source: Some(source),
            factor: Factor::All(1.0),
        })
    }
}
