//! Hashes a job's files and writes its spec.

use std::path::{Path, PathBuf};

use dual16_proto::v1::{InputFile, JobSpec, LayerModel, OnnxModel, QuantizeSpec, job_spec};
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::{
    Holdings, InputError, NamedFile, batches::file_name, collect_batches, digest::digest_file,
    external_files, safetensors,
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
    calibration: Vec<NamedFile>,
    evaluation: Vec<NamedFile>,
    /// Things a person should know, as sentences: files that are not used.
    pub remarks: Vec<String>,
    holdings: Holdings,
}

/// A spec and the files behind its digests.
#[derive(Debug, Clone, PartialEq)]
pub struct PreparedJob {
    /// What to ask for.
    pub spec: JobSpec,
    /// What it refers to.
    pub blobs: Vec<SourceBlob>,
    /// The model's file name.
    pub display_name: String,
    /// What the files hold of what a server limits.
    pub holdings: Holdings,
}

impl Sources {
    /// Finds the files of a job: the model and its external data, the batches in the folder
    /// `calibration`, and those in the file or folder `evaluation`.
    ///
    /// # Errors
    /// [`InputError`], naming the file at fault.
    pub fn find(
        model: ModelPath,
        calibration: &Path,
        evaluation: Option<&Path>,
    ) -> Result<Self, InputError> {
        let (path, what, set, prefix, keys) = match &model {
            ModelPath::Onnx(path) => (
                path,
                "the model",
                "the calibration folder",
                "calib",
                "input of the graph",
            ),
            ModelPath::Weights(path) => (
                path,
                "the weights",
                "the activations folder",
                "activations",
                "layer",
            ),
        };
        require_file(path, what)?;
        let model_file = NamedFile {
            name: file_name(path)?,
            path: path.clone(),
        };
        let mut holdings = Holdings::default();
        let external = match &model {
            ModelPath::Onnx(path) => external_files(path, &mut holdings)?
                .into_iter()
                .map(|file| NamedFile {
                    name: file.location,
                    path: file.path,
                })
                .collect(),
            ModelPath::Weights(path) => {
                safetensors::check_length(path, &mut holdings)?;
                Vec::new()
            }
        };
        if calibration.is_file() {
            return Err(InputError::WrongKind {
                what: set,
                path: calibration.to_owned(),
                expected: "a folder of .safetensors or .npz files, one batch a file",
            });
        }
        let calibration_set = collect_batches(calibration, prefix, set, keys, &mut holdings)?;
        let mut remarks: Vec<_> = remark(calibration, &calibration_set.ignored)
            .into_iter()
            .collect();
        let mut evaluation_files = Vec::new();
        if let Some(path) = evaluation {
            let what = "the evaluation data";
            let set = collect_batches(path, "eval", what, keys, &mut holdings)?;
            remarks.extend(remark(path, &set.ignored));
            evaluation_files = set.files;
        }
        Ok(Self {
            model,
            model_file,
            external,
            calibration: calibration_set.files,
            evaluation: evaluation_files,
            remarks,
            holdings,
        })
    }

    /// Bytes of all files together, as far as the system tells.
    pub fn total_bytes(&self) -> u64 {
        let groups = [&self.external, &self.calibration, &self.evaluation];
        groups
            .into_iter()
            .flatten()
            .chain([&self.model_file])
            .filter_map(|file| std::fs::metadata(&file.path).ok())
            .map(|metadata| metadata.len())
            .sum()
    }
}

/// Reads and hashes every file of `sources`. Blocking: takes as long as reading them takes.
///
/// # Errors
/// [`InputError::Read`].
pub fn prepare(
    sources: Sources,
    quantize: QuantizeSpec,
    moved: &dyn Fn(i64),
) -> Result<PreparedJob, InputError> {
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
    let mut hash_all = |files: Vec<NamedFile>| -> Result<Vec<InputFile>, InputError> {
        files.into_iter().map(&mut hash).collect()
    };
    let display_name = sources.model_file.name.clone();
    let holdings = sources.holdings;
    let model_file = hash_all(vec![sources.model_file])?.pop();
    let external_data = hash_all(sources.external)?;
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
    };
    Ok(PreparedJob {
        spec,
        blobs,
        display_name,
        holdings,
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

fn require_file(path: &Path, what: &'static str) -> Result<(), InputError> {
    if !path.exists() {
        return Err(InputError::Missing {
            what,
            path: path.to_owned(),
        });
    }
    match path.is_file() {
        true => Ok(()),
        false => Err(InputError::WrongKind {
            what,
            path: path.to_owned(),
            expected: "a file",
        }),
    }
}

fn remark(folder: &Path, ignored: &[String]) -> Option<String> {
    let (first, rest) = ignored.split_first()?;
    let others = match rest.len() {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    Some(format!(
        "{}: {first}{others} not used: neither .safetensors nor .npz",
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

        let job = prepare(sources, QuantizeSpec::default(), &|_| {}).unwrap();

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
            prepare(layer_mode(folder.path()), quantize, &|_| {})
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
