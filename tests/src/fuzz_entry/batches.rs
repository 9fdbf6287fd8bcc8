//! Batches and weights: safetensors and NumPy archives.

use std::{io::Write as _, path::Path};

use dual16_quant::{
    InputLimits,
    batch::BatchFile,
    layers,
    model::{ElementKind, InputShape, InputSpec, Model},
};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::scratch::with_file;

/// Largest number of batches of one file that are read: a stack of empty ones has no end.
const READ: usize = 8;

/// Reads a safetensors file as a batch and as the weights of layer mode.
pub(super) fn safetensors(data: &[u8]) {
    with_file("batch.safetensors", data, |path| {
        as_batch("batch.safetensors", path);
        let Ok(model) = layers::to_onnx("batch.safetensors", path, None, &InputLimits::DEFAULT)
        else {
            return;
        };
        // What this crate makes of weights that it accepts, it must accept.
        let model = Model::from_bytes("layers", model.into(), &[], &InputLimits::NONE).unwrap();
        assert!(!model.outputs().is_empty());
    });
}

/// Reads a NumPy archive as a batch; a lone `.npy` is put into one first, since what mutates bytes
/// hardly ever gets past the checksums of an archive.
pub(super) fn npz(data: &[u8]) {
    let archive = data.starts_with(b"\x93NUMPY").then(|| archive_of(data));
    with_file("batch.npz", archive.as_deref().unwrap_or(data), |path| {
        as_batch("batch.npz", path);
    });
}

fn as_batch(name: &str, path: &Path) {
    for inputs in expectations() {
        let Ok(mut file) = BatchFile::open(name, path, &inputs, &InputLimits::DEFAULT) else {
            continue;
        };
        assert!(file.count() > 0, "a file of no batch was opened");
        for index in 0..file.count().min(READ) {
            let Ok(batch) = file.read(index) else {
                continue;
            };
            for input in &inputs {
                assert!(input.shape.fits(batch[&input.name].shape()), "{input:?}");
            }
        }
    }
}

/// Inputs of models that a batch may be meant for.
fn expectations() -> [Vec<InputSpec>; 4] {
    let input = |name: &str, kind, shape| InputSpec {
        name: name.to_owned(),
        kind,
        shape,
    };
    let any = || InputShape::Trailing(Vec::new());
    [
        vec![input("x", ElementKind::F32, any())],
        vec![input(
            "x",
            ElementKind::F32,
            InputShape::Ranked(vec![None, Some(4)]),
        )],
        vec![input("tokens", ElementKind::I32, any())],
        vec![
            input("a", ElementKind::I8, any()),
            input("b", ElementKind::U8, any()),
        ],
    ]
}

fn archive_of(npy: &[u8]) -> Vec<u8> {
    let mut archive = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    archive.start_file("x.npy", stored).unwrap();
    archive.write_all(npy).unwrap();
    archive.finish().unwrap().into_inner()
}
