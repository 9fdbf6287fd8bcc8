//! BatchNormalization folded into the Conv or the product before it, where nothing else reads what
//! lies between. For inference it is a factor and a summand for each channel (ONNX,
//! BatchNormalization-15): y = (x - mean) / sqrt(var + epsilon) * scale + B. Its channels are along axis
//! 1, so of what a MatMul makes only that of rank 2 has them where the weight has its outputs.

use std::collections::HashMap;

use ndarray::Axis;

use super::known::Known;
use crate::{
    onnx::{NodeProto, f32_initializer},
    tensor::Tensor,
};

/// Default `epsilon`.
const EPSILON: f32 = 1e-5;

/// The nodes without the BatchNormalizations that a product before them can do.
pub(super) fn batch_norms(
    nodes: Vec<NodeProto>,
    known: &mut Known<'_>,
    outputs: &[&str],
) -> Vec<NodeProto> {
    if !nodes
        .iter()
        .any(|node| node.op_type == "BatchNormalization")
    {
        return nodes;
    }
    let mut uses: HashMap<String, usize> = HashMap::new();
    nodes.iter().for_each(|node| count(node, &mut uses));
    for name in outputs {
        *uses.entry((*name).to_owned()).or_default() += 1;
    }
    let mut folding = Folding {
        done: Vec::with_capacity(nodes.len()),
        maker: HashMap::new(),
        uses,
    };
    for node in nodes {
        if folding.fold(&node, known).is_none() {
            folding.push(node);
        }
    }
    folding.done
}

/// Counts what a node reads, in its bodies as well.
fn count(node: &NodeProto, uses: &mut HashMap<String, usize>) {
    let bodies = node
        .attribute
        .iter()
        .flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
    let mut read = node.input.clone();
    for body in bodies {
        body.node.iter().for_each(|node| count(node, uses));
        read.extend(body.output.iter().map(|value| value.name.clone()));
    }
    for name in read {
        *uses.entry(name).or_default() += 1;
    }
}

/// A product, by its place: all in one node, or a MatMul and what is added to it.
enum Product {
    /// Conv or Gemm: weight and bias are inputs.
    Whole(usize),
    /// MatMul alone.
    MatMul(usize),
    /// MatMul, and the Add of a constant, which is the input of this index.
    Added(usize, usize, usize),
}

struct Folding {
    done: Vec<NodeProto>,
    /// Where in `done` each value is made.
    maker: HashMap<String, usize>,
    /// How many read each value.
    uses: HashMap<String, usize>,
}

impl Folding {
    fn push(&mut self, node: NodeProto) {
        for name in &node.output {
            self.maker.insert(name.clone(), self.done.len());
        }
        self.done.push(node);
    }

    /// Folds a node into what is before it; None where it stays.
    fn fold(&mut self, norm: &NodeProto, known: &mut Known<'_>) -> Option<()> {
        let is_norm = norm.op_type == "BatchNormalization" && norm.domain.is_empty();
        if !is_norm || norm.output.iter().skip(1).any(|name| !name.is_empty()) {
            return None;
        }
        let product = self.product(norm.input.first()?, known)?;
        let (matrix, bias) = match product {
            Product::Whole(at) => (at, self.done[at].input.get(2)),
            Product::MatMul(at) => (at, None),
            Product::Added(at, add, index) => (at, self.done[add].input.get(index)),
        };
        let weight = self.done[matrix].input.get(1)?.clone();
        // A MatMul has its weight as [K, O], the others as [O, ..].
        let outputs_at = usize::from(!matches!(product, Product::Whole(_)));
        let bias = bias.filter(|name| !name.is_empty());
        let folded = Folded::of(norm, known, &weight, bias, outputs_at)?;
        let output = norm.output.first()?.clone();
        let (weight_name, bias_name) = (
            format!("{weight}/{output}"),
            format!("{weight}/{output}.bias"),
        );
        known.constant(f32_initializer(&weight_name, folded.weight.view()));
        known.constant(f32_initializer(&bias_name, folded.bias.view()));
        // What a MatMul makes is not what it made: nobody is to find it under the old name.
        let between = format!("{output}/product");
        // The product keeps its place; what follows finds it under the norm's output.
        self.done[matrix].input[1] = weight_name;
        match product {
            Product::Whole(at) => {
                let product = &mut self.done[at];
                product.input.truncate(2);
                product.input.push(bias_name);
                product.output = vec![output.clone()];
                self.maker.insert(output, at);
            }
            Product::MatMul(at) => {
                self.done[at].output = vec![between.clone()];
                self.push(NodeProto {
                    op_type: "Add".to_owned(),
                    input: vec![between, bias_name],
                    attribute: Vec::new(),
                    ..norm.clone()
                });
            }
            Product::Added(at, add, _) => {
                self.done[at].output = vec![between.clone()];
                let sum = &mut self.done[add];
                sum.input = vec![between, bias_name];
                sum.output = vec![output.clone()];
                self.maker.insert(output, add);
            }
        }
        Some(())
    }

