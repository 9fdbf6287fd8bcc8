//! The lowered graph in f64, each operation as its definition says and no faster.

use std::collections::HashMap;

use dual16_quant::{
    graph::{Graph, Move, Op, ReduceKind, ValueId, ValueKind},
    tensor::Datum,
};
use ndarray::{ArrayD, Axis, Dimension as _, Ix2, IxDyn, Slice, concatenate};

use super::Sample;

type Array = ArrayD<f64>;

pub fn kind(op: &Op) -> String {
    match op {
        Op::Linear(_) => "Linear".to_owned(),
        Op::MatMul => "MatMul".to_owned(),
        Op::Dot { .. } => "Dot".to_owned(),
        Op::Add => "Add".to_owned(),
        Op::Sub => "Sub".to_owned(),
        Op::Mul => "Mul".to_owned(),
        Op::Concat { .. } => "Concat".to_owned(),
        Op::Reduce { kind, .. } => format!("{kind:?}"),
        Op::Relu => "Relu".to_owned(),
        Op::Clip { .. } => "Clip".to_owned(),
        Op::ToInt8 { .. } => "ToInt8".to_owned(),
        Op::LayerNormFp16 { .. } => "LayerNormFp16".to_owned(),
        Op::Lut(function) => function.name().to_owned(),
        Op::Move(Move::Reshape) => "Reshape".to_owned(),
        Op::Move(Move::Unsqueeze { .. }) => "Unsqueeze".to_owned(),
        Op::Move(Move::Transpose { .. }) => "Transpose".to_owned(),
        Op::Move(Move::Slice { .. }) => "Slice".to_owned(),
        Op::Move(Move::Gather { .. }) => "Gather".to_owned(),
        Op::Move(Move::Expand) => "Expand".to_owned(),
        Op::Move(Move::Split { .. }) => "Split".to_owned(),
        Op::Island(island) => format!("island {}", island.op_type),
    }
}

/// Largest difference between the graph and the float run, relative to each value's range, over
/// every value that the ONNX graph has.
pub fn worst_difference(sample: &Sample) -> f64 {
    let values = run(sample);
    let mut worst = 0.0_f64;
    let floats = sample.graph.values.iter().enumerate();
    for (id, value) in floats.filter(|(_, value)| value.kind.is_float()) {
        let got = &values[&ValueId(id)];
        assert_eq!(got.shape(), value.shape, "{}", value.name);
        let Some(name) = value
            .onnx
            .as_ref()
            .filter(|name| sample.probe.contains_key(*name))
        else {
            continue;
        };
        let wanted = sample.probe[name].as_f32().unwrap();
        assert_eq!(got.shape(), wanted.shape(), "{}", value.name);
        let amax = wanted
            .iter()
            .fold(1e-3_f64, |amax, x| amax.max(f64::from(x.abs())));
        for (got, wanted) in got.iter().zip(wanted) {
            worst = worst.max((got - f64::from(*wanted)).abs() / amax);
        }
    }
    worst
}

/// Every value of the graph.
pub fn run(sample: &Sample) -> HashMap<ValueId, Array> {
    run_with(sample, &HashMap::new())
}

/// The same with inputs of the model and constants that are `given` instead of their own.
pub fn run_with(sample: &Sample, given: &HashMap<ValueId, Array>) -> HashMap<ValueId, Array> {
    let graph = &sample.graph;
    let mut values = HashMap::new();
    for (id, value) in graph.values.iter().enumerate() {
        match &value.kind {
            ValueKind::Constant(tensor) => {
                values.insert(ValueId(id), tensor.mapv(f64::from));
            }
            ValueKind::Input => {
                let datum = &sample.probe[value.onnx.as_ref().unwrap()];
                values.insert(ValueId(id), datum.as_f32().unwrap().mapv(f64::from));
            }
            // Integers are fed to whoever takes them as the float run has them.
            ValueKind::Exact => {
                values.insert(ValueId(id), Array::zeros(IxDyn(&value.shape)));
            }
            ValueKind::Activation => {}
        }
    }
    let given = given.iter().map(|(&id, array)| (id, array.clone()));
    values.extend(given);
    for (_, node) in graph.running() {
        let inputs: Vec<&Array> = node.inputs.iter().map(|id| &values[id]).collect();
        let made = match &node.op {
            Op::Island(_) => island(sample, node, &inputs),
            Op::Move(movement) => moved(graph, &node.outputs, movement, inputs[0]),
            op => vec![compute(op, &inputs)],
        };
        let floats = node.outputs.iter().copied();
        let floats: Vec<ValueId> = floats
            .filter(|id| graph.value(*id).kind.is_float())
            .collect();
        assert_eq!(made.len(), floats.len(), "{}", node.name);
        values.extend(floats.into_iter().zip(made));
    }
    values
}

