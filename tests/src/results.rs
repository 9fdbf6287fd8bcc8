//! The folder that `--out` named, once a job has written its results there.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::schema;

/// Every file that a job leaves, in the order of their names.
pub const ARTIFACTS: [&str; 17] = [
    "converted.safetensors",
    "graph.json",
    "handoff/README.md",
    "handoff/from_board.py",
    "handoff/mended.onnx",
    "handoff/mended.safetensors",
    "handoff/model_qdq.onnx",
    "handoff/modules.json",
    "handoff/modules.py",
    "handoff/qconfig.py",
    "handoff/quant_config.json",
    "per_layer.csv",
    "plan.json",
    "result.json",
    "statistics.bin",
    "statistics.csv",
    "ways.csv",
];

/// The page that the client makes of them.
pub const PAGE: &str = "report.html";

/// Every file that a command leaves in `--out`, in the order of their names.
pub const FILES: [&str; 18] = [
    "converted.safetensors",
    "graph.json",
    "handoff/README.md",
    "handoff/from_board.py",
    "handoff/mended.onnx",
    "handoff/mended.safetensors",
    "handoff/model_qdq.onnx",
    "handoff/modules.json",
    "handoff/modules.py",
    "handoff/qconfig.py",
    "handoff/quant_config.json",
    "per_layer.csv",
    "plan.json",
    PAGE,
    "result.json",
    "statistics.bin",
    "statistics.csv",
    "ways.csv",
];

/// A folder for results, gone when dropped. It does not exist until a command makes it.
pub struct Results {
    parent: TempDir,
}

impl Results {
    /// A folder that does not exist yet.
    pub fn new() -> Self {
        Self {
            parent: tempfile::tempdir().unwrap(),
        }
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.parent.path().join("out")
    }

    /// Names of everything in it, hidden files too, sorted; empty where it does not exist. Of a folder, unless
    /// it is hidden, the names of what is in it.
    pub fn names(&self) -> Vec<String> {
        let names = names_in(&self.path()).into_iter().flat_map(|name| {
            let path = self.path().join(&name);
            match path.is_dir() && !name.starts_with('.') {
                true => names_in(&path)
                    .into_iter()
                    .map(|inner| format!("{name}/{inner}"))
                    .collect(),
                false => vec![name],
            }
        });
        names.collect()
    }

    /// Every file by its name.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let read = |name: String| (name.clone(), fs::read(self.path().join(name)).unwrap());
        self.names().into_iter().map(read).collect()
    }

    /// `result.json`, which keeps to its schema.
    pub fn result(&self) -> Value {
        self.json("result.json")
    }

    /// `plan.json`, which keeps to its schema.
    pub fn plan(&self) -> Value {
        self.json("plan.json")
    }

    fn json(&self, name: &str) -> Value {
        let path = self.path().join(name);
        let text =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let value = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{name} is no JSON: {error}"));
        schema::check(&value);
        value
    }

    /// Holds exactly the same files as `other`.
    ///
    /// # Panics
    /// Naming the files that differ, and where in them the first difference is.
    pub fn assert_same_bytes(&self, other: &Self) {
        assert_same(&self.files(), &other.files());
    }

    /// The same but for the digest of the job, which counts what its files are called.
    ///
    /// # Panics
    /// As [`Self::assert_same_bytes`].
    pub fn assert_same_but_job(&self, other: &Self) {
        let without_job = |results: &Self| {
            let mut files = results.files();
            let mut result = results.result();
            result.as_object_mut().unwrap().remove("job").unwrap();
            files.insert("result.json".to_owned(), result.to_string().into_bytes());
            files
        };
        assert_same(&without_job(self), &without_job(other));
    }
}

fn assert_same(mine: &BTreeMap<String, Vec<u8>>, theirs: &BTreeMap<String, Vec<u8>>) {
    assert_eq!(
        mine.keys().collect::<Vec<_>>(),
        theirs.keys().collect::<Vec<_>>()
    );
    let differing: Vec<String> = mine
        .iter()
        .filter(|(name, bytes)| theirs[*name] != **bytes)
        .map(|(name, bytes)| describe(name, bytes, &theirs[name]))
        .collect();
    assert!(
        differing.is_empty(),
        "files differ:\n{}",
        differing.join("\n")
    );
}

impl Default for Results {
    fn default() -> Self {
        Self::new()
    }
}

/// The layer called `name` in `result.json` or `plan.json`.
///
/// # Panics
/// Where there is none.
pub fn layer<'a>(file: &'a Value, name: &str) -> &'a Value {
    let layers = file["layers"].as_array().expect("the file lists layers");
    layers
        .iter()
        .find(|layer| layer["name"] == name)
        .unwrap_or_else(|| panic!("no layer {name:?} among {layers:#?}"))
}

/// A number.
///
/// # Panics
/// Where `value` is none.
pub fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

/// Names of everything in `folder`, sorted.
pub fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let mut names: Vec<_> = entries.map(|entry| name(entry.unwrap())).collect();
    names.sort();
    names
}

fn describe(name: &str, mine: &[u8], theirs: &[u8]) -> String {
    let first = mine.iter().zip(theirs).position(|(a, b)| a != b);
    let at = first.unwrap_or(mine.len().min(theirs.len()));
    let around = |bytes: &[u8]| {
        let end = (at + 60).min(bytes.len());
        String::from_utf8_lossy(&bytes[at.saturating_sub(60).min(end)..end]).into_owned()
    };
    format!(
        "{name} at byte {at}:\n  {:?}\n  {:?}",
        around(mine),
        around(theirs)
    )
}
