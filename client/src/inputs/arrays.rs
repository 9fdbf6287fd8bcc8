//! Batches as lone `.npy` files: `NAME/NNN.npy`, a folder for each input of the model, or `NNN.npy`
//! where it has one input. File NNN of every input is one batch, and goes into the job as an archive
//! of these files as they are: what the arrays mean is the worker's business, as with any batch.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    path::{Component, Path, PathBuf},
};

use zip::{CompressionMethod, DateTime, ZipWriter, write::SimpleFileOptions};

use super::{
    Holdings, InputError,
    batches::{file_name, is_batch},
    regular,
};

const EXTENSION: &str = "npy";
const MAGIC: &[u8] = b"\x93NUMPY";

/// One batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrayBatch {
    /// In the job: "calib/000.npy", as its files are called; there it is one archive of them.
    pub name: String,
    /// Names of inputs and their files, sorted.
    arrays: Vec<(String, PathBuf)>,
}

/// The batches in `folder`, in the order of their numbers or names; none where it holds no `.npy`
/// files. `inputs` are those of the model, None where only the folders know them; in the job a batch
/// is called `prefix/NNN.npy`.
pub(super) fn collect(
    folder: &Path,
    prefix: &str,
    inputs: Option<&[String]>,
    holdings: &mut Holdings,
) -> Result<Vec<ArrayBatch>, InputError> {
    let wrong = |reason: String| InputError::Arrays {
        path: folder.to_owned(),
        reason,
    };
    let by_input = by_input(folder, inputs)?.map_err(wrong)?;
    same_batches(&by_input).map_err(wrong)?;
    for path in by_input.values().flat_map(BTreeMap::values) {
        check_magic(path)?;
    }
    let numbers = by_input.values().next().into_iter().flat_map(Files::keys);
    let batch = |number: &Number| {
        let of =
            |(input, files): (&String, &Files)| Some((input.clone(), files.get(number)?.clone()));
        ArrayBatch {
            name: format!("{prefix}/{}.npy", number.stem),
            arrays: by_input.iter().filter_map(of).collect(),
        }
    };
    let batches: Vec<ArrayBatch> = numbers.map(batch).collect();
    for batch in &batches {
        batch.note(holdings);
    }
    Ok(batches)
}

/// The files of each input, or what is wrong with the folder.
fn by_input(
    folder: &Path,
    inputs: Option<&[String]>,
) -> Result<Result<BTreeMap<String, Files>, String>, InputError> {
    let (own, folders) = (files_in(folder)?, array_folders(folder)?);
    let Some(inputs) = inputs else {
        return Ok(match own.is_empty() || !folders.is_empty() {
            true => Ok(folders),
            false => Err(
                "it is not said which layer its .npy files are of: make a folder for \
                          each, LAYER/000.npy"
                    .to_owned(),
            ),
        });
    };
    let mut found = BTreeMap::new();
    for input in inputs {
        // Below the folder, however deep the name's own '/' lead.
        let files = plain(input).map(|path| files_in(&folder.join(path)));
        let files = files.transpose()?.unwrap_or_default();
        if !files.is_empty() {
            found.insert(input.clone(), files);
        }
    }
    if let ([input], true, false) = (inputs, found.is_empty(), own.is_empty()) {
        return Ok(Ok(BTreeMap::from([(input.clone(), own)])));
    }
    let nothing = found.is_empty() && own.is_empty() && folders.is_empty();
    if nothing || found.len() == inputs.len() {
        return Ok(Ok(found));
    }
    let missing: Vec<_> = inputs
        .iter()
        .filter(|name| !found.contains_key(*name))
        .cloned()
        .collect();
    let folders: Vec<_> = folders.into_keys().collect();
    Ok(Err(format!(
        "there is no folder of .npy files for input {}: make one for each input of the model, \
         NAME/000.npy; it has {}",
        listed(&missing),
        match folders.is_empty() {
            true => ".npy files, but no folder of them".to_owned(),
            false => format!("folders for {}", listed(&folders)),
        },
    )))
}

/// The one `.npy` file at `path` as a batch of a model with one input.
pub(super) fn single(
    path: &Path,
    prefix: &str,
    inputs: Option<&[String]>,
    holdings: &mut Holdings,
) -> Result<ArrayBatch, InputError> {
    let Some([input]) = inputs else {
        return Err(InputError::Arrays {
            path: path.to_owned(),
            reason:
                "one .npy file is a batch of a model with one input; for others give a .npz or \
                     .safetensors file with an array for each"
                    .to_owned(),
        });
    };
    check_magic(path)?;
    let batch = ArrayBatch {
        name: format!("{prefix}/{}.npy", Number::of(path)?.stem),
        arrays: vec![(input.clone(), path.to_owned())],
    };
    batch.note(holdings);
    Ok(batch)
}

/// Whether a file is called as an array is.
pub(super) fn is_array(path: &Path) -> bool {
    path.extension().is_some_and(|found| found == EXTENSION)
}

impl ArrayBatch {
    /// Bytes of its arrays, as far as the system tells.
    pub(super) fn bytes(&self) -> u64 {
        let found = self.arrays.iter().map(|(_, path)| fs::metadata(path));
        found.flatten().map(|metadata| metadata.len()).sum()
    }