fn compute(op: &Op, inputs: &[&Array]) -> Array {
    match op {
        Op::Linear(linear) => {
            let weight = linear.weight.mapv(f64::from);
            let bias = linear.bias.as_ref().map(|bias| bias.mapv(f64::from));
            let (outputs, channels) = weight.dim();
            let shape = inputs[0].shape();
            let rows = inputs[0].len() / channels;
            let x = inputs[0].to_shape((rows, channels)).unwrap().to_owned();
            let mut y = x.dot(&weight.t());
            if let Some(bias) = bias {
                y += &bias;
            }
            let mut out = shape.to_vec();
            *out.last_mut().unwrap() = outputs;
            y.into_shape_with_order(out).unwrap()
        }
        Op::MatMul => matmul(inputs[0], inputs[1]),
        Op::Add => inputs[0] + inputs[1],
        Op::Sub => inputs[0] - inputs[1],
        Op::Mul => inputs[0] * inputs[1],
        Op::Relu => inputs[0].mapv(|x| x.max(0.0)),
        Op::Clip { min, max } => inputs[0].mapv(|x| x.max((*min).into()).min((*max).into())),
        Op::ToInt8 { step } => {
            let step = f64::from(*step);
            inputs[0].mapv(|x| (x / step).round().clamp(-128.0, 127.0) * step)
        }
        &Op::LayerNormFp16 { axes, eps } => {
            let x = inputs[0].as_standard_layout().into_owned();
            let width: usize = x.shape().iter().rev().take(axes).product();
            let mut y = x.clone();
            for row in y.as_slice_mut().unwrap().chunks_exact_mut(width) {
                let mean = row.iter().sum::<f64>() / width as f64;
                row.iter_mut().for_each(|x| *x -= mean);
                let variance = row.iter().map(|x| x * x).sum::<f64>() / width as f64;
                row.iter_mut().for_each(|x| *x /= (variance + eps).sqrt());
            }
            y
        }
        Op::Lut(function) => inputs[0].mapv(|x| function.eval(x)),
        Op::Dot {
            mean,
            axes,
            keepdims,
        } => {
            let kind = match mean {
                true => ReduceKind::Mean,
                false => ReduceKind::Sum,
            };
            let (axes, keepdims) = (axes.clone(), *keepdims);
            let products = inputs[0] * inputs[1];
            let sum = Op::Reduce {
                kind,
                axes,
                keepdims,
            };
            compute(&sum, &[&products])
        }
        Op::Concat { axis } => {
            let views: Vec<_> = inputs.iter().map(|input| input.view()).collect();
            concatenate(Axis(*axis), &views).unwrap()
        }
        Op::Reduce {
            kind,
            axes,
            keepdims,
        } => {
            let mut y = inputs[0].clone();
            for &axis in axes {
                let reduced = match kind {
                    ReduceKind::Sum => y.sum_axis(Axis(axis)),
                    ReduceKind::Mean => y.mean_axis(Axis(axis)).unwrap(),
                    ReduceKind::Max => y.fold_axis(Axis(axis), f64::MIN, |a, b| a.max(*b)),
                };
                y = reduced.insert_axis(Axis(axis));
            }
            for &axis in axes.iter().rev().filter(|_| !keepdims) {
                y = y.index_axis_move(Axis(axis), 0);
            }
            y
        }
        Op::Move(_) | Op::Island(_) => unreachable!("handled by the caller"),
    }
}

