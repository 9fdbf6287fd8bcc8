//! Batches: files of named tensors, checked against a model's inputs and read one batch at a time.
//!
//! A file is `.safetensors` or `.npz`. A key is the name of a graph input; other keys are ignored
//! and reported. An input with one more leading axis than the model has holds that many batches.
//! This module knows what a batch must look like and nothing of what is done with it.

mod element;
mod npy;
mod npz;
mod safetensors;
mod stack;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::Path,
};

use crate::{
    error::{Error, Result},
    limits::{InputLimits, listed},
    model::{ElementKind, InputSpec},
    tensor::Datum,
};

pub(crate) use safetensors::SafetensorsFile;
pub(crate) use stack::check_finite;

use npz::NpzFile;

/// One batch: a tensor for each input of the model.
pub type Batch = BTreeMap<String, Datum>;

/// Suffix that a key may have or leave out: layer mode names a layer's input `NAME.input`.
const INPUT_SUFFIX: &str = ".input";

/// A file of one or more batches, open for reading.
#[derive(Debug)]
pub struct BatchFile {
    name: String,
    source: Source,
    entries: Vec<Entry>,
    count: usize,
    stacked: bool,
    ignored: Vec<String>,
    /// Inputs that may be infinite.
    masks: BTreeSet<String>,
}

/// Memory that reading a tensor takes, in bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    /// Until it is read.
    passing: u64,
    /// With the batch, or with the file.
    kept: u64,
}

/// An input of the model and where the file has it.
#[derive(Debug)]
struct Entry {
    spec: InputSpec,
    key: String,
    shape: Vec<usize>,
}

#[derive(Debug)]
enum Source {
    Safetensors(SafetensorsFile),
    Npz(NpzFile),
}

impl BatchFile {
    /// Opens a file and checks keys, types and shapes; elements of safetensors are read only by
    /// [`Self::read`]. `name` is what errors call the file, and its extension tells the format.
    ///
    /// # Errors
    /// [`Error::Batch`] for a damaged file, a missing input (with the keys there are), a shape that
    /// does not fit; [`Error::Limit`] for one that holds more than `limits` allow;
    /// [`Error::Io`] where the file cannot be read.
    pub fn open(
        name: &str,
        path: &Path,
        inputs: &[InputSpec],
        limits: &InputLimits,
    ) -> Result<BatchFile> {
        let source = Source::open(name, path, limits)?;
        let keys = source.keys();
        let entries = inputs
            .iter()
            .map(|spec| entry(name, &source, &keys, spec))
            .collect::<Result<Vec<_>>>()?;
        let depth = stack::depth(name, &entries)?;
        let used: HashSet<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
        let ignored = keys.iter().filter(|key| !used.contains(key.as_str()));
        Ok(BatchFile {
            name: name.to_owned(),
            ignored: ignored.cloned().collect(),
            count: depth.unwrap_or(1),
            stacked: depth.is_some(),
            source,
            entries,
            masks: BTreeSet::new(),
        })
    }

    /// Lets infinities through in these inputs of the model, which are masks.
    #[must_use]
    pub fn with_masks(self, masks: BTreeSet<String>) -> Self {
        Self { masks, ..self }
    }

    /// File name as the user gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file and, where they are several, how many batches it holds: "b.npz (64 batches)".
    pub(crate) fn told(&self) -> String {
        match self.count {
            1 => self.name.clone(),
            count => format!("{} ({count} batches)", self.name),
        }
    }

    /// Number of batches, at least 1.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Elements of one batch, over all inputs of the model.
    pub fn elements(&self) -> usize {
        let all = self
            .entries
            .iter()
            .map(|entry| entry.shape.iter().product());
        all.fold(0, usize::saturating_add) / self.count.max(1)
    }

    /// Inputs of the model of which a batch holds no element, a dimension that the model leaves open
    /// being 0.
    pub fn empty_inputs(&self) -> impl Iterator<Item = &str> {
        let empty = self.entries.iter().filter(|entry| entry.shape.contains(&0));
        empty.map(|entry| entry.spec.name.as_str())
    }

    /// Bytes of memory that reading takes at most, from the headers: the batch, and what it is made
    /// from. Of an archive every input is unpacked whole, and stays so while the file is open.
    pub fn reading_bytes(&self) -> u64 {
        let parts = self.stacked.then_some(self.count);
        let costs = self
            .entries
            .iter()
            .map(|entry| self.source.cost(&entry.key, entry.spec.kind, parts));
        let (passing, kept) = costs.fold((0, 0_u64), |(passing, kept), cost| {
            (cost.passing.max(passing), kept.saturating_add(cost.kept))
        });
        kept.saturating_add(passing)
    }

