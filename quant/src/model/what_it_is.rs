//! What a model without a Linear layer has instead, and what to do about it.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{OnnxNode, node::subgraphs};
use crate::{
    limits::shown,
    onnx::{GraphProto, NodeProto},
};

/// Operators of models that somebody has quantized already; beside these, whatever begins with
/// `QLinear`, `QAttention` and the like in another domain.
const QUANTIZED: [&str; 8] = [
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul",
    "ConvInteger",
    "MatMulNBits",
];
const CONVOLUTIONS: [&str; 3] = ["Conv", "ConvTranspose", "DeformConv"];
const RECURRENT: [&str; 3] = ["LSTM", "GRU", "RNN"];
const PRODUCTS: [&str; 3] = ["MatMul", "Gemm", "Einsum"];
/// Kinds of operators that a message lists.
const LISTED: usize = 4;

/// Why a model of these nodes has nothing to quantize: what it has instead, and in two more lines what
/// would be right.
pub fn without_linear(nodes: &[OnnxNode]) -> String {
    let mut operators: Vec<&str> = nodes.iter().map(|node| node.op_type.as_str()).collect();
    let bodies = nodes.iter().flat_map(OnnxNode::subgraphs);
    bodies.for_each(|body| operators_of(body, &mut operators));
    let counts = Counts::of(operators.into_iter());
    let inner = nodes.iter().find_map(product_inside);
    let quantized = counts.only(is_quantized);
    let convolutions = counts.only(|operator| CONVOLUTIONS.contains(&operator));
    let recurrent = counts.only(|operator| RECURRENT.contains(&operator));
    let products = counts.only(|operator| PRODUCTS.contains(&operator));
    let (seen, remedy) = if !quantized.is_empty() {
        (
            format!("it is already quantized, by {}", quantized.told()),
            [
                "give the float model that it was made from: the input of quantize_static, or the \
                 model before prepare and convert",
                "dual16 measures against float, and float weights cannot be had back from these",
            ],
        )
    } else if let Some(inner) = inner {
        (
            inner,
            [
                "a layer inside a subgraph is not quantized; export a model whose layers are in the \
                 main graph:",
                "trace it rather than script it, with the loop unrolled to a fixed number of steps",
            ],
        )
    } else if !recurrent.is_empty() {
        (
            format!("its weights are in {}", recurrent.told()),
            [
                "a recurrent operator runs in float here, its weights with it",
                "to quantize them write the cell with Linear layers, unrolled",
            ],
        )
    } else if !convolutions.is_empty() {
        (
            format!(
                "its weights are in {}, convolutions only",
                convolutions.told()
            ),
            [
                "dual16 is about Linear layers; a Conv runs in float here and nothing would be \
                 quantized",
                "if a 1x1 Conv is a Linear in your network, export it as torch.nn.Linear",
            ],
        )
    } else if !products.is_empty() {
        (
            format!("{} of it multiply computed tensors only", products.told()),
            [
                "a Linear has a weight that the file holds as an initializer",
                "export with the weights in the model: not as inputs, and not computed from inputs",
            ],
        )
    } else {
        (
            format!("it has {}", counts.told()),
            [
                "is it the part of a model before or after its layers?",
                "give the model that has the layers",
            ],
        )
    };
    format!(
        "it has no Linear layer (a MatMul or Gemm with a constant weight): {seen}\n  {}\n  {}",
        remedy[0], remedy[1]
    )
}

/// Why a model that somebody has quantized is refused; None for any other. It is one if an operator
/// works on integers in place of floats, or if a product has both its operands from
/// DequantizeLinear, the weight a constant.
pub(super) fn already_quantized(graph: &GraphProto) -> Option<String> {
    let integer = |node: &&NodeProto| {
        ["QLinear", "QAttention", "QGemm"]
            .iter()
            .any(|q| node.op_type.starts_with(q))
    };
    let makers: HashMap<&str, &NodeProto> = graph
        .node
        .iter()
        .flat_map(|node| node.output.iter().map(move |name| (name.as_str(), node)))
        .collect();
    let constants: HashSet<&str> = graph
        .initializer
        .iter()
        .map(|tensor| tensor.name.as_str())
        .collect();
    let dequantized = |node: &NodeProto, index: usize| {
        let mut made = makers.get(node.input.get(index)?.as_str()).copied()?;
        if made.op_type == "Transpose" {
            made = makers.get(made.input.first()?.as_str()).copied()?;
        }
        (made.op_type == "DequantizeLinear")
            .then(|| made.input.first())
            .flatten()
    };
    let is_made_by = |name: &String, op: &str| {
        makers
            .get(name.as_str())
            .is_some_and(|node| node.op_type == op)
    };
    let both = |node: &&NodeProto| {
        let product = matches!(node.op_type.as_str(), "MatMul" | "Gemm" | "Conv");
        product
            && dequantized(node, 0).is_some_and(|q| is_made_by(q, "QuantizeLinear"))
            && dequantized(node, 1)
                .is_some_and(|q| constants.contains(q.as_str()) || is_made_by(q, "Constant"))
    };
    let found = graph
        .node
        .iter()
        .find(integer)
        .or_else(|| graph.node.iter().find(both))?;
    Some(format!(
        "it is already quantized: node '{}' (operator {}) works on integers\n  \
         give the float model that it was made from: the input of quantize_static, or the model \
         before prepare and convert\n  \
         dual16 measures against float, and float weights cannot be had back from these",
        shown(found.label().as_bytes()),
        shown(found.op_type.as_bytes())
    ))
}

