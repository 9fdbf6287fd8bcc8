//! Ctrl-C on a local job: it stops cleanly, keeps what is done, and the same command goes on.

use std::time::Duration;

use dual16_tests::{Dual16, Results, data::digits, events};

const LIMIT: Duration = Duration::from_secs(120);

fn job(out: &Results) -> Dual16 {
    let slow = ["--linear", "*=auto", "--workers", "1"];
    Dual16::quantize(&digits()).args(slow).out(&out.path())
}

#[test]
fn an_interrupted_local_job_goes_on_from_where_it_was() {
    let out = Results::new();
    let mut running = job(&out).args(["--output", "jsonl"]).spawn();
    running.read_until(LIMIT, |line| events::is_task_done(line, "observe"));
    running.signal("INT");
    let stopped = running.wait(LIMIT);
    assert_eq!(stopped.code(), 130, "{stopped}");
    assert!(
        stopped
            .stderr
            .contains("the same command goes on from there"),
        "{stopped}"
    );
    assert_eq!(
        out.names(),
        [".dual16"],
        "results of a job that was not done"
    );

    // A command that is wrong, in the same folder, takes nothing of it away.
    let wrong = ["--linear", "no_such_layer=split"];
    let wrong = Dual16::quantize(&digits()).args(wrong).out(&out.path());
    let refused = wrong.run();
    assert_eq!(refused.code(), 2, "{refused}");

    let resumed = job(&out).run().success();
    assert!(
        resumed
            .stderr
            .contains("what an earlier run of this command began"),
        "{resumed}"
    );
    let undisturbed = Results::new();
    job(&undisturbed).run().success();
    out.assert_same_bytes(&undisturbed);
    assert!(!out.path().join(".dual16").exists(), "it is of no more use");
}
