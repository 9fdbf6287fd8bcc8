//! Files that are missing, damaged, of another kind, or elsewhere.

use std::fs;

use dual16_tests::data::Copy;

use super::{BAD_INPUT, BATCH, Case, intact};

pub(super) const FILES: &[Case] = &[
    Case {
        name: "the model is missing",
        spoil: |copy| fs::remove_file(copy.file("model.onnx")).unwrap(),
        arguments: &[],
        code: BAD_INPUT,
        says: &["model.onnx", "no such file"],
    },
    Case {
        name: "the model is cut off",
        spoil: |copy| copy.edit("model.onnx", |bytes| bytes.truncate(bytes.len() / 2)),
        arguments: &[],
        code: BAD_INPUT,
        says: &["model.onnx", "not a whole ONNX model", "cut off"],
    },
    Case {
        name: "the model is something else",
        spoil: |copy| fs::write(copy.file("model.onnx"), "dear diary, today ").unwrap(),
        arguments: &[],
        code: BAD_INPUT,
        says: &[
            "model.onnx",
            "a text file, not an ONNX model",
            "torch.onnx.export",
        ],
    },
    Case {
        name: "the model is a checkpoint",
        spoil: |copy| {
            let start = b"PK\x03\x04\0\0\x08\x08archive/data.pkl";
            fs::write(copy.file("model.onnx"), start).unwrap();
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &[
            "model.onnx",
            "a PyTorch file",
            "torch.onnx.export",
            "save_file",
        ],
    },
    Case {
        name: "the calibration folder holds images",
        spoil: |copy| {
            fs::remove_dir_all(copy.file("calib")).unwrap();
            fs::create_dir(copy.file("calib")).unwrap();
            fs::write(copy.file("calib/a.jpg"), b"\xff\xd8\xff").unwrap();
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &["calib", "no batches", "1 .jpg", "PIL", "np.savez", "\"x\""],
    },
    Case {
        name: "an input without its arrays",
        spoil: |copy| {
            fs::remove_dir_all(copy.file("calib")).unwrap();
            fs::create_dir_all(copy.file("calib/pixels")).unwrap();
            fs::write(copy.file("calib/pixels/0.npy"), b"\x93NUMPY").unwrap();
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &["calib", "input 'x'", "'pixels'", "NAME/000.npy"],
    },
    Case {
        name: "the model is empty",
        spoil: |copy| fs::write(copy.file("model.onnx"), "").unwrap(),
        arguments: &[],
        code: BAD_INPUT,
        says: &["model.onnx", "not a whole ONNX model"],
    },
    Case {
        name: "the calibration folder is empty",
        spoil: |copy| {
            fs::remove_dir_all(copy.file("calib")).unwrap();
            fs::create_dir(copy.file("calib")).unwrap();
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &["calib", "no batches", ".safetensors or .npz"],
    },
    Case {
        name: "the calibration folder is missing",
        spoil: |copy| fs::remove_dir_all(copy.file("calib")).unwrap(),
        arguments: &[],
        code: BAD_INPUT,
        says: &["calibration folder", "calib", "no such file"],
    },
    Case {
        name: "a batch is cut off",
        spoil: |copy| copy.edit(BATCH, |bytes| bytes.truncate(1000)),
        arguments: &[],
        code: BAD_INPUT,
        says: &["001.safetensors", "not a whole safetensors file"],
    },
    Case {
        name: "the model is a folder",
        spoil: |copy| {
            fs::remove_file(copy.file("model.onnx")).unwrap();
            fs::create_dir(copy.file("model.onnx")).unwrap();
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &["model.onnx", "expected a file", "it is a folder"],
    },
    Case {
        name: "the calibration folder is a file",
        spoil: |copy| {
            fs::remove_dir_all(copy.file("calib")).unwrap();
            fs::write(copy.file("calib"), "x").unwrap();
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &["the calibration folder", "calib", "a folder of them"],
    },
    Case {
        name: "a batch whose header says it is huge",
        spoil: |copy| {
            copy.edit(BATCH, |bytes| {
                bytes[..8].copy_from_slice(&(1_u64 << 60).to_le_bytes())
            })
        },
        arguments: &[],
        code: BAD_INPUT,
        says: &[
            "001.safetensors",
            "not a whole safetensors file",
            "length of a header",
        ],
    },
    Case {
        name: "a batch whose header is no JSON",
        spoil: |copy| copy.edit(BATCH, |bytes| bytes[8..12].copy_from_slice(b"????")),
        arguments: &[],
        code: BAD_INPUT,
        says: &["001.safetensors", "not a whole safetensors file", "JSON"],
    },
    Case {
        name: "a batch whose tensor is longer than its shape",
        spoil: |copy| replace_in_header(copy, "[2,100,256]", "[2,100,255]"),
        arguments: &[],
        code: BAD_INPUT,
        says: &["001.safetensors", "header"],
    },
    Case {
        name: "a batch whose shape overflows",
        spoil: |copy| replace_in_header(copy, "[2,100,256]", "[4294967296,4294967296]"),
        arguments: &[],
        code: BAD_INPUT,
        says: &["001.safetensors", "header"],
    },
    Case {
        name: "an archive that is none",
        spoil: |copy| fs::write(copy.file("calib/002.npz"), "PK, but no more").unwrap(),
        arguments: &[],
        code: BAD_INPUT,
        says: &["002.npz", "no .npz file, or a truncated one"],
    },
    Case {
        name: "evaluation batches that are not there",
        spoil: intact,
        arguments: &["--eval", "nowhere"],
        code: BAD_INPUT,
        says: &["the evaluation data", "nowhere", "no such file"],
    },
    Case {
        name: "evaluation batches of another format",
        spoil: intact,
        arguments: &["--eval", "Cargo.toml"],
        code: BAD_INPUT,
        says: &["the evaluation data", "Cargo.toml", ".safetensors, .npz"],
    },
];

/// Changes the header of a batch and no byte of its tensors: the header is padded to be as long.
fn replace_in_header(copy: &Copy, from: &str, to: &str) {
    copy.edit(BATCH, |bytes| {
        let length = usize::from(bytes[0]);
        let header = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
        let changed = header.replace(from, to);
        assert_ne!(changed, header);
        let changed = format!("{:length$}", changed.trim_end());
        bytes[0] = changed.len() as u8;
        bytes.splice(8..8 + length, changed.into_bytes());
    });
}
