//! Bad input, one case a row: the exit code that the help documents, a message that names what was
//! wrong and says what would be right, and nothing half-written.

use std::fs;

use dual16_quant::onnx::{ModelProto, StringStringEntryProto};
use dual16_tests::{
    Dual16, Finished, Results,
    data::{Copy, digits, smallmodel},
};
use prost::Message as _;

/// The job was begun and its input found to be at fault.
const JOB_FAILED: i32 = 1;
const BAD_INPUT: i32 = 2;
const UNREACHABLE: i32 = 3;

struct Case {
    name: &'static str,
    /// Spoils the copy of the model, or is [`intact`].
    spoil: fn(&Copy),
    /// Arguments after `quantize MODEL --calib CALIB --out OUT`.
    arguments: &'static [&'static str],
    code: i32,
    /// All of it must be on stderr.
    says: &'static [&'static str],
}

fn intact(_: &Copy) {}

const FILES: &[Case] = &[
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

const BATCHES: &[Case] = &[
    Case {
        name: "a NaN in a batch",
        spoil: |copy| spoil_element(copy, f32::NAN),
        arguments: &[],
        code: JOB_FAILED,
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
        code: JOB_FAILED,
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
        code: JOB_FAILED,
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
        code: JOB_FAILED,
        says: &[
            "001.safetensors",
            "'x' is missing",
            "'pixels'",
            "INVALID_BATCH",
        ],
    },
];

const SETTINGS: &[Case] = &[
    Case {
        name: "an unknown layer",
        spoil: intact,
        arguments: &["--linear", "liner2=split"],
        code: JOB_FAILED,
        says: &["no Linear layer is named 'liner2'", "nearest: linear2"],
    },
    Case {
        name: "a glob that matches nothing",
        spoil: intact,
        arguments: &["--linear", "blocks.*=split"],
        code: JOB_FAILED,
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
        code: JOB_FAILED,
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

const BATCH: &str = "calib/001.safetensors";

#[test]
fn files_that_are_missing_damaged_or_elsewhere() {
    check(FILES);
}

#[test]
fn batches_that_do_not_fit() {
    check(BATCHES);
}

#[test]
fn settings_that_make_no_sense() {
    check(SETTINGS);
}

#[test]
fn weights_that_are_cut_off() {
    let copy = Copy::of(&smallmodel(), 1);
    copy.edit("float.safetensors", |bytes| bytes.truncate(bytes.len() - 1));
    let out = Results::new();
    let run = Dual16::new(["quantize", "--weights"])
        .arg(copy.file("float.safetensors"))
        .arg("--activations")
        .arg(copy.file("calib"))
        .out(&out.path())
        .run();
    let says = ["float.safetensors", "not a whole safetensors file"];
    let problems = problems(&run, BAD_INPUT, &says, &out);
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn an_out_that_is_a_file_is_found_before_the_work() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let run = Dual16::quantize(&digits()).out(file.path()).run();
    let named = file.path().to_str().unwrap();
    assert!(run.code() != 0 && run.stderr.contains(named), "{run}");
    assert!(
        !run.stderr.contains("panicked") && !run.stderr.contains("observe"),
        "{run}"
    );
    assert_eq!(fs::read(file.path()).unwrap(), b"");
}

fn check(cases: &[Case]) {
    let mut problems_found = Vec::new();
    for case in cases {
        let copy = Copy::of(&smallmodel(), 2);
        (case.spoil)(&copy);
        let out = Results::new();
        let run = Dual16::quantize(copy.path())
            .args(case.arguments)
            .out(&out.path())
            .run();
        for problem in problems(&run, case.code, case.says, &out) {
            problems_found.push(format!("{}: {problem}", case.name));
        }
    }
    assert!(problems_found.is_empty(), "{}", problems_found.join("\n"));
}

/// What is wrong with how a command failed; nothing, if it is as it should be.
fn problems(run: &Finished, code: i32, says: &[&str], out: &Results) -> Vec<String> {
    let mut problems = Vec::new();
    let mut expect = |holds: bool, what: String| {
        if !holds {
            problems.push(format!("{what}; {run}"));
        }
    };
    expect(
        run.code() == code,
        format!("ended with {}, not {code}", run.code()),
    );
    for part in says {
        expect(run.stderr.contains(part), format!("does not say {part:?}"));
    }
    expect(!run.stderr.contains("panicked"), "panicked".to_owned());
    expect(run.stdout.is_empty(), "wrote to stdout".to_owned());
    // The state of a job that failed may stay, for the next try to go on from.
    let left: Vec<String> = out
        .names()
        .into_iter()
        .filter(|name| name != ".dual16")
        .collect();
    expect(left.is_empty(), format!("left {left:?} behind"));
    problems
}

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
