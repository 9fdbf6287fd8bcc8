//! What the files of a job hold of what a server limits, as far as they are looked into anyway. A
//! worker looks at all of it; what is found here costs no upload.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use super::InputError;

/// Characters of a name that a message repeats.
const SHOWN: usize = 64;

/// The largest figure of each kind over all files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holdings(BTreeMap<&'static str, Holding>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Holding {
    found: u64,
    path: PathBuf,
    what: String,
}

impl Holdings {
    /// Checks everything against the limits of a server, by their names in its Info. One that it
    /// does not name it does not have.
    ///
    /// # Errors
    /// [`InputError::BeyondLimit`].
    pub fn within(&self, limits: &HashMap<String, u64>) -> Result<(), InputError> {
        for (limit, holding) in &self.0 {
            let Some(&max) = limits.get(*limit) else {
                continue;
            };
            if holding.found > max {
                return Err(InputError::BeyondLimit {
                    path: holding.path.clone(),
                    what: holding.what.clone(),
                    max,
                    limit,
                });
            }
        }
        Ok(())
    }

    /// Notes that a model has this many nodes.
    pub(super) fn nodes(&mut self, path: &Path, count: u64) {
        let what = || format!("the model has {count} nodes");
        self.note("model_nodes", path, count, what);
    }

    /// Notes that a file has this many tensors.
    pub(super) fn tensors(&mut self, path: &Path, count: u64) {
        let what = || format!("it has {count} tensors");
        self.note("file_tensors", path, count, what);
    }

    /// Notes a tensor's name.
    pub(super) fn name(&mut self, path: &Path, name: &str) {
        let found = name.len() as u64;
        self.note("tensor_name_bytes", path, found, || {
            let mut shown: String = name.chars().take(SHOWN).collect();
            if shown.len() < name.len() {
                shown.push('…');
            }
            format!("the name of tensor '{shown}' has {found} bytes")
        });
    }

    /// Notes that a model has subgraphs this deep within one another.
    pub(super) fn nesting(&mut self, path: &Path, depth: u64) {
        let what = || format!("it has a subgraph nested {depth} deep");
        self.note("graph_nesting", path, depth, what);
    }

    /// Notes the bytes of all tensors of a batch.
    pub(super) fn unpacked(&mut self, path: &Path, bytes: u64) {
        let what = || format!("its tensors have {bytes} bytes unpacked");
        self.note("unpacked_bytes", path, bytes, what);
    }

    fn note(
        &mut self,
        limit: &'static str,
        path: &Path,
        found: u64,
        what: impl FnOnce() -> String,
    ) {
        if self.0.get(limit).is_none_or(|most| most.found < found) {
            let holding = Holding {
                found,
                path: path.to_owned(),
                what: what(),
            };
            self.0.insert(limit, holding);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_counts_and_the_error_says_whose_it_is_and_what_to_do() {
        let mut holdings = Holdings::default();
        holdings.tensors(Path::new("a.safetensors"), 3);
        holdings.tensors(Path::new("b.safetensors"), 5);
        holdings.tensors(Path::new("c.safetensors"), 4);
        let limit = |max| HashMap::from([("file_tensors".to_owned(), max)]);
        holdings.within(&limit(5)).unwrap();
        holdings.within(&HashMap::new()).unwrap();
        let error = holdings.within(&limit(4)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "b.safetensors: it has 5 tensors; at most 4 may be (the limit file_tensors, which the \
             server's --limit-file-tensors sets)"
        );
    }

    #[test]
    fn a_long_name_is_cut_where_it_is_shown() {
        let mut holdings = Holdings::default();
        holdings.name(Path::new("m.onnx"), &"ü".repeat(100));
        let limits = HashMap::from([("tensor_name_bytes".to_owned(), 199)]);
        let text = holdings.within(&limits).unwrap_err().to_string();
        let says = format!("the name of tensor '{}…' has 200 bytes", "ü".repeat(64));
        assert!(text.contains(&says), "{text}");
    }
}
