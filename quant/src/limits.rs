//! How much a job's files may hold. The limits only refuse: what they let through is computed the
//! same under any of them. Whoever reads a file is handed them; there are no others.

use std::fmt;

use thiserror::Error;

/// Bytes of a name that a message repeats.
const SHOWN: usize = 64;

/// What one file of a job may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputLimits {
    /// Nodes of a model, those of its subgraphs and functions included.
    pub model_nodes: u64,
    /// Tensors in a file: initializers and tensors of attributes in a model, tensors of a
    /// safetensors file, arrays of an archive.
    pub file_tensors: u64,
    /// Bytes of one name: of a tensor, a value, a node, its operator, its module.
    pub tensor_name_bytes: u64,
    /// Subgraphs of a model within one another; the branch of an If has a depth of 1.
    pub graph_nesting: u64,
    /// Bytes of all tensors of a batch file, unpacked.
    pub unpacked_bytes: u64,
}

/// A file that holds more than one of the [`InputLimits`] lets through.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{file}: {what}; at most {max} may be (the limit {limit}, which the server's {} sets)",
    .limit.flag()
)]
pub struct Exceeded {
    /// File name as the user gave it.
    pub file: String,
    /// What has how much.
    pub what: String,
    /// The limit's figure.
    pub max: u64,
    /// Which limit.
    pub limit: InputLimit,
}

/// One of the [`InputLimits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputLimit {
    /// [`InputLimits::model_nodes`].
    ModelNodes,
    /// [`InputLimits::file_tensors`].
    FileTensors,
    /// [`InputLimits::tensor_name_bytes`].
    TensorNameBytes,
    /// [`InputLimits::graph_nesting`].
    GraphNesting,
    /// [`InputLimits::unpacked_bytes`].
    UnpackedBytes,
}

impl Default for InputLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl InputLimits {
    /// Well above what real models and batches have.
    pub const DEFAULT: Self = Self {
        model_nodes: 100_000,
        file_tensors: 100_000,
        tensor_name_bytes: 1024,
        graph_nesting: 16,
        unpacked_bytes: 16 << 30,
    };
    /// Refuses nothing: for what this crate wrote itself.
    pub const NONE: Self = Self {
        model_nodes: u64::MAX,
        file_tensors: u64::MAX,
        tensor_name_bytes: u64::MAX,
        graph_nesting: u64::MAX,
        unpacked_bytes: u64::MAX,
    };

    /// The figure of one limit.
    pub const fn of(&self, limit: InputLimit) -> u64 {
        match limit {
            InputLimit::ModelNodes => self.model_nodes,
            InputLimit::FileTensors => self.file_tensors,
            InputLimit::TensorNameBytes => self.tensor_name_bytes,
            InputLimit::GraphNesting => self.graph_nesting,
            InputLimit::UnpackedBytes => self.unpacked_bytes,
        }
    }

    /// Refuses a file that has `found`; `what` says of what, with the figure.
    pub(crate) fn check(
        &self,
        limit: InputLimit,
        file: &str,
        found: u64,
        what: impl FnOnce() -> String,
    ) -> Result<(), Exceeded> {
        let max = self.of(limit);
        if found <= max {
            return Ok(());
        }
        Err(Exceeded {
            file: file.to_owned(),
            what: what(),
            max,
            limit,
        })
    }

    /// Refuses a name that is too long; `of` says of what it is one: "tensor".
    pub(crate) fn check_name(&self, file: &str, of: &str, name: &[u8]) -> Result<(), Exceeded> {
        let length = name.len() as u64;
        self.check(InputLimit::TensorNameBytes, file, length, || {
            format!("the name of {of} '{}' has {length} bytes", shown(name))
        })
    }

    /// Refuses a file of too many tensors.
    pub(crate) fn check_tensors(&self, file: &str, count: u64) -> Result<(), Exceeded> {
        self.check(InputLimit::FileTensors, file, count, || {
            format!("it has {count} tensors")
        })
    }

    /// Refuses a batch file whose tensors are too large together.
    pub(crate) fn check_unpacked(&self, file: &str, bytes: u64) -> Result<(), Exceeded> {
        self.check(InputLimit::UnpackedBytes, file, bytes, || {
            format!("its tensors have {bytes} bytes unpacked")
        })
    }
}

impl InputLimit {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::ModelNodes,
        Self::FileTensors,
        Self::TensorNameBytes,
        Self::GraphNesting,
        Self::UnpackedBytes,
    ];

    /// What a server calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ModelNodes => "model_nodes",
            Self::FileTensors => "file_tensors",
            Self::TensorNameBytes => "tensor_name_bytes",
            Self::GraphNesting => "graph_nesting",
            Self::UnpackedBytes => "unpacked_bytes",
        }
    }

    /// The flag of a server that sets it.
    pub fn flag(self) -> String {
        format!("--limit-{}", self.name().replace('_', "-"))
    }
}

impl fmt::Display for InputLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name as far as a message repeats it.
pub(crate) fn shown(name: &[u8]) -> String {
    match name.get(..SHOWN) {
        Some(start) if name.len() > SHOWN => format!("{}…", String::from_utf8_lossy(start)),
        _ => String::from_utf8_lossy(name).into_owned(),
    }
}

/// Another's message as far as one of ours repeats it: it may quote a file at any length.
pub(crate) fn cut(message: &str) -> String {
    const CHARS: usize = 400;
    match message.char_indices().nth(CHARS) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}

/// Names for a message, which some of them are enough for; `none` where there is none.
pub(crate) fn listed(names: &[String], none: &str) -> String {
    const LISTED: usize = 16;
    let quoted = |names: &[String]| {
        let names = names
            .iter()
            .map(|name| format!("'{}'", shown(name.as_bytes())));
        names.collect::<Vec<_>>().join(", ")
    };
    match names.split_at_checked(LISTED) {
        Some((first, rest)) if !rest.is_empty() => {
            format!("{} and {} more", quoted(first), rest.len())
        }
        _ if names.is_empty() => none.to_owned(),
        _ => quoted(names),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_at_the_limit_passes_and_one_more_is_named_with_its_flag() {
        let limits = InputLimits {
            tensor_name_bytes: 3,
            ..InputLimits::default()
        };
        limits.check_name("m.onnx", "tensor", b"abc").unwrap();
        let refused = limits.check_name("m.onnx", "tensor", b"abcd").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "m.onnx: the name of tensor 'abcd' has 4 bytes; at most 3 may be (the limit \
             tensor_name_bytes, which the server's --limit-tensor-name-bytes sets)"
        );
        let error = crate::Error::from(refused);
        assert_eq!(error.code(), "LIMIT_EXCEEDED");
        assert!(!error.retryable());
    }

    #[test]
    fn nothing_is_more_than_no_limit() {
        for limit in InputLimit::ALL {
            assert_eq!(InputLimits::NONE.of(limit), u64::MAX);
            assert!(InputLimits::DEFAULT.of(limit) > 0, "{limit}");
        }
    }

    #[test]
    fn a_long_name_is_cut_where_it_is_shown() {
        assert_eq!(shown(&[b'a'; 64]).len(), 64);
        assert_eq!(shown(&[b'a'; 65]), "a".repeat(64) + "…");
        assert_eq!(cut(&"ö".repeat(400)), "ö".repeat(400));
        assert_eq!(cut(&"ö".repeat(401)), "ö".repeat(400) + "…");
    }
}
