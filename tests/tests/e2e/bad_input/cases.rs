//! The cases, as data: how the input is spoiled, and what must be said of it.

use std::fs;

use dual16_quant::onnx::{ModelProto, StringStringEntryProto};
use dual16_tests::data::Copy;
use prost::Message as _;

use super::{BAD_INPUT, Case, UNREACHABLE};

const BATCH: &str = "calib/001.safetensors";

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
        says: &["model.onnx", "not a whole ONNX model"],
    },
    Case {
        name: "the model is empty",
        spoil: |copy| fs::write(copy.file("model.onnx"), "").unwrap(),
        arguments: &[],
        code: BAD_INPUT,
        says: &["model.onnx", "not a whole ONNX model"],
    },
    Case {
        name: "external data outside the model's folder",
        spoil: |copy| external_data(copy, "../secret"),
        arguments: &[],
        code: BAD_INPUT,
        says: &[
            "model.onnx",
            "linear1.bias",
            "../secret",
            "leaves the folder",
            "own folder",
        ],
    },
    Case {
        name: "external data that is not there",
        spoil: |copy| external_data(copy, "weights.bin"),
        arguments: &[],
        code: BAD_INPUT,
        says: &[
            "model.onnx",
            "linear1.bias",
            "weights.bin",
            "does not exist",
        ],
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
];

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
];

pub(super) const SETTINGS: &[Case] = &[
    Case {
        name: "an unknown layer",
        spoil: intact,
        arguments: &["--linear", "liner2=split"],
        code: BAD_INPUT,
        says: &["no Linear layer is named 'liner2'", "nearest: linear2"],
    },
    Case {
        name: "a glob that matches nothing",
        spoil: intact,
        arguments: &["--linear", "blocks.*=split"],
        code: BAD_INPUT,
        says: &["no Linear layer is named 'blocks.*'", "linear"],
    },
    Case {
        name: "an unknown way",
        spoil: intact,
        arguments: &["--linear", "linear2=fast"],
        code: BAD_INPUT,
        says: &[
            "linear2=fast",
            "unknown way",
            "a8w8, a16w8, a8w16, mul_sum, split, a16w16, auto",
        ],
    },
    Case {
        name: "a way that the toolchain cannot run",
        spoil: intact,
        arguments: &["--linear", "linear2=a16w16"],
        code: BAD_INPUT,
        says: &[
            "linear2",
            "a16w16 is illegal",
            "oe-3.1",
            "legal: a8w8, a16w8, a8w16, mul_sum, split",
        ],
    },
    Case {
        name: "a scale of 0",
        spoil: intact,
        arguments: &["--fixed-scale", "linear2.mul=0"],
        code: BAD_INPUT,
        says: &["--fixed-scale", "linear2.mul", "must be finite and > 0"],
    },
    Case {
        name: "a negative scale",
        spoil: intact,
        arguments: &["--fixed-scale", "linear2.mul=-7/32767"],
        code: BAD_INPUT,
        says: &["--fixed-scale", "linear2.mul", "must be finite and > 0"],
    },
    Case {
        name: "an unknown template",
        spoil: intact,
        arguments: &["--template", "a4w4"],
        code: BAD_INPUT,
        says: &["a4w4", "--template", "a8w8, a16w8, a16w16"],
    },
    Case {
        name: "a server that is not there",
        spoil: intact,
        arguments: &["--server", "http://127.0.0.1:1"],
        code: UNREACHABLE,
        says: &["http://127.0.0.1:1", "refused"],
    },
];

fn intact(_: &Copy) {}

fn spoil_element(copy: &Copy, value: f32) {
    copy.edit_tensors(BATCH, |tensors| {
        let x = tensors.get_mut("x").unwrap();
        let (rows, columns) = (x.shape[1], x.shape[2]);
        x.data[rows * columns + 2 * columns + 3] = value;
    });
}

/// Makes the model name another file for the bias of linear1, as exporters do for large ones.
fn external_data(copy: &Copy, location: &str) {
    copy.edit("model.onnx", |bytes| {
        let mut model = ModelProto::decode(bytes.as_slice()).unwrap();
        let graph = model.graph.as_mut().unwrap();
        let bias = graph
            .initializer
            .iter_mut()
            .find(|tensor| tensor.name == "linear1.bias")
            .unwrap();
        bias.raw_data = None;
        bias.data_location = 1;
        bias.external_data = vec![StringStringEntryProto {
            key: "location".to_owned(),
            value: location.to_owned(),
        }];
        *bytes = model.encode_to_vec();
    });
}
