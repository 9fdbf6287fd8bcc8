//! Judging a new job: its files, their names and digests, and its size.

use std::collections::HashSet;

use dual16_proto::v1::{
    self,
    job_spec::{Kind, Model},
};
use prost::Message as _;

use super::{Checker, check, shown};
use crate::{digest::Digest, job::Priority, limits::Limits, rpc::ApiError};

/// A request that is well-formed; whether its blobs are there is still to be seen.
#[derive(Debug)]
pub(in crate::rpc) struct CheckedSpec {
    pub(in crate::rpc) spec: v1::JobSpec,
    pub(in crate::rpc) digest: Digest,
    pub(in crate::rpc) display_name: String,
    pub(in crate::rpc) priority: Priority,
    pub(in crate::rpc) request_id: Option<String>,
    pub(in crate::rpc) files: Vec<NeededFile>,
}

/// A blob that a spec needs.
#[derive(Clone, Debug)]
pub(in crate::rpc) struct NeededFile {
    /// Path of the file in the request, such as `spec.calibration[3]`.
    pub(in crate::rpc) field: String,
    pub(in crate::rpc) digest: Digest,
    /// Size that the request claims.
    pub(in crate::rpc) size: u64,
}

/// Checks a request to create a job.
pub(in crate::rpc) fn create_job(
    limits: &Limits,
    request: v1::CreateJobRequest,
) -> Result<CheckedSpec, ApiError> {
    check(limits, |checker| {
        let v1::CreateJobRequest {
            spec,
            display_name,
            request_id,
            priority,
            validate_only: _,
        } = request;
        checker.label("display_name", &display_name);
        checker.label("request_id", &request_id);
        let priority = checker.priority(priority);
        let Some(spec) = spec else {
            checker.reject("spec", "REQUIRED", "is missing; it says what to quantize");
            return None;
        };
        let mut files = Files {
            checker,
            needed: Vec::new(),
        };
        let model_name = files.model(&spec);
        files.calibration(&spec);
        files.list("spec.evaluation", &spec.evaluation);
        if let Some(Kind::Rescale(rescale)) = &spec.kind {
            match &rescale.statistics {
                Some(file) => files.file("spec.rescale.statistics", file),
                None => {
                    let description = "is missing; it must name the statistics.bin of a job";
                    let field = "spec.rescale.statistics";
                    files
                        .checker
                        .reject(field, "STATISTICS_MISSING", description);
                }
            }
        }
        let needed = files.needed;
        checker.quantize(spec.quantize.as_ref());
        let bytes = spec.encoded_len() as u64;
        let max = limits.spec_bytes;
        checker.bytes("spec", "SPEC_TOO_LARGE", bytes, "spec_bytes", max);
        let display_name = if display_name.is_empty() {
            model_name.unwrap_or_default()
        } else {
            display_name
        };
        Some(CheckedSpec {
            // No message of a spec has a map field, so that its encoding is the same every time.
            digest: Digest::of(&spec.encode_to_vec()),
            spec,
            display_name,
            priority: priority?,
            request_id: Some(request_id).filter(|id| !id.is_empty()),
            files: needed,
        })
    })
}

struct Files<'c, 'l> {
    checker: &'c mut Checker<'l>,
    needed: Vec<NeededFile>,
}

impl Files<'_, '_> {
    /// Checks the model's files; returns the name of the main one.
    fn model(&mut self, spec: &v1::JobSpec) -> Option<String> {
        let main = match &spec.model {
            None => {
                let description = "has no model: set spec.onnx or spec.layers";
                self.checker.reject("spec", "MODEL_MISSING", description);
                return None;
            }
            Some(Model::Onnx(onnx)) => {
                let main = self.required("spec.onnx.model", onnx.model.as_ref())?;
                if self.list("spec.onnx.external_data", &onnx.external_data) {
                    for (i, file) in onnx.external_data.iter().enumerate() {
                        if file.name == main.name {
                            let field = format!("spec.onnx.external_data[{i}].name");
                            self.duplicate(&field, &file.name);
                        }
                    }
                }
                main
            }
            Some(Model::Layers(layers)) => {
                self.required("spec.layers.weights", layers.weights.as_ref())?
            }
        };
        Some(main.name.clone())
    }

    fn required<'f>(
        &mut self,
        field: &str,
        file: Option<&'f v1::InputFile>,
    ) -> Option<&'f v1::InputFile> {
        match file {
            Some(file) => self.file(field, file),
            None => {
                let description = "is missing; it must name the model's file";
                self.checker.reject(field, "MODEL_MISSING", description);
            }
        }
        file
    }

    fn calibration(&mut self, spec: &v1::JobSpec) {
        if spec.calibration.is_empty() {
            let description = "is empty; give at least one .safetensors or .npz file, one batch a \
                               file: the ranges of the activations are measured on them";
            self.checker
                .reject("spec.calibration", "EMPTY_CALIBRATION", description);
        }
        self.list("spec.calibration", &spec.calibration);
    }

    /// Checks a list of files, whose names must differ. False = there are too many to look at.
    fn list(&mut self, field: &str, files: &[v1::InputFile]) -> bool {
        let max = self.checker.limits.spec_files;
        if !self.checker.count(field, files.len(), "spec_files", max) {
            return false;
        }
        let mut names = HashSet::new();
        for (i, file) in files.iter().enumerate() {
            let field = format!("{field}[{i}]");
            self.file(&field, file);
            if !names.insert(file.name.as_str()) {
                self.duplicate(&format!("{field}.name"), &file.name);
            }
        }
        true
    }

    fn duplicate(&mut self, field: &str, name: &str) {
        let description = format!("`{}` is given twice; names must differ", shown(name));
        self.checker.reject(field, "DUPLICATE_NAME", description);
    }

    fn file(&mut self, field: &str, file: &v1::InputFile) {
        self.checker.path(&format!("{field}.name"), &file.name);
        let (size, max) = (format!("{field}.size"), self.checker.limits.blob_bytes);
        self.checker
            .bytes(&size, "BLOB_TOO_LARGE", file.size, "blob_bytes", max);
        if let Some(digest) = self
            .checker
            .digest(&format!("{field}.digest"), &file.digest)
        {
            self.needed.push(NeededFile {
                field: field.to_owned(),
                digest,
                size: file.size,
            });
        }
    }
}

impl Checker<'_> {
    fn priority(&mut self, priority: i32) -> Option<Priority> {
        match v1::Priority::try_from(priority) {
            Ok(v1::Priority::Unspecified | v1::Priority::Normal) => Some(Priority::Normal),
            Ok(v1::Priority::Low) => Some(Priority::Low),
            Ok(v1::Priority::High) => Some(Priority::High),
            Err(_) => {
                let description = format!("is {priority}; it must be LOW, NORMAL or HIGH");
                self.reject("priority", "INVALID_PRIORITY", description);
                None
            }
        }
    }

    /// Only the shape: what the settings mean, the plan task judges.
    fn quantize(&mut self, quantize: Option<&v1::QuantizeSpec>) {
        let Some(quantize) = quantize else { return };
        let max = self.limits.spec_settings;
        let settings = quantize.settings.len();
        if !self.count("spec.quantize.settings", settings, "spec_settings", max) {
            return;
        }
        for (i, setting) in quantize.settings.iter().enumerate() {
            let field = format!("spec.quantize.settings[{i}]");
            self.name(&format!("{field}.name"), &setting.name);
            if setting.value.is_none() {
                let description = "has no value: set way, dtype, fixed_scale, observer, \
                                   high_precision or operator";
                self.reject(field, "REQUIRED", description);
            }
        }
    }
}
