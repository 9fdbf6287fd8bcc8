//! Attention (ONNX, Attention-23 to -25) as the products, masks and Softmax that define it.

mod mask;

use super::{Node, Rewritten};
use crate::{
    canonical::{
        known::Known,
        refusal::Refusal,
        replacement::{Replacement, int_attribute, ints_attribute},
    },
    onnx::DataType,
};

pub(super) fn rewrite(known: &Known<'_>, node: &Node<'_>) -> Rewritten {
    if node.op() != "Attention" {
        return Ok(None);
    }
    let (q, k, v) = (node.needs(0)?, node.needs(1)?, node.needs(2)?);
    let rank = known.rank(q).ok_or_else(|| {
        Refusal::new(format!(
            "the rank of '{q}' is not known; declare its shape in the model"
        ))
    })?;
    if node.input(4).is_some() != node.input(5).is_some() {
        return Err(Refusal::new("of past_key and past_value it has only one"));
    }
    let mut new = Replacement::of(node.proto);
    let heads = Heads::of(known, node, rank)?;
    let q = heads.split(&mut new, q, heads.q)?;
    let k = heads.split(&mut new, k, heads.kv)?;
    let v = heads.split(&mut new, v, heads.kv)?;
    let mut with_past = |past: Option<&str>, present: String| match past {
        Some(past) => new.node_with("Concat", &[past, &present], vec![int_attribute("axis", 2)]),
        None => present,
    };
    let (k, v) = (with_past(node.input(4), k), with_past(node.input(5), v));
    let scale = scale(known, node, &mut new, &q, &heads);
    let scaled = new.node("Mul", &[&q, &scale]);
    let (k_all, v_all) = (
        heads.repeated(&mut new, &q, &k),
        heads.repeated(&mut new, &q, &v),
    );
    let turned = new.node_with(
        "Transpose",
        &[&k_all],
        vec![ints_attribute("perm", &[0, 1, 3, 2])],
    );
    let products = new.node("MatMul", &[&scaled, &turned]);
    let capped = match node.float("softcap").unwrap_or(0.0) {
        cap if cap > 0.0 => {
            let cap = new.float(cap);
            let small = new.node("Div", &[&products, &cap]);
            let bent = new.node("Tanh", &[&small]);
            new.node("Mul", &[&bent, &cap])
        }
        _ => products.clone(),
    };
    let mask = mask::bias(known, node, &mut new, &q, &k)?;
    let biased = match &mask {
        Some(mask) => new.node("Add", &[&capped, &mask.bias]),
        None => capped.clone(),
    };
    let soft = new.node_with("Softmax", &[&biased], vec![int_attribute("axis", -1)]);
    let soft = match &mask {
        Some(mask) if mask.may_cover_rows => {
            // A row without a key to attend to has no weight at all.
            let (zero, axes) = (new.float(0.0), new.ints(&[-1]));
            let infinity = new.float(f32::NEG_INFINITY);
            let largest = new.node("ReduceMax", &[&mask.bias, &axes]);
            let covered = new.node("Equal", &[&largest, &infinity]);
            new.node("Where", &[&covered, &zero, &soft])
        }
        _ => soft,
    };
    let y = new.node("MatMul", &[&soft, &v_all]);
    let exposed = match node.int("qk_matmul_output_mode").unwrap_or(0) {
        0 => products,
        1 => capped,
        2 => biased,
        3 => soft,
        other => {
            return Err(Refusal::new(format!(
                "its qk_matmul_output_mode {other} is none that ONNX has"
            )));
        }
    };
    let first = match rank {
        3 => {
            let turned = new.node_with(
                "Transpose",
                &[&y],
                vec![ints_attribute("perm", &[0, 2, 1, 3])],
            );
            let flat = new.ints(&[0, 0, -1]);
            ("Reshape", vec![turned, flat])
        }
        _ => ("Identity", vec![y]),
    };
    let all = [
        first,
        ("Identity", vec![k]),
        ("Identity", vec![v]),
        ("Identity", vec![exposed]),
    ];
    let parts = all
        .iter()
        .map(|(op, inputs)| (*op, inputs.iter().map(String::as_str).collect(), Vec::new()));
    Ok(Some(new.last_each(parts.collect())))
}

