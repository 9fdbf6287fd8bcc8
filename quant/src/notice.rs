//! What a job tells its user beside its figures.

/// Something the user must know.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Notice {
    /// A warning rather than information.
    pub warning: bool,
    /// Stable upper-snake-case code.
    pub code: String,
    /// Layer, value or file.
    pub subject: String,
    /// One sentence.
    pub message: String,
}
