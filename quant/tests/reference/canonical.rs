//! The canonical form of each model in onnxruntime, which must give what it gives for the model.

use std::{fs, path::Path};

use dual16_quant::{
    limits::InputLimits,
    model::{Model, written},
};

use crate::{case::Case, generator};

/// Writes the form of each case beside its model, has them run, and tells what is wrong.
pub fn check(folder: &Path, cases: &[Case]) -> Option<String> {
    for case in cases.iter().filter(|case| !case.random) {
        let path = case.folder.join("model.onnx");
        let model = Model::load("model.onnx", &path, &[], &InputLimits::DEFAULT);
        if let Some(form) = model.ok().and_then(|model| written(&model)) {
            fs::write(case.folder.join("canonical.onnx"), form).unwrap();
        }
    }
    let done = generator::python("reference_models.canonical")
        .arg(folder)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&done.stderr);
    eprintln!("{}", told.lines().next_back().unwrap_or_default());
    (!done.status.success()).then(|| format!("canonical form: {told}"))
}