/// How many heads there are, where that is fixed.
struct Heads {
    rank: usize,
    q: Option<i64>,
    kv: Option<i64>,
}

impl Heads {
    fn of(known: &Known<'_>, node: &Node<'_>, rank: usize) -> Result<Heads, Refusal> {
        let of = |name: &str, attribute: &str| match rank {
            3 => node
                .int(attribute)
                .filter(|&heads| heads > 0)
                .map(Some)
                .ok_or_else(|| Refusal::new(format!("its {attribute} is missing"))),
            4 => {
                let shape = known.value(name).shape;
                Ok(shape.and_then(|shape| Some((*shape.get(1)?)? as i64)))
            }
            _ => Err(Refusal::new(format!(
                "its input has {rank} dimensions, not 3 or 4"
            ))),
        };
        let (q, kv) = (
            of(node.needs(0)?, "q_num_heads")?,
            of(node.needs(1)?, "kv_num_heads")?,
        );
        match (q, kv) {
            (Some(q), Some(kv)) if kv == 0 || q % kv != 0 => Err(Refusal::new(format!(
                "its {q} heads of queries do not share {kv} of keys evenly"
            ))),
            _ => Ok(Heads { rank, q, kv }),
        }
    }

    /// `[batch, heads, length, size]`.
    fn split(
        &self,
        new: &mut Replacement<'_>,
        x: &str,
        heads: Option<i64>,
    ) -> Result<String, Refusal> {
        if self.rank == 4 {
            return Ok(x.to_owned());
        }
        let shape = new.ints(&[0, 0, heads.unwrap_or(1), -1]);
        let split = new.node("Reshape", &[x, &shape]);
        Ok(new.node_with(
            "Transpose",
            &[&split],
            vec![ints_attribute("perm", &[0, 2, 1, 3])],
        ))
    }

    /// Each head of keys once for every head of queries that shares it.
    fn repeated(&self, new: &mut Replacement<'_>, q: &str, x: &str) -> String {
        let times = match (self.q, self.kv) {
            (Some(q), Some(kv)) if q == kv => return x.to_owned(),
            (Some(q), Some(kv)) => new.ints(&[q / kv]),
            _ => {
                let mut heads = |x: &str| {
                    new.node_with(
                        "Shape",
                        &[x],
                        vec![int_attribute("start", 1), int_attribute("end", 2)],
                    )
                };
                let (q, kv) = (heads(q), heads(x));
                new.node("Div", &[&q, &kv])
            }
        };
        let joined = |new: &mut Replacement<'_>, parts: &[&str]| {
            new.node_with("Concat", parts, vec![int_attribute("axis", 0)])
        };
        let (ones, axis) = (new.ints(&[1, 1]), new.ints(&[2]));
        let wide = new.node("Unsqueeze", &[x, &axis]);
        let target = joined(new, &[&ones, &times, &ones]);
        let wide = new.node("Expand", &[&wide, &target]);
        let rest = new.node_with("Shape", &[x], vec![int_attribute("start", 2)]);
        let front = new.ints(&[0, -1]);
        let shape = joined(new, &[&front, &rest]);
        new.node("Reshape", &[&wide, &shape])
    }
}

/// One over the root of a head's size, unless stated.
fn scale(
    known: &Known<'_>,
    node: &Node<'_>,
    new: &mut Replacement<'_>,
    q: &str,
    heads: &Heads,
) -> String {
    if let Some(scale) = node.float("scale") {
        return new.float(scale);
    }
    let shape = node.input(0).and_then(|q| known.value(q).shape);
    let last = shape.and_then(|shape| *shape.last()?);
    if let Some(last) = last {
        let size = match heads.rank {
            3 => last as f32 / heads.q.unwrap_or(1) as f32,
            _ => last as f32,
        };
        return new.float(1.0 / size.sqrt());
    }
    let size = new.node_with("Shape", &[q], vec![int_attribute("start", 3)]);
    let to = vec![int_attribute("to", i32::from(DataType::Float).into())];
    let size = new.node_with("Cast", &[&size], to);
    let root = new.node("Sqrt", &[&size]);
    new.node("Reciprocal", &[&root])
}
