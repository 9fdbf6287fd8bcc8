//! Activations whose definition is a function of others, and IsInf of one sign.

use super::{Node, Rewritten};
use crate::canonical::{
    known::Known,
    replacement::{Replacement, float_attribute},
};

pub(super) fn rewrite(_: &Known<'_>, node: &Node<'_>) -> Rewritten {
    let op = node.op();
    let alpha = |otherwise: f32| node.float("alpha").unwrap_or(otherwise);
    let mut new = Replacement::of(node.proto);
    let x = match op {
        "Mish" | "Selu" | "Celu" | "ThresholdedRelu" | "Shrink" | "Swish" | "SwiGLU" | "IsInf"
        | "HardSwish" => node.needs(0)?,
        _ => return Ok(None),
    };
    Ok(Some(match op {
        "Mish" => {
            let soft = new.node("Softplus", &[x]);
            let gate = new.node("Tanh", &[&soft]);
            new.last("Mul", &[x, &gate])
        }
        "HardSwish" => {
            let gate = new.node_with(
                "HardSigmoid",
                &[x],
                vec![
                    float_attribute("alpha", 1.0 / 6.0),
                    float_attribute("beta", 0.5),
                ],
            );
            new.last("Mul", &[x, &gate])
        }
        "Selu" => {
            let alpha = alpha(1.673_263_2);
            let gamma = new.float(node.float("gamma").unwrap_or(1.050_701));
            let elu = new.node_with("Elu", &[x], vec![float_attribute("alpha", alpha)]);
            new.last("Mul", &[&elu, &gamma])
        }
        "Celu" => {
            let alpha = new.float(alpha(1.0));
            let scaled = new.node("Div", &[x, &alpha]);
            let elu = new.node_with("Elu", &[&scaled], vec![float_attribute("alpha", 1.0)]);
            new.last("Mul", &[&elu, &alpha])
        }
        "ThresholdedRelu" => {
            let (alpha, zero) = (new.float(alpha(1.0)), new.float(0.0));
            let above = new.node("Greater", &[x, &alpha]);
            new.last("Where", &[&above, x, &zero])
        }
        "Shrink" => {
            let limit = node.float("lambd").unwrap_or(0.5);
            let bias = new.float(node.float("bias").unwrap_or(0.0));
            let (high, low, zero) = (new.float(limit), new.float(-limit), new.float(0.0));
            let (above, below) = (
                new.node("Greater", &[x, &high]),
                new.node("Less", &[x, &low]),
            );
            let (less, more) = (new.node("Sub", &[x, &bias]), new.node("Add", &[x, &bias]));
            let outer = new.node("Where", &[&above, &less, &zero]);
            new.last("Where", &[&below, &more, &outer])
        }
        "Swish" | "SwiGLU" => {
            let scaled = match alpha(1.0) {
                1.0 => x.to_owned(),
                alpha => {
                    let alpha = new.float(alpha);
                    new.node("Mul", &[x, &alpha])
                }
            };
            let gate = new.node("Sigmoid", &[&scaled]);
            if op == "Swish" {
                return Ok(Some(new.last("Mul", &[x, &gate])));
            }
            let swish = new.node("Mul", &[x, &gate]);
            new.last("Mul", &[&swish, node.needs(1)?])
        }
        _ => {
            let (positive, negative) = (
                node.int("detect_positive").unwrap_or(1) != 0,
                node.int("detect_negative").unwrap_or(1) != 0,
            );
            match (positive, negative) {
                (true, true) => return Ok(None),
                (false, false) => new.last("Less", &[x, x]),
                (positive, _) => {
                    let sign = if positive { 1.0 } else { -1.0 };
                    let infinity = new.float(sign * f32::INFINITY);
                    new.last("Equal", &[x, &infinity])
                }
            }
        }
    }))
}
