//! NumPy's array format, byte by byte: what the writer of the tests in `batch` never writes.

use std::{fs::File, io::Write as _, path::PathBuf};

use crate::shared::LIMITS;
use dual16_quant::{
    batch::BatchFile,
    model::{ElementKind, InputShape, InputSpec},
    tensor::Datum,
};
use tempfile::TempDir;
use zip::{ZipWriter, write::SimpleFileOptions};

/// An archive with one array, `x`, of this header and these elements.
fn archive(folder: &TempDir, header: &str, elements: &[u8]) -> PathBuf {
    let path = folder.path().join("b.npz");
    let mut archive = ZipWriter::new(File::create(&path).unwrap());
    archive
        .start_file("x.npy", SimpleFileOptions::default())
        .unwrap();
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    for part in [b"\x93NUMPY\x01\0", &length[..], header.as_bytes(), elements] {
        archive.write_all(part).unwrap();
    }
    archive.finish().unwrap();
    path
}

/// Reads `x`, whatever its shape.
fn read(header: &str, elements: &[u8]) -> Result<Datum, String> {
    let folder = tempfile::tempdir().unwrap();
    let inputs = [InputSpec {
        name: "x".to_owned(),
        kind: ElementKind::F32,
        shape: InputShape::Trailing(Vec::new()),
    }];
    let path = archive(&folder, header, elements);
    let batch = BatchFile::open("b.npz", &path, &inputs, LIMITS).and_then(|mut file| file.read(0));
    match batch {
        Ok(mut batch) => Ok(batch.remove("x").unwrap()),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn every_byte_order_width_and_spelling_of_a_header() {
    let halves = [0x3e00_u16, 0xc000].map(u16::to_le_bytes).concat();
    let big = [1.5_f32, -2.0].map(f32::to_be_bytes).concat();
    let little = [1.5_f64, -2.0].map(f64::to_le_bytes).concat();
    for (header, elements) in [
        (
            "{'descr': '<f2', 'fortran_order': False, 'shape': (2,), }",
            &halves,
        ),
        (
            "{'descr': '>f4', 'fortran_order': False, 'shape': (2,)}\n",
            &big,
        ),
        // Python 2 wrote long integers so; other tools write other quotes and another order.
        (
            "{\"shape\":(2L,),\"fortran_order\":False,\"descr\":\"<f8\"}",
            &little,
        ),
        (
            "{'descr': '<f8', 'fortran_order': True, 'shape': (2, ), }   \n",
            &little,
        ),
    ] {
        let x = read(header, elements).unwrap();
        let x = x.as_f32().unwrap();
        assert_eq!(x.as_slice().unwrap(), [1.5, -2.0], "{header}");
        assert_eq!(x.shape(), [2], "{header}");
    }
    let scalar = read(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (), }",
        &3.0_f32.to_le_bytes(),
    );
    assert_eq!(
        scalar.unwrap().as_f32().unwrap().as_slice(),
        Some(&[3.0][..])
    );
}

#[test]
fn column_major_becomes_row_major() {
    let elements = [1.0_f32, 4.0, 2.0, 5.0, 3.0, 6.0]
        .map(f32::to_le_bytes)
        .concat();
    let header = "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }";
    let x = read(header, &elements).unwrap();
    assert_eq!(
        x.as_f32().unwrap().as_slice().unwrap(),
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    );
}

#[test]
fn what_numpy_does_not_write_is_said() {
    let of = |descr: &str, shape: &str| {
        format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}")
    };
    let cases = [
        (
            of("'<f4'", "(2,)"),
            7,
            "truncated: shape [2] needs 8 bytes, it has 7",
        ),
        (of("'<f4'", "(2,)"), 9, "more than the 8 bytes of shape [2]"),
        (of("'<c8'", "(2,)"), 16, "none of float32"),
        (of("[('a', '<f4')]", "(2,)"), 8, "it is a record"),
        (of("'<f4'", "(-1,)"), 8, "not one that NumPy writes"),
        (of("'<f4'", "(2"), 8, "not one that NumPy writes"),
        ("(".repeat(1000), 8, "not one that NumPy writes"),
        (of("'<f4'", "(4611686018427387904,)"), 8, "is impossible"),
    ];
    for (header, bytes, expected) in cases {
        let error = read(&header, &vec![0; bytes]).unwrap_err();
        assert!(
            error.starts_with("b.npz: tensor 'x': ") && error.contains(expected),
            "{header}: {error}"
        );
    }
}