fn matmul(a: &Array, b: &Array) -> Array {
    let (rank_a, rank_b) = (a.ndim(), b.ndim());
    let (m, n) = (a.shape()[rank_a - 2], b.shape()[rank_b - 1]);
    let batch: Vec<usize> = if rank_a >= rank_b {
        a.shape()[..rank_a - 2].to_vec()
    } else {
        b.shape()[..rank_b - 2].to_vec()
    };
    let grown = |x: &Array| {
        let mut shape = batch.clone();
        shape.extend(&x.shape()[x.ndim() - 2..]);
        x.broadcast(shape).unwrap().to_owned()
    };
    let (a, b) = (grown(a), grown(b));
    let mut out = batch.clone();
    out.extend([m, n]);
    let mut y = Array::zeros(out);
    for index in ndarray::indices(batch.as_slice()) {
        let (mut a, mut b, mut y) = (a.view(), b.view(), y.view_mut());
        for &i in index.as_array_view() {
            a = a.index_axis_move(Axis(0), i);
            b = b.index_axis_move(Axis(0), i);
            y = y.index_axis_move(Axis(0), i);
        }
        let product = a
            .into_dimensionality::<Ix2>()
            .unwrap()
            .dot(&b.into_dimensionality::<Ix2>().unwrap());
        y.assign(&product);
    }
    y
}

fn moved(graph: &Graph, outputs: &[ValueId], movement: &Move, x: &Array) -> Vec<Array> {
    let shape = |id: ValueId| IxDyn(&graph.value(id).shape);
    let one = match movement {
        Move::Reshape => x.to_shape(shape(outputs[0])).unwrap().to_owned(),
        Move::Unsqueeze { axis } => x.clone().insert_axis(Axis(*axis)),
        Move::Expand => x.broadcast(shape(outputs[0])).unwrap().to_owned(),
        Move::Transpose { perm } => x.view().permuted_axes(perm.as_slice()).to_owned(),
        Move::Gather {
            axis,
            indices,
            shape,
        } => {
            let length = x.shape()[*axis] as i64;
            let from_front = |&index: &i64| if index < 0 { index + length } else { index } as usize;
            let indices: Vec<usize> = indices.iter().map(from_front).collect();
            let picked = x.select(Axis(*axis), &indices);
            let mut out = x.shape()[..*axis].to_vec();
            out.extend(shape);
            out.extend(&x.shape()[axis + 1..]);
            picked.to_shape(out).unwrap().to_owned()
        }
        Move::Slice {
            axes,
            starts,
            ends,
            steps,
        } => {
            let mut y = x.clone();
            for (i, &axis) in axes.iter().enumerate() {
                let length = y.shape()[axis] as i64;
                let end = ends[i].clamp(-length, length) as isize;
                let slice = Slice::new(starts[i] as isize, Some(end), steps[i] as isize);
                y = y.slice_axis(Axis(axis), slice).to_owned();
            }
            y
        }
        Move::Split { axis, parts } => {
            let sizes = parts.of(x.shape()[*axis]).unwrap();
            let mut start = 0;
            let part = |size: &usize| {
                let end = start + size;
                let slice = Slice::from(start..end);
                start = end;
                x.slice_axis(Axis(*axis), slice).to_owned()
            };
            return sizes.iter().map(part).collect();
        }
    };
    vec![one]
}

fn island(sample: &Sample, node: &dual16_quant::graph::Node, inputs: &[&Array]) -> Vec<Array> {
    let Op::Island(island) = &node.op else {
        unreachable!("an island")
    };
    let mut fed: HashMap<String, Datum> = HashMap::new();
    for (id, array) in node.inputs.iter().zip(inputs) {
        let value = sample.graph.value(*id);
        let name = value.onnx.clone().unwrap();
        if !value.kind.is_float() {
            fed.insert(name.clone(), sample.probe[&name].clone());
            continue;
        }
        fed.insert(
            name,
            Datum::F32(array.mapv(|x| x as f32).as_standard_layout().into_owned()),
        );
    }
    for name in &island.from_float_run {
        fed.insert(name.clone(), sample.probe[name].clone());
    }
    let made = sample.float.run_node(island.onnx_node, &fed).unwrap();
    let floats = island.made.iter().filter_map(|&place| made[place].as_f32());
    floats.map(|tensor| tensor.mapv(f64::from)).collect()
}
