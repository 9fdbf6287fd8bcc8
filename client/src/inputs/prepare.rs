//! Hashes a job's files and writes its spec.

use std::path::{Path, PathBuf};

use dual16_proto::v1::{
    InputFile, JobSpec, LayerModel, OnnxModel, Priority, QuantizeSpec, job_spec,
};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::{
    BatchSet, BatchSource, Holdings, InputError, NamedFile,
    batches::file_name,
    collect_batches,
    digest::digest_file,
    foreign::{Wanted, of_folder},
    model_needs, regular, safetensors,
};
use crate::api::SourceBlob;

/// Where a job's layers come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelPath {
    /// An ONNX model.
    Onnx(PathBuf),
    /// Layer mode: a safetensors checkpoint.
    Weights(PathBuf),
}

/// Every file that a job needs, found and named but not read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    model: ModelPath,
    model_file: NamedFile,
    external: Vec<NamedFile>,
    calibration: Vec<BatchSource>,
    evaluation: Vec<BatchSource>,
    /// Things a person should know, as sentences: files that are not used.
    pub remarks: Vec<String>,
    holdings: Holdings,
}

/// A spec and the files behind its digests.
#[derive(Debug)]
pub struct PreparedJob {
    /// What to ask for.
    pub spec: JobSpec,
    /// What it refers to.
    pub blobs: Vec<SourceBlob>,
    /// The model's file name.
    pub display_name: String,
    /// How urgent it is.
    pub priority: Priority,
    /// What the files hold of what a server limits.
    pub holdings: Holdings,
    /// Blobs that were made for the job lie here, and as long as this lives.
    _made: Option<TempDir>,
}

impl Sources {
    /// Finds the files of a job: the model and its external data, the batches in the file or
    /// folder `calibration`, and those in `evaluation`.
    ///
    /// # Errors
    /// [`InputError`], naming the file at fault.
    pub fn find(
        model: ModelPath,
        calibration: &Path,
        evaluation: Option<&Path>,
    ) -> Result<Self, InputError> {
        let mut holdings = Holdings::default();
        let (path, needs, set) = match &model {
            ModelPath::Onnx(path) => {
                require_file(path, "the model", Wanted::Model)?;
                let needs = model_needs(path, &mut holdings)?;
                let set = BatchSet {
                    what: "the calibration folder",
                    prefix: "calib",
                    keys: "input of the graph",
                    inputs: None,
                };
                (path, Some(needs), set)
            }
            ModelPath::Weights(path) => {
                require_file(path, "the weights", Wanted::Weights)?;
                safetensors::check_length(path, Wanted::Weights, &mut holdings)?;
                let set = BatchSet {
                    what: "the activations folder",
                    prefix: "activations",
                    keys: "layer",
                    inputs: None,
                };
                (path, None, set)
            }
        };
        let set = BatchSet {
            inputs: needs.as_ref().map(|needs| needs.inputs.as_slice()),
            ..set
        };
        let model_file = NamedFile {
            name: file_name(path)?,
            path: path.clone(),
        };
        let calibration_set = collect_batches(calibration, set, &mut holdings)?;
        let mut remarks: Vec<_> = remark(calibration, &calibration_set.ignored)
            .into_iter()
            .collect();
        let mut evaluation_batches = Vec::new();
        if let Some(path) = evaluation {
            let set = BatchSet {
                what: "the evaluation data",
                prefix: "eval",
                ..set
            };
            let found = collect_batches(path, set, &mut holdings)?;
            remarks.extend(remark(path, &found.ignored));
            evaluation_batches = found.batches;
        }
        let external = needs.into_iter().flat_map(|needs| needs.external);
        Ok(Self {
            model_file,
            external: external
                .map(|file| NamedFile {
                    name: file.location,
                    path: file.path,
                })
                .collect(),
            calibration: calibration_set.batches,
            evaluation: evaluation_batches,
            remarks,
            holdings,
            model,
        })
    }

    /// Bytes of all files together, as far as the system tells.
    pub fn total_bytes(&self) -> u64 {
        let size = |file: &NamedFile| std::fs::metadata(&file.path).map_or(0, |found| found.len());
        let files = self.external.iter().chain([&self.model_file]).map(size);
        let batches = self.calibration.iter().chain(&self.evaluation);
        let batches = batches.map(|batch| match batch {
            BatchSource::File(file) => size(file),
            BatchSource::Arrays(arrays) => arrays.bytes(),
        });
        files.chain(batches).sum()
    }
}

