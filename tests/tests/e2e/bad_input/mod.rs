//! Bad input, one case a row: the exit code that the help documents, a message that names what was
//! wrong and says what would be right, and nothing half-written.

mod cases;

use std::fs;

use dual16_tests::{
    Dual16, Finished, Results,
    data::{Copy, digits, smallmodel},
};

const BAD_INPUT: i32 = 2;
const UNREACHABLE: i32 = 3;

struct Case {
    name: &'static str,
    /// Spoils the copy of the model, or leaves it as it is.
    spoil: fn(&Copy),
    /// Arguments after `quantize MODEL --calib CALIB --out OUT`.
    arguments: &'static [&'static str],
    code: i32,
    /// All of it must be on stderr.
    says: &'static [&'static str],
}

#[test]
fn files_that_are_missing_damaged_or_elsewhere() {
    check(cases::FILES);
}

#[test]
fn batches_that_do_not_fit() {
    check(cases::BATCHES);
}

#[test]
fn settings_that_make_no_sense() {
    check(cases::SETTINGS);
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
    let left = out.names();
    expect(left.is_empty(), format!("left {left:?} behind"));
    problems
}