    /// Writes the batch as an archive: equal arrays make equal bytes, at any time.
    pub(super) fn archive(&self, to: &Path) -> Result<(), InputError> {
        let failed = |source: io::Error| InputError::Archive {
            path: to.to_owned(),
            source,
        };
        let mut archive = ZipWriter::new(File::create(to).map_err(failed)?);
        for (input, path) in &self.arrays {
            let read = |source| InputError::Read {
                path: path.clone(),
                source,
            };
            let mut file = File::open(path).map_err(read)?;
            let large = file.metadata().map_err(read)?.len() >= u64::from(u32::MAX);
            let options = SimpleFileOptions::default()
                .compression_method(CompressionMethod::Stored)
                .last_modified_time(DateTime::default())
                .large_file(large);
            archive
                .start_file(format!("{input}.{EXTENSION}"), options)
                .map_err(|error| failed(error.into()))?;
            io::copy(&mut file, &mut archive).map_err(failed)?;
        }
        archive.finish().map_err(|error| failed(error.into()))?;
        Ok(())
    }

    fn note(&self, holdings: &mut Holdings) {
        let Some((_, first)) = self.arrays.first() else {
            return;
        };
        holdings.tensors(first, self.arrays.len() as u64);
        holdings.unpacked(first, self.bytes());
        for (input, path) in &self.arrays {
            holdings.name(path, input);
        }
    }
}

/// The name of a file without its extension. Numbers come in their order, before other names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Number {
    value: u64,
    stem: String,
}

type Files = BTreeMap<Number, PathBuf>;

impl Number {
    fn of(path: &Path) -> Result<Number, InputError> {
        let name = file_name(path)?;
        let stem = name.strip_suffix(".npy").unwrap_or(&name).to_owned();
        Ok(Number {
            value: stem.parse().unwrap_or(u64::MAX),
            stem,
        })
    }
}

/// The `.npy` files of a folder; none where it is none.
fn files_in(folder: &Path) -> Result<Files, InputError> {
    if !folder.is_dir() {
        return Ok(Files::new());
    }
    let files = entries(folder)?.into_iter();
    files
        .filter(|path| is_array(path) && path.is_file())
        .map(|path| Ok((Number::of(&path)?, path)))
        .collect()
}

/// The folders in a folder that have `.npy` files, by their names.
fn array_folders(folder: &Path) -> Result<BTreeMap<String, Files>, InputError> {
    let mut folders = BTreeMap::new();
    for path in entries(folder)?.into_iter().filter(|path| path.is_dir()) {
        let files = files_in(&path)?;
        if !files.is_empty() {
            folders.insert(file_name(&path)?, files);
        }
    }
    Ok(folders)
}

/// What is in a folder and not hidden. What is named as a batch must be able to be one.
pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>, InputError> {
    let read = |source| InputError::Read {
        path: folder.to_owned(),
        source,
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(read)? {
        let entry = entry.map_err(read)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            let path = entry.path();
            if is_batch(&path) || is_array(&path) {
                regular::check(&path)?;
            }
            paths.push(path);
        }
    }
    Ok(paths)
}

/// An input's name as a path below a folder. Names come from models, and models from anywhere.
fn plain(input: &str) -> Option<&Path> {
    let path = Path::new(input);
    let below = |part| matches!(part, Component::Normal(_));
    path.components().all(below).then_some(path)
}

/// Every input must have the files that the others have.
fn same_batches(by_input: &BTreeMap<String, Files>) -> Result<(), String> {
    let mut inputs = by_input.iter();
    let Some((first, files)) = inputs.next() else {
        return Ok(());
    };
    for (input, others) in inputs {
        let lacks = |these: &Files, those: &Files, of: &str, not: &str| {
            let number = these.keys().find(|number| !those.contains_key(*number))?;
            let stem = &number.stem;
            Some(format!("there is {of}/{stem}.npy and no {not}/{stem}.npy"))
        };
        let unpaired =
            lacks(files, others, first, input).or_else(|| lacks(others, files, input, first));
        if let Some(unpaired) = unpaired {
            return Err(format!(
                "input '{first}' has {} .npy files and input '{input}' has {}: {unpaired}; files of \
                 the same name are one batch, and every input needs one",
                files.len(),
                others.len()
            ));
        }
    }
    Ok(())
}

fn check_magic(path: &Path) -> Result<(), InputError> {
    let read = |source| InputError::Read {
        path: path.to_owned(),
        source,
    };
    let mut start = Vec::new();
    let file = File::open(path).map_err(read)?;
    file.take(MAGIC.len() as u64)
        .read_to_end(&mut start)
        .map_err(read)?;
    match start == MAGIC {
        true => Ok(()),
        false => Err(InputError::Arrays {
            path: path.to_owned(),
            reason: "it does not begin as a .npy file does; write it with numpy.save".to_owned(),
        }),
    }
}

fn listed(names: &[String]) -> String {
    const LISTED: usize = 16;
    let quoted: Vec<_> = names
        .iter()
        .take(LISTED)
        .map(|name| format!("'{name}'"))
        .collect();
    match names.len() {
        0 => "none".to_owned(),
        count if count > LISTED => format!("{} and {} more", quoted.join(", "), count - LISTED),
        _ => quoted.join(", "),
    }
}

#[cfg(test)]
mod tests;