/// Reads and hashes every file of `sources`, and makes files of batches that are none yet. Blocking:
/// takes as long as reading them takes.
///
/// # Errors
/// [`InputError::Read`], [`InputError::Archive`].
pub fn prepare(
    sources: Sources,
    quantize: QuantizeSpec,
    kind: Option<job_spec::Kind>,
    moved: &dyn Fn(i64),
) -> Result<PreparedJob, InputError> {
    let mut made = None;
    let display_name = sources.model_file.name.clone();
    let mut blobs = Vec::new();
    let mut hash = |file: NamedFile| -> Result<InputFile, InputError> {
        let (digest, size) = digest_file(&file.path, moved).map_err(|source| InputError::Read {
            path: file.path.clone(),
            source,
        })?;
        let digest = digest.to_string();
        blobs.push(SourceBlob {
            path: file.path,
            digest: digest.clone(),
            size,
        });
        Ok(InputFile {
            name: file.name,
            digest,
            size,
        })
    };
    let model_file = Some(hash(sources.model_file)?);
    let external_data = sources
        .external
        .into_iter()
        .map(&mut hash)
        .collect::<Result<Vec<_>, _>>()?;
    let mut archives = 0_usize;
    let mut hash_batch = |batch: BatchSource| match batch {
        BatchSource::File(file) => hash(file),
        BatchSource::Arrays(batch) => {
            let folder = match &mut made {
                Some(folder) => folder,
                none => none.insert(scratch()?),
            };
            let path = folder.path().join(format!("{archives}.npz"));
            archives += 1;
            batch.archive(&path)?;
            let name = batch.name;
            hash(NamedFile { name, path })
        }
    };
    let mut hash_all = |batches: Vec<BatchSource>| -> Result<Vec<InputFile>, InputError> {
        batches.into_iter().map(&mut hash_batch).collect()
    };
    let model = match sources.model {
        ModelPath::Onnx(_) => job_spec::Model::Onnx(OnnxModel {
            model: model_file,
            external_data,
        }),
        ModelPath::Weights(_) => job_spec::Model::Layers(LayerModel {
            weights: model_file,
        }),
    };
    let spec = JobSpec {
        model: Some(model),
        calibration: hash_all(sources.calibration)?,
        evaluation: hash_all(sources.evaluation)?,
        quantize: Some(quantize),
        kind,
        deadline_seconds: 0,
    };
    Ok(PreparedJob {
        spec,
        blobs,
        display_name,
        priority: Priority::default(),
        holdings: sources.holdings,
        _made: made,
    })
}

/// A folder for what is made for one job.
fn scratch() -> Result<TempDir, InputError> {
    let folder = tempfile::Builder::new().prefix("dual16-batches-").tempdir();
    folder.map_err(|source| InputError::Archive {
        path: std::env::temp_dir(),
        source,
    })
}

impl PreparedJob {
    /// A request id that is equal for equal work, so that a command which is run again finds the
    /// job it began. A UUID of version 8 (RFC 9562): the SHA-256 of the spec.
    pub fn request_id(&self) -> String {
        let digest: [u8; 32] = Sha256::digest(self.spec.encode_to_vec()).into();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        uuid::Builder::from_custom_bytes(bytes)
            .into_uuid()
            .to_string()
    }
}

fn require_file(path: &Path, what: &'static str, wanted: Wanted) -> Result<(), InputError> {
    regular::check(path)?;
    if !path.exists() {
        return Err(InputError::Missing {
            what,
            path: path.to_owned(),
        });
    }
    if path.is_dir() {
        return Err(InputError::WrongKind {
            what,
            path: path.to_owned(),
            expected: of_folder(path, wanted),
        });
    }
    Ok(())
}

fn remark(folder: &Path, ignored: &[String]) -> Option<String> {
    let (first, rest) = ignored.split_first()?;
    let others = match rest.len() {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    Some(format!(
        "{}: {first}{others} not used as a batch",
        folder.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer_mode(folder: &Path) -> Sources {
        let empty = [&2u64.to_le_bytes()[..], b"{}"].concat();
        let weights = folder.join("ckpt.safetensors");
        std::fs::write(&weights, &empty).unwrap();
        let activations = folder.join("acts");
        std::fs::create_dir_all(&activations).unwrap();
        std::fs::write(activations.join("000.safetensors"), &empty).unwrap();
        std::fs::write(activations.join("README"), b"x").unwrap();
        Sources::find(ModelPath::Weights(weights), &activations, None).unwrap()
    }

    #[test]
    fn layer_mode_names_its_files_and_reports_what_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let sources = layer_mode(folder.path());
        assert!(
            sources.remarks[0].contains("README not used"),
            "{:?}",
            sources.remarks
        );
        assert_eq!(sources.total_bytes(), 20);

        let job = prepare(sources, QuantizeSpec::default(), None, &|_| {}).unwrap();

        assert_eq!(job.display_name, "ckpt.safetensors");
        assert_eq!(job.spec.calibration[0].name, "activations/000.safetensors");
        assert_eq!(job.blobs.len(), 2);
        assert_eq!(job.blobs[0].size, 10);
    }

    #[test]
    fn equal_work_has_an_equal_request_id() {
        let folder = tempfile::tempdir().unwrap();
        let job = |template: &str| {
            let quantize = QuantizeSpec {
                template: template.to_owned(),
                ..QuantizeSpec::default()
            };
            prepare(layer_mode(folder.path()), quantize, None, &|_| {})
                .unwrap()
                .request_id()
        };
        assert_eq!(job("a16w8"), job("a16w8"));
        assert_ne!(job("a16w8"), job("a8w8"));
        assert!(uuid::Uuid::parse_str(&job("a8w8")).is_ok());
    }

    #[test]
    fn a_missing_model_is_named() {
        let error = Sources::find(
            ModelPath::Onnx("nowhere/model.onnx".into()),
            Path::new("calib"),
            None,
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the model nowhere/model.onnx: no such file or folder"
        );
    }
}
