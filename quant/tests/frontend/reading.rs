//! What a batch file says of itself before anything of it is read: how much memory that takes, and
//! that it cannot be read at all.

use std::{fs::File, path::Path};

use crate::shared::LIMITS;
use dual16_quant::{
    Error,
    batch::BatchFile,
    model::{ElementKind, InputShape, InputSpec},
};
use ndarray::{Array2, Array3, Dimension, ShapeBuilder as _};
use ndarray_npy::{NpzWriter, WritableElement};
use safetensors::{Dtype, tensor::TensorView};
use tempfile::TempDir;

fn input(kind: ElementKind, shape: InputShape) -> [InputSpec; 1] {
    [InputSpec {
        name: "x".to_owned(),
        kind,
        shape,
    }]
}

fn reading(path: &Path, inputs: &[InputSpec]) -> u64 {
    let name = path.file_name().unwrap().to_str().unwrap();
    let file = BatchFile::open(name, path, inputs, LIMITS).unwrap();
    file.reading_bytes()
}

fn npz<T: WritableElement, D: Dimension>(
    folder: &TempDir,
    x: &ndarray::Array<T, D>,
) -> std::path::PathBuf {
    let path = folder.path().join("b.npz");
    let mut writer = NpzWriter::new_compressed(File::create(&path).unwrap());
    writer.add_array("x", x).unwrap();
    writer.finish().unwrap();
    path
}

#[test]
fn an_archive_takes_all_of_a_stack_and_of_safetensors_only_the_part_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let rows = |kind| input(kind, InputShape::Ranked(vec![Some(10), Some(2)]));
    let bytes = 5 * 10 * 2 * 4;
    // The bytes and the floats of five batches, and the one that is cut out.
    let stack = Array3::<f32>::ones((5, 10, 2));
    let path = npz(&folder, &stack);
    assert_eq!(
        reading(&path, &rows(ElementKind::F32)),
        2 * bytes + bytes / 5
    );
    // As long integers, which are twice as long until they are narrowed.
    let path = npz(&folder, &stack.mapv(|x| x as i64));
    assert_eq!(
        reading(&path, &rows(ElementKind::I32)),
        4 * bytes + bytes / 5
    );
    // In the other order, which is read before it is turned.
    let turned = Array2::<f32>::ones((10, 2).f());
    let path = npz(&folder, &turned);
    assert_eq!(reading(&path, &rows(ElementKind::F32)), 3 * bytes / 5);

    let path = folder.path().join("b.safetensors");
    let content = vec![0; bytes as usize];
    let view = TensorView::new(Dtype::F32, vec![5, 10, 2], &content).unwrap();
    safetensors::serialize_to_file([("x", view)], None, &path).unwrap();
    assert_eq!(reading(&path, &rows(ElementKind::F32)), 2 * bytes / 5);
}

#[test]
fn more_elements_than_can_be_are_told_when_the_file_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b.npz");
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387905, 4), }";
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    let array = [b"\x93NUMPY\x01\0", &length[..], header.as_bytes(), &[0; 16]].concat();
    let mut archive = zip::ZipWriter::new(File::create(&path).unwrap());
    let plain = zip::write::SimpleFileOptions::default();
    archive.start_file("x.npy", plain).unwrap();
    std::io::Write::write_all(&mut archive, &array).unwrap();
    archive.finish().unwrap();
    let inputs = input(ElementKind::F32, InputShape::Trailing(Vec::new()));
    let error = BatchFile::open("b.npz", &path, &inputs, LIMITS).unwrap_err();
    let says = "b.npz: tensor 'x': shape [4611686018427387905, 4] is impossible";
    assert_eq!(error.to_string(), says);
}

/// Opens a safetensors file with this header, and four bytes.
fn with_header(header: &str) -> Result<(), Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b.safetensors");
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(&[0; 4]);
    std::fs::write(&path, bytes).unwrap();
    let inputs = input(ElementKind::F32, InputShape::Ranked(vec![Some(1)]));
    BatchFile::open("b.safetensors", &path, &inputs, LIMITS).map(|_| ())
}

#[test]
fn no_header_makes_a_long_message() {
    let shape = |rank: usize| {
        let ones = vec!["1"; rank].join(",");
        with_header(&format!(
            r#"{{"x":{{"dtype":"F32","shape":[{ones}],"data_offsets":[0,4]}}}}"#
        ))
    };
    let error = shape(64).unwrap_err();
    assert!(error.to_string().contains("input 'x' needs [1]"), "{error}");
    for rank in [65, 1 << 20] {
        let error = shape(rank).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("b.safetensors: tensor 'x' has {rank} dimensions; at most 64 may be")
        );
        assert_eq!(error.code(), "INVALID_BATCH");
    }
    let long = "F".repeat(1 << 20);
    for header in [
        format!(r#"{{"x":{{"dtype":"{long}","shape":[1],"data_offsets":[0,4]}}}}"#),
        format!(r#"{{"x":{{"dtype":"F32","shape":"{long}","data_offsets":[0,4]}}}}"#),
        format!(r#"{{"x":"{long}"}}"#),
    ] {
        let text = with_header(&header).unwrap_err().to_string();
        assert!(
            text.starts_with("b.safetensors: damaged") && text.len() < 500,
            "{} bytes",
            text.len()
        );
    }
}
