//! Names that settings may use, nearest-name suggestions, and names of dtypes and ways in files.

use globset::{Glob, GlobMatcher};

use crate::{Error, Result};

/// Most suggestions in an error.
const SUGGESTIONS: usize = 3;

/// A name or a glob over names.
pub(super) struct Pattern<'a> {
    text: &'a str,
    glob: Option<GlobMatcher>,
}

impl<'a> Pattern<'a> {
    /// A text without `*`, `?`, `[` or `{` is a plain name.
    pub(super) fn new(setting: &str, text: &'a str) -> Result<Self> {
        if !text.contains(['*', '?', '[', '{']) {
            return Ok(Pattern { text, glob: None });
        }
        let glob = Glob::new(text).map_err(|error| Error::Setting {
            setting: setting.to_owned(),
            reason: format!("'{text}' is no valid glob: {}", error.kind()),
        })?;
        Ok(Pattern {
            text,
            glob: Some(glob.compile_matcher()),
        })
    }

    /// Whether it may match several names.
    pub(super) fn is_glob(&self) -> bool {
        self.glob.is_some()
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        match &self.glob {
            Some(glob) => glob.is_match(name),
            None => self.text == name,
        }
    }
}

/// The error for a name that matches nothing.
pub(super) fn unknown<'n>(
    what: &'static str,
    name: &str,
    known: impl Iterator<Item = &'n str>,
) -> Error {
    let mut near: Vec<(f64, &str)> = known
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    near.dedup_by(|a, b| a.1 == b.1);
    let near = near
        .into_iter()
        .take(SUGGESTIONS)
        .map(|(_, name)| name.to_owned())
        .collect();
    Error::UnknownName {
        what,
        name: name.to_owned(),
        near,
    }
}

/// Serializes through `Display` and `FromStr`.
macro_rules! text_form {
    ($module:ident, $type:ty) => {
        pub(crate) mod $module {
            use serde::{Deserialize, Deserializer, Serializer, de::Error};

            pub(crate) fn serialize<S: Serializer>(
                value: &$type,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                serializer.collect_str(value)
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<$type, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(D::Error::custom)
            }
        }
    };
}

text_form!(dtype_text, dual16_nash::dtype::IntDtype);
text_form!(way_text, dual16_nash::ways::Way);
