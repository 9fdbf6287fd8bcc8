//! The program on operator tests of the onnx package, as a person would run it on them: right floats in
//! `outputs.safetensors` or a refusal by name. All of them: docs/testing.md.

use std::{env, path::Path, process::Command, time::Duration};

use dual16_tests::{data::repository, process::Process, programs::program, python};

/// Cases are short; a busy machine starts few of them a second.
const LIMIT: Duration = Duration::from_secs(600);
const SAMPLE: &str = "48";
/// Outputs that follow from no activation, scales that a batch gives, extremes of nothing.
const ALWAYS: [&str; 6] = [
    "test_xor2d",
    "test_shape",
    "test_constant",
    "test_bitshift_left_int64",
    "test_resize_upsample_scales_nearest",
    "test_reduce_max_empty_set_bool",
];

fn reference_models(arguments: &[&str], folder: &Path) {
    let mut command = Command::new(python::interpreter());
    command
        .current_dir(repository().join("tests/python"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg("-m")
        .args(arguments)
        .arg(folder);
    Process::spawn(arguments[0], command).wait(LIMIT).success();
}

#[test]
fn operator_tests_of_others_get_right_floats_or_a_refusal_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (sampled, always) = (folder.path().join("sampled"), folder.path().join("always"));
    let seed = env::var("PROPTEST_RNG_SEED").unwrap_or("16".to_owned());
    let writing = ["reference_models", "--group", "node", "--seed", &seed];
    reference_models(&[&writing[..], &["--sample", SAMPLE]].concat(), &sampled);
    let only = ALWAYS.iter().flat_map(|name| ["--only", name]);
    let only: Vec<&str> = writing.into_iter().chain(only).collect();
    reference_models(&only, &always);
    let program = program("dual16");
    for cases in [sampled, always] {
        let program = program.to_str().unwrap();
        reference_models(&["reference_models.program", program], &cases);
    }
}
