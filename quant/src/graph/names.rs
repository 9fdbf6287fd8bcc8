//! What an operation is called: by this program, by PyTorch and by the ONNX file.

/// The names of one operation of the file, shared by all nodes it became.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// What the tables print. Where the operation became several nodes, the others have a suffix.
    pub name: String,
    /// Path of the PyTorch module that it belongs to; empty at the root or where nothing tells it.
    pub module: String,
    /// The module is nothing but this operation, so its path is a name of it. A module that is
    /// called twice is the name of both calls.
    pub is_module: bool,
    /// "Linear", or the ONNX operator.
    pub op: String,
    /// ONNX nodes it was recognised in, by name.
    pub nodes: Vec<String>,
    /// Values that those nodes make in the ONNX file.
    pub outputs: Vec<String>,
    /// What it would be called by module and running number alone, where that is another name.
    pub scoped: Option<String>,
}

impl Names {
    /// Every name with its rank: of two operations of the same name the one of lower rank is meant.
    pub fn ranked(&self) -> impl Iterator<Item = (usize, &str)> {
        let module = Some(self.module.as_str()).filter(|_| self.is_module);
        let file = self.nodes.iter().chain(&self.outputs).map(String::as_str);
        std::iter::once((0, self.name.as_str()))
            .chain(module.map(|name| (1, name)))
            .chain(self.scoped.as_deref().map(|name| (2, name)))
            .chain(file.map(|name| (3, name)))
            .filter(|(_, name)| !name.is_empty())
    }
}
