//! What messages call a node: few files name all of theirs.

use super::NodeProto;

impl NodeProto {
    /// Its name, else its operator and the first value it makes: "MatMul -> logits".
    pub(crate) fn label(&self) -> String {
        node_label(&self.name, &self.op_type, &self.output)
    }
}

/// The same of a node in another form.
pub(crate) fn node_label(name: &str, op_type: &str, outputs: &[String]) -> String {
    match (name, outputs.iter().find(|output| !output.is_empty())) {
        ("", Some(output)) => format!("{op_type} -> {output}"),
        ("", None) => op_type.to_owned(),
        (name, _) => name.to_owned(),
    }
}