    /// The product that makes a value which nobody else reads.
    fn product(&self, name: &str, known: &Known<'_>) -> Option<Product> {
        let at = self.only(name)?;
        let node = &self.done[at];
        match node.op_type.as_str() {
            "Conv" | "Gemm" => Some(Product::Whole(at)),
            "MatMul" => self.is_plain(at, known).then_some(Product::MatMul(at)),
            "Add" => (0..2).find_map(|index| {
                let product = self.only(node.input.get(1 - index)?)?;
                let fits = is_row(known, node.input.get(index)?)
                    && self.done[product].op_type == "MatMul"
                    && self.is_plain(product, known);
                fits.then_some(Product::Added(product, at, index))
            }),
            _ => None,
        }
    }

    /// Who makes a value that has one reader.
    fn only(&self, name: &str) -> Option<usize> {
        let one = self.uses.get(name) == Some(&1);
        self.maker.get(name).copied().filter(|_| one)
    }

    /// Whether a MatMul is of rank 2 with a constant on the right.
    fn is_plain(&self, at: usize, known: &Known<'_>) -> bool {
        let rank = |index: usize| known.rank(self.done[at].input.get(index)?);
        rank(0) == Some(2) && rank(1) == Some(2)
    }
}

/// Whether a constant is one row, which is added to each: [1, O] or [O].
fn is_row(known: &Known<'_>, name: &str) -> bool {
    let shape = known.dims(name).unwrap_or_default();
    matches!(shape.as_slice(), [_] | [1, _]) && known.is_constant(name)
}

/// Weight and bias that do what a norm does as well.
struct Folded {
    weight: Tensor,
    bias: Tensor,
}

impl Folded {
    fn of(
        norm: &NodeProto,
        known: &Known<'_>,
        weight: &str,
        bias: Option<&String>,
        outputs_at: usize,
    ) -> Option<Folded> {
        let mut weight = known.all_floats(weight)?;
        let channels = weight.shape().get(outputs_at).copied()?;
        let parameter = |name: &String| -> Option<Vec<f64>> {
            let values = known.all_floats(name)?;
            let values: Vec<f64> = values.iter().map(|&x| f64::from(x)).collect();
            (values.len() == channels).then_some(values)
        };
        let bias = match bias {
            Some(name) => parameter(name)?,
            None => vec![0.0; channels],
        };
        let of_norm = |index: usize| parameter(norm.input.get(index)?);
        let (scale, summand, mean, variance) = (of_norm(1)?, of_norm(2)?, of_norm(3)?, of_norm(4)?);
        let epsilon = norm
            .attribute
            .iter()
            .find(|attribute| attribute.name == "epsilon");
        let epsilon = epsilon.and_then(|attribute| attribute.f).unwrap_or(EPSILON);
        let deviation = |variance: f64| (variance + f64::from(epsilon)).sqrt();
        let factors = scale.iter().zip(&variance);
        let factors: Vec<f64> = factors.map(|(scale, &v)| scale / deviation(v)).collect();
        for (mut channel, &factor) in weight.axis_iter_mut(Axis(outputs_at)).zip(&factors) {
            channel.mapv_inplace(|w| (f64::from(w) * factor) as f32);
        }
        let before = bias.iter().zip(&mean).zip(&factors).zip(&summand);
        let bias: Vec<f32> = before
            .map(|(((bias, mean), factor), summand)| ((bias - mean) * factor + summand) as f32)
            .collect();
        let finite = weight.iter().chain(&bias).all(|x| x.is_finite());
        let bias = Tensor::from_shape_vec(vec![channels], bias).ok()?;
        finite.then_some(Folded { weight, bias })
    }
}
