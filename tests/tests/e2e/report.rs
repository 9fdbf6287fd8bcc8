//! report.html as its reader has it: beside the results, made again, opened in a browser.

use std::{fs, path::Path};

use dual16_tests::{
    Dual16, Results, ServerProcess, WorkerProcess,
    data::{digits, smallmodel},
    python,
    results::{FILES, PAGE},
};

/// What a page may take, at most, of a model as small as these.
const MOST: u64 = 1_500_000;
/// A name that is up to something.
const HOSTILE: &str = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>";

fn open(folder: &Path, operator: &str) {
    let page = folder.join(PAGE);
    let size = fs::metadata(&page).unwrap().len();
    assert!(size < MOST, "{size} bytes");
    python::run("report_page.py", &[page.to_str().unwrap(), operator]).success();
}

#[test]
fn the_page_opens_without_a_word_and_shows_sorts_filters_and_links() {
    let out = Results::new();
    Dual16::quantize(&digits()).out(&out.path()).run().success();
    open(&out.path(), "blocks.0.fc1");
}

#[test]
fn names_from_the_model_are_shown_and_never_run() {
    let out = Results::new();
    Dual16::quantize(&smallmodel())
        .out(&out.path())
        .run()
        .success();
    for name in ["result.json", "plan.json", "graph.json", "per_layer.csv"] {
        let path = out.path().join(name);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("linear2"), "{name}");
        fs::write(&path, text.replace("linear2", HOSTILE)).unwrap();
    }
    Dual16::new(["report"]).arg(out.path()).run().success();
    open(&out.path(), HOSTILE);
}

#[test]
fn the_page_is_made_again_of_a_folder_or_a_job_and_is_the_same() {
    let server = ServerProcess::start();
    let _worker = WorkerProcess::start(&server, "worker", 1);
    let out = Results::new();
    let run = Dual16::quantize(&smallmodel())
        .on(&server)
        .out(&out.path())
        .run()
        .success();
    let job = run.stderr.split("submitted ").nth(1).unwrap();
    let job = job.split_whitespace().next().unwrap();
    let read = |results: &Results| fs::read(results.path().join(PAGE)).unwrap();
    let first = read(&out);

    let elsewhere = Results::new();
    Dual16::new(["report", job])
        .on(&server)
        .out(&elsewhere.path())
        .run()
        .success();
    assert_eq!(elsewhere.names(), [PAGE], "no more than was asked for");
    assert!(first == read(&elsewhere), "of the job");

    fs::remove_file(out.path().join(PAGE)).unwrap();
    Dual16::new(["report"]).arg(out.path()).run().success();
    assert!(first == read(&out), "of the folder");
    assert_eq!(out.names(), FILES);
}

#[test]
fn outputs_below_what_is_asked_end_with_their_own_code() {
    let out = Results::new();
    // 48.7 dB: README.md's figure of this model with its linear2 in two planes is of the layer.
    let refused = Dual16::quantize(&smallmodel())
        .args(["--fail-under", "200"])
        .out(&out.path())
        .run();
    assert_eq!(refused.code(), 5, "{refused}");
    assert!(refused.stderr.contains("y converted"), "{refused}");
    assert_eq!(out.names(), FILES, "the results are there all the same");

    let report = |threshold: &str| {
        Dual16::new(["report", "--fail-under", threshold])
            .arg(out.path())
            .run()
    };
    assert_eq!(report("200").code(), 5);
    assert_eq!(report("1").code(), 0);
    assert_eq!(report("loud").code(), 2);
}

#[test]
fn what_is_no_folder_of_results_is_refused_with_what_would_be_right() {
    let empty = tempfile::tempdir().unwrap();
    let refused = Dual16::new(["report"]).arg(empty.path()).run();
    assert_eq!(refused.code(), 1, "{refused}");
    for part in ["result.json", "--out of a job"] {
        assert!(refused.stderr.contains(part), "{refused}");
    }
    let refused = Dual16::new(["report", "nowhere"]).run();
    assert_eq!(refused.code(), 2, "{refused}");
    for part in ["nowhere is no folder", "--server"] {
        assert!(refused.stderr.contains(part), "{refused}");
    }
}
