//! The module of a Linear, told by its parameters. Exporters write a functional call
//! (`F.linear(x, self.out_proj.weight)`) down for the module that makes it; whose the layer is,
//! only the name of the weight or of the bias says.

use std::collections::HashSet;

use crate::graph::lower::facts::Facts;

/// Most constants that are looked at between a Linear and its parameter.
const FOLLOWED: usize = 64;

/// What a parameter's name says of the Linear that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    /// The module: `blocks.0.attn`.
    pub(super) module: String,
    /// The Linear: the module itself, or `blocks.0.attn.in_proj` of a parameter `in_proj_weight`.
    pub(super) path: String,
}

/// Owner of the first parameter that a constant is made of, in the order of the operands.
pub(super) fn owner(facts: &Facts<'_>, constant: &str) -> Option<Owner> {
    let mut open = vec![constant];
    let mut seen = HashSet::new();
    while let Some(name) = open.pop() {
        if !facts.is_constant(name) || !seen.insert(name) {
            continue;
        }
        if seen.len() > FOLLOWED {
            return None;
        }
        if let Some(owner) = parse(name) {
            return Some(owner);
        }
        if !facts.model.is_constant(name) {
            let made_of = facts.producer(name).into_iter();
            let operands: Vec<&str> = made_of.flat_map(|node| node.uses()).collect();
            open.extend(operands.into_iter().rev());
        }
    }
    None
}

/// Reads `blocks.0.fc.weight`; what a constant made of it has after a `/` is left out.
fn parse(name: &str) -> Option<Owner> {
    let name = name.split('/').next()?;
    let (module, parameter) = name.rsplit_once('.')?;
    let stem = stem(parameter)?;
    // Weights that are computed from others keep them in modules of their own.
    let module = match module.rsplit_once(".parametrizations.") {
        Some((module, _)) => module,
        None => module,
    };
    let plain = !module.contains(':') && module.split('.').all(|part| !part.is_empty());
    plain.then(|| Owner {
        module: module.to_owned(),
        path: match stem {
            "" => module.to_owned(),
            stem => format!("{module}.{stem}"),
        },
    })
}

/// What stands before `weight` or `bias` in a parameter's name: nothing, or `in_proj`.
fn stem(parameter: &str) -> Option<&str> {
    let computed = ["weight_g", "weight_v", "weight_orig"];
    if computed.contains(&parameter) || parameter.starts_with("original") {
        return Some("");
    }
    let stem = parameter
        .strip_suffix("weight")
        .or_else(|| parameter.strip_suffix("bias"))?;
    match stem {
        "" => Some(""),
        stem => stem.strip_suffix('_').filter(|stem| !stem.is_empty()),
    }
}

/// Whether the module that a node was written for has this parameter path: it is the module itself
/// or one inside. TorchScript numbers the calls of a module that is called again (`fc_1`), and does
/// not tell a module `a.0` from `a.a.0`: `node` is the name that holds the path as it wrote it.
pub(super) fn is_within(path: &str, module: &str, node: Option<&str>) -> bool {
    let whole = node.map(|name| name.trim_start_matches('/').replace('/', "."));
    let whole = whole.as_deref().and_then(|name| name.rsplit_once('.'));
    let readings = [Some(module), whole.map(|(module, _)| module)];
    readings.into_iter().flatten().any(|module| {
        let mut parts = path.split('.');
        module.is_empty()
            || module.split('.').all(|called| {
                parts
                    .next()
                    .is_some_and(|part| part == called || node.is_some() && is_call(called, part))
            })
    })
}

/// Whether this is a numbered call of a module.
fn is_call(called: &str, module: &str) -> bool {
    called
        .strip_prefix(module)
        .and_then(|rest| rest.strip_prefix('_'))
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_names_its_module() {
        let cases = [
            ("blocks.0.fc.weight", "blocks.0.fc", "blocks.0.fc"),
            ("fc.bias", "fc", "fc"),
            ("fc.weight/transposed", "fc", "fc"),
            ("fc.weight/cast/transposed", "fc", "fc"),
            ("a.attn.in_proj_weight", "a.attn", "a.attn.in_proj"),
            ("a.attn.in_proj_bias", "a.attn", "a.attn.in_proj"),
            ("a.attn.q_proj_weight", "a.attn", "a.attn.q_proj"),
            ("fc.weight_v", "fc", "fc"),
            ("fc.parametrizations.weight.original0", "fc", "fc"),
        ];
        for (name, module, path) in cases {
            let wanted = Owner {
                module: module.to_owned(),
                path: path.to_owned(),
            };
            assert_eq!(parse(name), Some(wanted), "{name}");
        }
    }

    #[test]
    fn other_constants_name_none() {
        for name in [
            "",
            "weight",
            ".weight",
            "a..weight",
            "onnx::MatMul_123",
            "val_12",
            "fc.scale",
            "fc._weight",
            "fc.preweight",
            "/blocks.0/Constant_output_0",
            "StatefulPartitionedCall/model/dense/MatMul/ReadVariableOp:0",
            "model/dense.weight",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_path_is_within_the_module_that_calls_it() {
        let dynamo = |path, module| is_within(path, module, None);
        assert!(dynamo("a.fc", "a.fc") && dynamo("a.fc", "a") && dynamo("a.fc", ""));
        assert!(!dynamo("embed.word", "head") && !dynamo("a", "a.fc") && !dynamo("fc", "fc_1"));
        let legacy = |path, module, node| is_within(path, module, Some(node));
        assert!(legacy("a.fc", "a.fc_1", "/a/fc_1/Gemm"));
        assert!(legacy("a.b.fc", "a_2.b.fc", "/a_2/b/fc/Gemm"));
        assert!(legacy("a.a.0.fc", "a.0.fc", "/a/a.0/fc/Gemm"));
        assert!(!legacy("a.fc", "a.fc_x", "/a/fc_x/Gemm"));
    }
}
