//! Bad input, one case a row: the exit code that the help documents, a message that names what was
//! wrong and says what would be right, nothing left behind on disk, and a server that is as well
//! afterwards as it was before.

mod batches;
mod commands;
mod files;
mod models;
mod requests;
mod settings;
mod usage;
mod wire;

use std::{collections::BTreeSet, fs};

use dual16_tests::{
    Dual16, Results, ServerProcess, WorkerProcess,
    data::{Copy, digits, smallmodel},
};

use self::commands::{check, local, on, problems};

const BAD_INPUT: i32 = 2;
const UNREACHABLE: i32 = 3;
/// The batch that most cases damage.
const BATCH: &str = "calib/001.safetensors";

/// A job whose inputs are spoiled.
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

fn intact(_: &Copy) {}

#[test]
fn every_bad_input_is_named_and_leaves_disk_and_server_as_they_were() {
    let groups = [
        files::FILES,
        models::MODELS,
        batches::BATCHES,
        settings::SETTINGS,
    ];
    let cases: Vec<&Case> = groups.into_iter().flatten().collect();
    let names: BTreeSet<&str> = cases
        .iter()
        .map(|case| case.name)
        .chain(usage::USAGES.iter().map(|usage| usage.name))
        .chain(requests::REQUESTS.iter().map(|request| request.name))
        .collect();
    let count = cases.len() + usage::USAGES.len() + requests::REQUESTS.len();
    assert_eq!(names.len(), count, "two cases have one name");
    assert!(count >= 60, "only {count} cases");

    let server = ServerProcess::start();
    let _worker = WorkerProcess::start(&server, "worker", 2);
    let url = server.url();
    let mut problems = check(&cases, |case| on(&url, case));
    problems.extend(check(usage::USAGES, |usage| commands::typed(&url, usage)));
    problems.extend(wire::check(&server));
    assert!(
        problems.is_empty(),
        "{} problems:\n{}",
        problems.len(),
        problems.join("\n")
    );

    wire::is_serving(&server);
    let out = Results::new();
    let good = Dual16::quantize(&smallmodel()).on(&server);
    good.out(&out.path()).run().success();
    assert_eq!(out.result()["layers"].as_array().unwrap().len(), 3);
}

#[test]
fn bad_batches_of_a_local_job_leave_no_state_behind() {
    let cases: Vec<&Case> = batches::BATCHES.iter().collect();
    let problems = check(&cases, |case| local(case));
    assert!(problems.is_empty(), "{}", problems.join("\n"));
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