fn is_quantized(operator: &str) -> bool {
    let quantized = |name: &str| {
        name.starts_with("QLinear") || name.starts_with("QAttention") || name.starts_with("QGemm")
    };
    QUANTIZED.contains(&operator) || quantized(operator)
}

/// The first product inside a node's subgraphs, as a sentence.
fn product_inside(node: &OnnxNode) -> Option<String> {
    let inner = node.subgraphs().find_map(product_of)?;
    let name = match inner.name.as_str() {
        "" => inner.output.first().map_or("", String::as_str),
        name => name,
    };
    Some(format!(
        "{} '{}' is inside {} '{}'",
        inner.op_type,
        shown(name.as_bytes()),
        shown(node.op_type.as_bytes()),
        shown(node.label().as_bytes())
    ))
}

fn product_of(graph: &GraphProto) -> Option<&NodeProto> {
    let own = graph
        .node
        .iter()
        .find(|node| PRODUCTS.contains(&node.op_type.as_str()));
    own.or_else(|| {
        let attributes = graph.node.iter().flat_map(|node| &node.attribute);
        attributes.flat_map(subgraphs).find_map(product_of)
    })
}

/// Operators of a body or branch and of those inside.
fn operators_of<'a>(graph: &'a GraphProto, into: &mut Vec<&'a str>) {
    for node in &graph.node {
        into.push(&node.op_type);
        let inside = node.attribute.iter().flat_map(subgraphs);
        inside.for_each(|body| operators_of(body, into));
    }
}

/// Operators and how many of each there are.
struct Counts<'a>(BTreeMap<&'a str, usize>);

impl<'a> Counts<'a> {
    fn of(operators: impl Iterator<Item = &'a str>) -> Self {
        let mut counts = BTreeMap::new();
        operators.for_each(|operator| *counts.entry(operator).or_default() += 1);
        Self(counts)
    }

    fn only(&self, wanted: impl Fn(&str) -> bool) -> Self {
        let all = self.0.iter().map(|(&operator, &count)| (operator, count));
        Self(all.filter(|(operator, _)| wanted(operator)).collect())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// "12 Conv, 3 Relu and others", the most frequent first.
    fn told(&self) -> String {
        let mut all: Vec<_> = self.0.iter().collect();
        all.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let one =
            |(operator, count): &(&&str, &usize)| format!("{count} {}", shown(operator.as_bytes()));
        let told: Vec<_> = all.iter().take(LISTED).map(one).collect();
        match (told.is_empty(), all.len() > LISTED) {
            (true, _) => "no node at all".to_owned(),
            (_, true) => format!("{} and others", told.join(", ")),
            (_, false) => told.join(", "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::AttributeProto;

    fn node(operator: &str, name: &str) -> NodeProto {
        NodeProto {
            op_type: operator.to_owned(),
            name: name.to_owned(),
            ..NodeProto::default()
        }
    }

    fn told(nodes: Vec<NodeProto>) -> String {
        let nodes: Vec<OnnxNode> = nodes.into_iter().map(OnnxNode::from).collect();
        let text = without_linear(&nodes);
        assert!(text.starts_with("it has no Linear layer"), "{text}");
        assert_eq!(text.lines().count(), 3, "{text}");
        text
    }

    #[test]
    fn each_kind_of_model_is_told() {
        let cases = [
            (
                vec![
                    "QuantizeLinear",
                    "DequantizeLinear",
                    "DequantizeLinear",
                    "MatMul",
                ],
                "already quantized, by 2 DequantizeLinear, 1 QuantizeLinear",
            ),
            (vec!["QLinearMatMul"], "already quantized"),
            (vec!["Conv", "Relu", "Conv"], "2 Conv, convolutions only"),
            (vec!["LSTM", "Conv"], "1 LSTM"),
            (
                vec!["MatMul", "Softmax"],
                "1 MatMul of it multiply computed tensors only",
            ),
            (vec!["Resize"], "it has 1 Resize"),
            (
                vec!["A", "B", "C", "D", "E"],
                "1 A, 1 B, 1 C, 1 D and others",
            ),
            (vec![], "no node at all"),
        ];
        for (operators, says) in cases {
            let text = told(
                operators
                    .into_iter()
                    .map(|operator| node(operator, ""))
                    .collect(),
            );
            assert!(text.contains(says), "{says}: {text}");
        }
    }

    #[test]
    fn a_layer_in_a_body_is_named_with_what_it_is_in() {
        let holding = |inner: NodeProto, operator: &str, name: &str| {
            let body = GraphProto {
                node: vec![inner],
                ..GraphProto::default()
            };
            let attribute = AttributeProto {
                g: Some(body),
                ..AttributeProto::default()
            };
            NodeProto {
                attribute: vec![attribute],
                ..node(operator, name)
            }
        };
        let text = told(vec![holding(node("LSTM", "memory"), "If", "rate")]);
        assert!(text.contains("its weights are in 1 LSTM"), "{text}");
        let inner = holding(node("Gemm", "fc"), "If", "branch");
        let text = told(vec![node("Conv", ""), holding(inner, "Loop", "steps")]);
        assert!(text.contains("Gemm 'fc' is inside Loop 'steps'"), "{text}");
        assert!(text.contains("unrolled"), "{text}");
    }
}
