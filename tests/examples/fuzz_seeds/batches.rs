//! Batches of a few elements in every type and layout that is read.

use std::io::{Cursor, Write as _};

use safetensors::{Dtype, serialize, tensor::TensorView};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::Seed;

pub(super) fn safetensors() -> Vec<Seed> {
    let zeros = [0_u8; 64];
    let file = |tensors: &[(&str, Dtype, &[usize], usize)]| {
        let views = tensors.iter().map(|&(name, dtype, shape, bytes)| {
            let view = TensorView::new(dtype, shape.to_vec(), &zeros[..bytes]).unwrap();
            (name, view)
        });
        serialize(views, None).unwrap()
    };
    vec![
        (
            "batch",
            file(&[
                ("x", Dtype::F32, &[2, 4], 32),
                ("label", Dtype::I64, &[2], 16),
            ]),
        ),
        ("half", file(&[("x", Dtype::F16, &[4], 8)])),
        ("tokens", file(&[("tokens", Dtype::I64, &[3], 24)])),
        (
            "bytes",
            file(&[("a", Dtype::I8, &[3], 3), ("b", Dtype::U8, &[3], 3)]),
        ),
        (
            "weights",
            file(&[
                ("fc.weight", Dtype::F32, &[2, 3], 24),
                ("fc.bias", Dtype::BF16, &[2], 4),
                ("head.weight", Dtype::F64, &[1, 2], 16),
            ]),
        ),
    ]
}

pub(super) fn npz() -> Vec<Seed> {
    let floats: Vec<u8> = (0..8_u8).flat_map(|x| f32::from(x).to_le_bytes()).collect();
    let x = npy("<f4", false, "(2, 4)", &floats);
    let note = npy("<U3", false, "()", b"h\0\0\0i\0\0\0!\0\0\0");
    let deflated = CompressionMethod::Deflated;
    let two = [("x.npy", x.as_slice()), ("note.npy", note.as_slice())];
    vec![
        ("stored", archive(CompressionMethod::Stored, &two)),
        ("deflated", archive(deflated, &two)),
        (
            "tokens",
            archive(
                deflated,
                &[("tokens", &npy("<i8", false, "(3,)", &[0; 24]))],
            ),
        ),
        ("npy", x),
        ("npy-fortran", npy("<f8", true, "(4, 2)", &[0; 64])),
        ("npy-big-endian", npy(">f4", false, "(1, 4)", &floats[..16])),
        ("npy-bool", npy("|b1", false, "(4,)", &[0, 1, 1, 0])),
        ("npy-scalar", npy("<i4", false, "()", &[7, 0, 0, 0])),
    ]
}

/// Version 1.0 of NumPy's format: magic, length of the header, header, elements.
fn npy(descr: &str, fortran: bool, shape: &str, data: &[u8]) -> Vec<u8> {
    let order = if fortran { "True" } else { "False" };
    let mut header =
        format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    [
        b"\x93NUMPY\x01\0".as_slice(),
        &length,
        header.as_bytes(),
        data,
    ]
    .concat()
}

fn archive(method: CompressionMethod, entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in entries {
        archive.start_file(*name, options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}
