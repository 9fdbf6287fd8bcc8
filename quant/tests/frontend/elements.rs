//! Every element type in safetensors and NumPy's format, for every type of input: what is exact is
//! read, and what is not is named.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};

use crate::shared::LIMITS;
use dual16_quant::{
    Error,
    batch::BatchFile,
    model::{ElementKind, InputShape, InputSpec},
    tensor::Datum,
};
use ndarray::arr1;
use safetensors::{Dtype, tensor::TensorView};
use tempfile::TempDir;
use zip::{ZipWriter, write::SimpleFileOptions};

/// The types as NumPy and as safetensors call them, and 0, 1 and 3 in each; of bool 0, 1 and 1.
fn types() -> Vec<(&'static str, Dtype, Vec<u8>)> {
    let bytes = |width: usize| -> Vec<u8> {
        let number = |value: u8| {
            let mut bytes = vec![0; width];
            bytes[0] = value;
            bytes
        };
        [0, 1, 3].map(number).concat()
    };
    let halves = |values: [u16; 3]| values.map(u16::to_le_bytes).concat();
    vec![
        ("|b1", Dtype::BOOL, vec![0, 1, 1]),
        ("|i1", Dtype::I8, bytes(1)),
        ("<i2", Dtype::I16, bytes(2)),
        ("<i4", Dtype::I32, bytes(4)),
        ("<i8", Dtype::I64, bytes(8)),
        ("|u1", Dtype::U8, bytes(1)),
        ("<u2", Dtype::U16, bytes(2)),
        ("<u4", Dtype::U32, bytes(4)),
        ("<u8", Dtype::U64, bytes(8)),
        ("<f2", Dtype::F16, halves([0, 0x3c00, 0x4200])),
        ("<V2", Dtype::BF16, halves([0, 0x3f80, 0x4040])),
        (
            "<f4",
            Dtype::F32,
            [0_f32, 1.0, 3.0].map(f32::to_le_bytes).concat(),
        ),
        (
            "<f8",
            Dtype::F64,
            [0_f64, 1.0, 3.0].map(f64::to_le_bytes).concat(),
        ),
    ]
}

const KINDS: [ElementKind; 7] = [
    ElementKind::F32,
    ElementKind::I32,
    ElementKind::U32,
    ElementKind::I16,
    ElementKind::U16,
    ElementKind::I8,
    ElementKind::U8,
];

fn safetensors(folder: &TempDir, dtype: Dtype, shape: &[usize], bytes: &[u8]) -> PathBuf {
    let view = TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
    let path = folder.path().join("b.safetensors");
    safetensors::serialize_to_file([("x", view)], None, &path).unwrap();
    path
}

fn npz(folder: &TempDir, descr: &str, fortran: bool, shape: &[usize], bytes: &[u8]) -> PathBuf {
    let shape: String = shape.iter().map(|length| format!("{length}, ")).collect();
    let fortran = if fortran { "True" } else { "False" };
    let header =
        format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': ({shape}), }}");
    let path = folder.path().join("b.npz");
    let mut archive = ZipWriter::new(File::create(&path).unwrap());
    archive
        .start_file("x.npy", SimpleFileOptions::default())
        .unwrap();
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    for part in [b"\x93NUMPY\x01\0", &length[..], header.as_bytes(), bytes] {
        archive.write_all(part).unwrap();
    }
    archive.finish().unwrap();
    path
}

/// Batch `index` of a file of batches of rank 1 (2 with `fortran`), as an input of this kind.
fn read(path: &Path, kind: ElementKind, rank: usize, index: usize) -> Result<Datum, Error> {
    let name = path.file_name().unwrap().to_str().unwrap();
    let input = InputSpec {
        name: "x".to_owned(),
        kind,
        shape: InputShape::Ranked(vec![None; rank]),
    };
    let mut file = BatchFile::open(name, path, &[input], LIMITS)?;
    file.read(index).map(|mut batch| batch.remove("x").unwrap())
}

fn expected(kind: ElementKind, values: [u8; 3]) -> Datum {
    let values = arr1(&values).into_dyn();
    match kind {
        ElementKind::F32 => Datum::F32(values.mapv(f32::from)),
        ElementKind::I8 => Datum::I8(values.mapv(|x| x as i8)),
        ElementKind::U8 => Datum::U8(values),
        _ => Datum::I32(values.mapv(i32::from)),
    }
}

#[test]
fn every_type_is_read_for_every_input_that_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    for (descr, dtype, bytes) in types() {
        let values = match dtype {
            Dtype::BOOL => [0, 1, 1],
            _ => [0, 1, 3],
        };
        for path in [
            safetensors(&folder, dtype, &[3], &bytes),
            npz(&folder, descr, false, &[3], &bytes),
        ] {
            for kind in KINDS {
                let read = read(&path, kind, 1, 0).unwrap();
                assert_eq!(read, expected(kind, values), "{descr} as {kind}");
            }
            let read = read(&path, ElementKind::Bool, 1, 0);
            match dtype {
                Dtype::BOOL => assert_eq!(read.unwrap(), expected(ElementKind::Bool, values)),
                _ => {
                    let error = read.unwrap_err().to_string();
                    let says = "tensor 'x': it holds 3 at index [2], which the input's type bool";
                    assert!(error.contains(says), "{descr}: {error}");
                }
            }
        }
    }
}