    /// Keys of the file that are no input of the model, sorted.
    pub fn ignored_keys(&self) -> &[String] {
        &self.ignored
    }

    /// Reads batch `index`, in `0..count`.
    ///
    /// # Errors
    /// [`Error::NonFinite`] naming file, tensor and index (within the batch, the stack axis first
    /// where there is one); [`Error::Batch`] with the same for an element that the input's type does
    /// not hold exactly.
    pub fn read(&mut self, index: usize) -> Result<Batch> {
        if index >= self.count {
            let reason = format!("it holds {} batches, there is none at {index}", self.count);
            return Err(Error::Batch {
                file: self.name.clone(),
                reason,
            });
        }
        let part = self.stacked.then_some(index);
        let mut batch = Batch::new();
        for entry in &self.entries {
            let datum = self.source.read(&entry.key, entry.spec.kind, part)?;
            let mask = self.masks.contains(&entry.spec.name);
            let allowed = |x: f32| mask && x.is_infinite();
            check_finite(&self.name, &entry.key, &datum, part, allowed)?;
            batch.insert(entry.spec.name.clone(), datum);
        }
        Ok(batch)
    }

    /// Every batch in order, each read when it is asked for.
    pub fn batches(&mut self) -> impl Iterator<Item = Result<Batch>> {
        (0..self.count).map(|index| self.read(index))
    }
}

/// Keys of a batch file, sorted; layer mode finds its layers by them.
///
/// # Errors
/// As [`BatchFile::open`].
pub fn keys(name: &str, path: &Path, limits: &InputLimits) -> Result<Vec<String>> {
    Ok(Source::open(name, path, limits)?.keys())
}

/// `keys` are sorted.
fn entry(file: &str, source: &Source, keys: &[String], spec: &InputSpec) -> Result<Entry> {
    let bad = |reason: String| Error::Batch {
        file: file.to_owned(),
        reason,
    };
    let plain = spec.name.strip_suffix(INPUT_SUFFIX);
    let has = |name: &str| keys.binary_search_by(|key| key.as_str().cmp(name)).is_ok();
    let key = [Some(spec.name.as_str()), plain]
        .into_iter()
        .flatten()
        .find(|name| has(name));
    let key = key.ok_or_else(|| {
        bad(format!(
            "input '{}' is missing; the file has {}",
            spec.name,
            listed(keys, "no tensor")
        ))
    })?;
    if let Some(problem) = source.problem(key) {
        return Err(bad(format!("tensor '{key}': {problem}")));
    }
    let shape = source
        .shape(key)
        .ok_or_else(|| bad(format!("tensor '{key}' has no shape")))?;
    Ok(Entry {
        spec: spec.clone(),
        key: key.to_owned(),
        shape,
    })
}

impl Source {
    fn open(name: &str, path: &Path, limits: &InputLimits) -> Result<Source> {
        if has_extension(name, "safetensors") {
            let file = SafetensorsFile::open(name, path, limits)?;
            limits.check_unpacked(name, file.data_bytes())?;
            return Ok(Source::Safetensors(file));
        }
        // Lone arrays come as an archive that is called as they are.
        if ["npz", "npy"]
            .iter()
            .any(|known| has_extension(name, known))
        {
            return NpzFile::open(name, path, limits).map(Source::Npz);
        }
        let reason = "batches are .safetensors or .npz files".to_owned();
        Err(Error::Batch {
            file: name.to_owned(),
            reason,
        })
    }

    fn keys(&self) -> Vec<String> {
        match self {
            Source::Safetensors(file) => file.keys(),
            Source::Npz(file) => file.keys(),
        }
    }

    fn problem(&self, key: &str) -> Option<String> {
        match self {
            Source::Safetensors(file) => file.problem(key),
            Source::Npz(file) => file.problem(key),
        }
    }

    fn shape(&self, key: &str) -> Option<Vec<usize>> {
        match self {
            Source::Safetensors(file) => file.shape(key),
            Source::Npz(file) => file.shape(key),
        }
    }

    fn cost(&self, key: &str, kind: ElementKind, parts: Option<usize>) -> Cost {
        match self {
            Source::Safetensors(file) => file.cost(key, kind, parts),
            Source::Npz(file) => file.cost(key, kind, parts),
        }
    }

    fn read(&mut self, key: &str, kind: ElementKind, part: Option<usize>) -> Result<Datum> {
        match self {
            Source::Safetensors(file) => file.read(key, kind, part),
            Source::Npz(file) => file.read(key, kind, part),
        }
    }
}

fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|found| found.eq_ignore_ascii_case(extension))
}
