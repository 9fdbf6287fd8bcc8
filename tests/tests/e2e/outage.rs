//! The server goes away in mid-watch and comes back: nothing is lost, nothing is told twice.

use std::{thread, time::Duration};

use dual16_tests::{Dual16, Results, ServerProcess, WorkerProcess, data::digits, events};

const LIMIT: Duration = Duration::from_secs(240);

#[test]
fn a_watch_goes_on_where_it_was_when_the_server_was_killed() {
    let mut server = ServerProcess::start();
    let name = server.submit(Dual16::quantize(&digits()).args(["--linear", "*=auto"]));
    let mut watching = Dual16::new(["watch", &name, "--output", "jsonl"])
        .on(&server)
        .spawn();
    let _worker = WorkerProcess::start(&server, "worker", 1);
    watching.read_until(LIMIT, |line| events::is_task_done(line, "observe"));

    server.kill();
    // Long enough for the client to have tried, and failed, to come back.
    thread::sleep(Duration::from_secs(1));
    server.restart();

    let watched = watching.wait(LIMIT).success();
    assert!(watched.stderr.contains("lost the server"), "{watched}");
    let events = events::parse_all(&watched.stdout);
    let sequences: Vec<u64> = events
        .iter()
        .map(|event| event["sequence"].as_u64().unwrap())
        .collect();
    let expected: Vec<u64> = (1..=sequences.len() as u64).collect();
    assert_eq!(sequences, expected);

    let job = server.ask(&["show", &name]);
    assert_eq!(job["state"], "SUCCEEDED", "{job:#}");
    assert_eq!(job["last_sequence"].as_u64(), sequences.last().copied());
    let out = Results::new();
    Dual16::new(["fetch", &name])
        .on(&server)
        .out(&out.path())
        .run()
        .success();
    assert_eq!(out.result()["layers"].as_array().unwrap().len(), 14);
}
