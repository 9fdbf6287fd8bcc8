//! Batches that do not fit the model, or hold what cannot be quantized.

use std::{
    fs::{self, File},
    io::Write as _,
};

use dual16_tests::data::Copy;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::{BAD_INPUT, BATCH, Case};

pub(super) const BATCHES: &[Case] = &[
    Case {
        name: "a NaN in a batch",
        spoil: |copy| spoil_element(copy, f32::NAN),
        arguments: &[],
        code: BAD_INPUT,
        says: &[
            "001.safetensors",
            "'x'",
            "NaN",
            "[1, 2, 3]",
            "finite",
            "NON_FINITE",
        ],
    },
    Case {
        name: "an inf in a batch",
        spoil: |copy| spoil_element(copy, f32::INFINITY),
        arguments: &[],
        code: BAD_INPUT,
        says: &[
            "001.safetensors",
            "'x'",
            "inf",
            "[1, 2, 3]",
            "finite",
            "NON_FINITE",
        ],
    },
    Case {
        name: "a batch of another shape",
        spoil: |copy| {
            copy.edit_tensors(BATCH, |tensors| {
                tensors.get_mut("x").unwrap().shape = vec![2, 50, 512];
            });
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &[
            "001.safetensors",
            "'x'",
            "[2, 50, 512]",
            "[2, 100, 256]",
            "INVALID_BATCH",
        ],
    },
    Case {
        name: "a batch without the model's input",
        spoil: |copy| {
            copy.edit_tensors(BATCH, |tensors| {
                let x = tensors.remove("x").unwrap();
                tensors.insert("pixels".to_owned(), x);
            });
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &[
            "001.safetensors",
            "'x' is missing",
            "'pixels'",
            "INVALID_BATCH",
        ],
    },
    Case {
        name: "a batch without elements",
        spoil: |copy| {
            copy.edit_tensors(BATCH, |tensors| {
                let x = tensors.get_mut("x").unwrap();
                (x.shape, x.data) = (vec![0, 100, 256], Vec::new());
            });
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &[
            "001.safetensors",
            "'x' has shape [0, 100, 256]",
            "needs [2, 100, 256]",
            "INVALID_BATCH",
        ],
    },
    Case {
        name: "a batch of integers that no float is",
        spoil: |copy| {
            let header = r#"{'descr': '<i8', 'fortran_order': False, 'shape': (2, 100, 256), }"#;
            let mut elements = vec![0; 409_600];
            elements[8..16].copy_from_slice(&i64::MAX.to_le_bytes());
            write_npz(copy, &[("x", header, &elements)]);
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &[
            "002.npz",
            "'x'",
            "9223372036854775807",
            "[0, 0, 1]",
            "no float32",
            "INVALID_BATCH",
        ],
    },
    Case {
        name: "a batch of another type",
        spoil: |copy| {
            let header = r#"{'descr': '<c8', 'fortran_order': False, 'shape': (2, 100, 256), }"#;
            write_npz(copy, &[("x", header, &[0; 409_600])]);
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &["002.npz", "'x'", "dtype is none of float32", "<c8"],
    },
    Case {
        name: "an array that is cut off",
        spoil: |copy| {
            let header = r#"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 100, 256), }"#;
            write_npz(copy, &[("x", header, &[0; 1_000])]);
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &["002.npz", "'x'", "truncated", "204800 bytes"],
    },
    Case {
        name: "an array that unpacks to more than its shape",
        spoil: |copy| {
            let header = r#"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 100, 256), }"#;
            write_npz(copy, &[("x", header, &[0; 16 << 20])]);
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &["002.npz", "'x'", "more than the 204800 bytes"],
    },
    Case {
        name: "an array whose header nests without end",
        spoil: |copy| write_npz(copy, &[("x", &"(".repeat(60_000), &[])]),
        arguments: &[],
        code: BAD_INPUT,
        says: &["002.npz", "'x'", "header is not one that NumPy writes"],
    },
    Case {
        name: "an array that says it unpacks to more than any batch has",
        spoil: |copy| {
            let header = r#"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967297,), }"#;
            write_npz(copy, &[("x", header, &[0; 4])]);
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &[
            "002.npz",
            "17179869188 bytes unpacked",
            "at most 17179869184",
            "--limit-unpacked-bytes",
            "LIMIT_EXCEEDED",
        ],
    },
    Case {
        name: "an array of a long name",
        spoil: |copy| write_npz(copy, &[(&"a".repeat(1025), "", &[])]),
        arguments: &[],
        code: BAD_INPUT,
        says: &[
            "002.npz",
            "array 'aaa",
            "1025 bytes",
            "at most 1024",
            "--limit-tensor-name-bytes",
        ],
    },
    Case {
        name: "an archive that says it has more arrays than any batch",
        spoil: |copy| {
            write_npz(copy, &[]);
            copy.edit("calib/002.npz", say_many_entries);
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &[
            "002.npz",
            "4294967296 tensors",
            "at most 100000",
            "--limit-file-tensors",
        ],
    },
    Case {
        name: "an archive that says its list is far beyond its end",
        spoil: |copy| {
            let list = [&b"PK\x06\x07\0\0\0\0"[..], &[0xff; 8], &[0; 4]].concat();
            let end = [&b"PK\x05\x06"[..], &[0; 18]].concat();
            fs::write(copy.file("calib/002.npz"), [list, end].concat()).unwrap();
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &["002.npz", "INVALID_BATCH"],
    },
    Case {
        name: "a batch of too many dimensions",
        spoil: |copy| {
            copy.edit_tensors(BATCH, |tensors| {
                let shape = &mut tensors.get_mut("x").unwrap().shape;
                shape.splice(0..0, [1; 62]).for_each(drop);
            });
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &["001.safetensors", "'x'", "65 dimensions", "at most 64"],
    },
    Case {
        name: "an archive without the model's input",
        spoil: |copy| {
            let header = r#"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }"#;
            write_npz(copy, &[("pixels", header, &[0; 4])]);
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &["002.npz", "'x' is missing", "'pixels'"],
    },
];

fn spoil_element(copy: &Copy, value: f32) {
    copy.edit_tensors(BATCH, |tensors| {
        let x = tensors.get_mut("x").unwrap();
        let (rows, columns) = (x.shape[1], x.shape[2]);
        x.data[rows * columns + 2 * columns + 3] = value;
    });
}

/// Writes a NumPy archive beside the batches: names, headers and elements.
fn write_npz(copy: &Copy, arrays: &[(&str, &str, &[u8])]) {
    let mut archive = ZipWriter::new(File::create(copy.file("calib/002.npz")).unwrap());
    let deflated = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for (name, header, elements) in arrays {
        let length = u16::try_from(header.len()).unwrap().to_le_bytes();
        archive.start_file(format!("{name}.npy"), deflated).unwrap();
        for part in [b"\x93NUMPY\x01\0", &length[..], header.as_bytes(), elements] {
            archive.write_all(part).unwrap();
        }
    }
    archive.finish().unwrap();
}

/// Puts the records of a large archive before the end of an empty one: 2^32 entries, none there.
fn say_many_entries(archive: &mut Vec<u8>) {
    let end = archive.split_off(archive.len() - 22);
    let position = (archive.len() as u64).to_le_bytes();
    let count = (1_u64 << 32).to_le_bytes();
    let wide = [
        b"PK\x06\x06",
        &44_u64.to_le_bytes()[..],
        &[0; 12],
        &count,
        &count,
        &[0; 16],
    ];
    archive.extend(wide.concat());
    archive.extend([b"PK\x06\x07", &[0; 4][..], &position, &[1, 0, 0, 0]].concat());
    archive.extend(end);
}
