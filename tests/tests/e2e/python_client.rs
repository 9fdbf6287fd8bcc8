//! The Python client's own tests, run on the program that was built here.

use std::{env, ffi::OsString, process::Command, time::Duration};

use dual16_tests::{data::repository, process::Process, programs::program, python};

/// A wheel, an environment and a type check take their time on a busy machine.
const LIMIT: Duration = Duration::from_secs(1200);

fn pytest(python: OsString, tests: &[&str]) {
    let mut command = Command::new(python);
    command
        .args(["-m", "pytest", "--quiet", "--color=no"])
        .args(tests)
        .current_dir(repository().join("client/python"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("DUAL16_PROGRAM", program("dual16"));
    let run = Process::spawn("pytest", command).wait(LIMIT).success();
    assert!(run.stdout.contains(" passed"), "nothing was tested: {run}");
}

#[test]
fn the_python_client_passes_its_tests() {
    pytest(python::interpreter().into(), &["tests"]);
}

/// With DUAL16_TEST_TORCH=1, ./test sets the variable.
#[test]
fn modules_of_pytorch_go_in_and_come_back() {
    let Some(python) = env::var_os("DUAL16_TORCH_PYTHON") else {
        return;
    };
    pytest(
        python,
        &[
            "tests/test_torch.py",
            "tests/test_handoff.py",
            "tests/test_tutorial.py",
            "tests/test_package.py::test_types",
        ],
    );
}