#[test]
fn big_endian_numbers_of_every_width_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let of = |width: usize| {
        let mut bytes = vec![0; width];
        bytes[width - 2..].copy_from_slice(&[1, 2]);
        bytes
    };
    for (descr, width) in [
        (">i2", 2),
        (">u2", 2),
        (">i4", 4),
        (">u4", 4),
        (">i8", 8),
        (">u8", 8),
    ] {
        let path = npz(&folder, descr, false, &[1], &of(width));
        let read = read(&path, ElementKind::I32, 1, 0).unwrap();
        assert_eq!(read, Datum::I32(arr1(&[258]).into_dyn()), "{descr}");
    }
}

#[test]
fn what_an_input_cannot_hold_is_named_with_file_tensor_index_and_value() {
    let folder = tempfile::tempdir().unwrap();
    let i64s = |values: [i64; 2]| values.map(i64::to_le_bytes).concat();
    let f64s = |values: [f64; 2]| values.map(f64::to_le_bytes).concat();
    let u64s = |values: [u64; 2]| values.map(u64::to_le_bytes).concat();
    let (i64, u64, f64) = (Dtype::I64, Dtype::U64, Dtype::F64);
    let wide = "does not fit 32 bits; 64-bit integers";
    let cases = [
        (
            i64,
            i64s([1, 1 << 31]),
            ElementKind::I32,
            "2147483648 at index [1]",
            wide,
        ),
        (
            i64,
            i64s([-1 << 40, 0]),
            ElementKind::I32,
            "-1099511627776 at index [0]",
            wide,
        ),
        (
            u64,
            u64s([0, u64::MAX]),
            ElementKind::U32,
            "18446744073709551615 at index [1]",
            wide,
        ),
        (
            f64,
            f64s([0.0, 1e10]),
            ElementKind::I32,
            "10000000000 at index [1]",
            wide,
        ),
        (
            i64,
            i64s([0, -1]),
            ElementKind::U32,
            "-1 at index [1]",
            "uint32 or uint64 cannot hold",
        ),
        (
            i64,
            i64s([0, 40_000]),
            ElementKind::I16,
            "40000 at index [1]",
            "int16 cannot hold",
        ),
        (
            i64,
            i64s([0, 70_000]),
            ElementKind::U16,
            "70000 at index [1]",
            "uint16 cannot hold",
        ),
        (
            i64,
            i64s([0, 128]),
            ElementKind::I8,
            "128 at index [1]",
            "int8 cannot hold",
        ),
        (
            i64,
            i64s([0, 256]),
            ElementKind::U8,
            "256 at index [1]",
            "uint8 cannot hold",
        ),
        (
            f64,
            f64s([0.0, 0.5]),
            ElementKind::I32,
            "0.5 at index [1]",
            "integers alone",
        ),
        (
            f64,
            f64s([0.0, f64::NAN]),
            ElementKind::U8,
            "NaN at index [1]",
            "integers alone",
        ),
        (
            i64,
            i64s([0, (1 << 24) + 1]),
            ElementKind::F32,
            "16777217 at index [1]",
            "no float32",
        ),
        (
            i64,
            i64s([0, i64::MAX]),
            ElementKind::F32,
            "807 at index [1]",
            "no float32",
        ),
    ];
    for (dtype, bytes, kind, found, why) in cases {
        let path = safetensors(&folder, dtype, &[2], &bytes);
        let error = read(&path, kind, 1, 0).unwrap_err();
        assert_eq!(error.code(), "INVALID_BATCH");
        let error = error.to_string();
        assert!(
            error.starts_with("b.safetensors: tensor 'x': it holds "),
            "{error}"
        );
        assert!(error.contains(found) && error.contains(why), "{error}");
    }
}

#[test]
fn the_index_is_that_of_the_array_whatever_its_order_and_counts_the_stack() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = [0_i64; 12].map(i64::to_le_bytes);
    // Row-major [2, 2, 3]: [1, 0, 2]. Column-major [4, 3]: [0, 2].
    bytes[8] = (1_i64 << 33).to_le_bytes();
    let bytes = bytes.concat();
    for path in [
        safetensors(&folder, Dtype::I64, &[2, 2, 3], &bytes),
        npz(&folder, "<i8", false, &[2, 2, 3], &bytes),
    ] {
        let error = read(&path, ElementKind::I32, 2, 1).unwrap_err().to_string();
        assert!(error.contains("8589934592 at index [1, 0, 2]"), "{error}");
    }
    let path = npz(&folder, "<i8", true, &[4, 3], &bytes);
    let error = read(&path, ElementKind::I32, 2, 0).unwrap_err().to_string();
    assert!(error.contains("8589934592 at index [0, 2]"), "{error}");
}
