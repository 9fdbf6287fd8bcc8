//! Module names as PyTorch's exporter writes them: the Python `repr` of a list of strings, such as
//! `['', 'blocks.0', 'blocks.0.norm1', 'layer_norm']`. The first is the root module, the last the
//! function (the fx node), between them the modules from the outside in. The exporter before it, for
//! TorchScript, wrote them into the names of nodes: `/blocks.0/norm1/Sub_1`.

/// Modules and function that an ONNX node was exported from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Innermost module; empty at the root.
    pub module: String,
    /// Function in the module's `forward`: "linear_3", "gelu"; None where the file does not say.
    pub function: Option<String>,
}

impl Scope {
    /// Parses the list; None where it is no such list.
    pub fn parse(repr: &str) -> Option<Scope> {
        let (module, function) = last_two(repr)?;
        Some(Scope {
            module: module.unwrap_or_default(),
            function: Some(function),
        })
    }

    /// Reads a node's name as TorchScript's exporter writes it; None where it is no such name. An
    /// element of a list or a Sequential repeats what it is an element of: `/net/net.0/net.0.1/Gemm`.
    pub fn of_node(name: &str) -> Option<Scope> {
        let (modules, _) = name.strip_prefix('/')?.rsplit_once('/').unwrap_or_default();
        let mut path = String::new();
        let mut last = "";
        for part in modules.split('/') {
            let is_element = part
                .strip_prefix(last)
                .is_some_and(|rest| rest.starts_with('.'));
            if is_element && !last.is_empty() {
                path.truncate(path.len() - last.len());
            } else if !path.is_empty() {
                path.push('.');
            }
            path.push_str(part);
            last = part;
        }
        Some(Scope {
            module: path,
            function: None,
        })
    }
}

/// The last but one and the last name of a list. The others are not kept: an empty one is two bytes
/// in a file, and many times that in memory.
fn last_two(repr: &str) -> Option<(Option<String>, String)> {
    let inner = repr.trim().strip_prefix('[')?.strip_suffix(']')?;
    let (mut before, mut last) = (None, None);
    let mut chars = inner.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace() || *c == ',').is_some() {}
        let Some(quote) = chars.next() else {
            return last.map(|last| (before, last));
        };
        if quote != '\'' && quote != '"' {
            return None;
        }
        let mut name = String::new();
        loop {
            match chars.next()? {
                c if c == quote => break,
                // Names of modules are identifiers: only the quotes and the backslash are escaped.
                '\\' => name.push(chars.next()?),
                c => name.push(c),
            }
        }
        before = last.replace(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn innermost_module_and_function() {
        let cases = [
            (
                "['', 'blocks.0', 'blocks.0.norm1', 'layer_norm']",
                "blocks.0.norm1",
                "layer_norm",
            ),
            ("['', 'add']", "", "add"),
            ("['add']", "", "add"),
            (r#"['', "it's", 'a\'b']"#, "it's", "a'b"),
            (r"[ '' ,'a\\b','f' ]", r"a\b", "f"),
        ];
        for (repr, module, function) in cases {
            let scope = Scope::parse(repr).unwrap();
            assert_eq!(
                (scope.module.as_str(), scope.function.as_deref()),
                (module, Some(function))
            );
        }
    }

    #[test]
    fn names_of_nodes_are_paths() {
        let cases = [
            ("/blocks.1/fc2/MatMul", "blocks.1.fc2"),
            ("/blocks/blocks.1/fc2/MatMul", "blocks.1.fc2"),
            ("/net/net.0/net.0.1/Gemm", "net.0.1"),
            (
                "/layer2/layer2.0/downsample/downsample.1/Gemm_1",
                "layer2.0.downsample.1",
            ),
            (
                "/encoder/layer.0/attention/self/query/MatMul",
                "encoder.layer.0.attention.self.query",
            ),
            ("/fc/fcs/Gemm", "fc.fcs"),
            ("/MatMul_3", ""),
            ("/", ""),
            ("//.a//x", ".a."),
        ];
        for (name, module) in cases {
            let scope = Scope::of_node(name).unwrap();
            assert_eq!(
                (scope.module.as_str(), scope.function),
                (module, None),
                "{name}"
            );
        }
        for name in ["", "MatMul_3", "StatefulPartitionedCall/model/dense/MatMul"] {
            assert_eq!(Scope::of_node(name), None, "{name}");
        }
    }

    #[test]
    fn anything_else_is_no_scope() {
        for repr in [
            "",
            "[]",
            "blocks.0",
            "['unclosed]",
            "['a', b]",
            "[1, 2]",
            r"['a\",
        ] {
            assert_eq!(Scope::parse(repr), None, "{repr}");
        }
    }
}
