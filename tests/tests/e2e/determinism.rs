//! The same job leaves the same bytes: on this machine, with one worker, with four, and with one
//! that dies while it holds a task.

use std::{
    thread,
    time::{Duration, Instant},
};

use dual16_tests::{Dual16, Results, ServerProcess, WorkerProcess, data::digits, events};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(240);

/// Observers that search, moving averages that depend on the order, and every way of every layer.
fn job() -> Dual16 {
    Dual16::quantize(&digits())
        .args(["--template", "a8w8", "--observer", "mse", "--merge", "ema"])
        .args(["--linear", "*=auto"])
}

#[test]
fn the_bytes_do_not_depend_on_workers_or_their_deaths() {
    let local = Results::new();
    job().out(&local.path()).run().success();

    on_workers(&["one"]).assert_same_bytes(&local);
    on_workers(&["one", "two", "three", "four"]).assert_same_bytes(&local);
    with_a_death().assert_same_bytes(&local);
}

fn on_workers(names: &[&str]) -> Results {
    let server = ServerProcess::start();
    let _workers: Vec<_> = names
        .iter()
        .map(|name| WorkerProcess::start(&server, name, 1))
        .collect();
    let out = Results::new();
    job().on(&server).out(&out.path()).run().success();
    out
}

fn with_a_death() -> Results {
    let server = ServerProcess::start();
    let name = server.submit(job());
    let watch = || Dual16::new(["watch", &name, "--output", "jsonl"]).on(&server);
    let mut watching = watch().spawn();
    let mut victim = WorkerProcess::start(&server, "victim", 1);
    watching.read_until(LIMIT, |line| events::is_task_done(line, "observe"));
    freeze_with_a_task(&server, &victim);
    let _survivor = WorkerProcess::start(&server, "survivor", 1);
    victim.kill();

    let watched = watching.wait(LIMIT).success();
    let retried: Vec<Value> = events::parse_all(&watched.stdout)
        .iter()
        .filter_map(|event| event.get("task_retried").cloned())
        .collect();
    assert_eq!(retried.len(), 1, "{retried:#?}");
    assert_eq!(retried[0]["error"]["worker"], "victim", "{retried:#?}");

    let out = Results::new();
    Dual16::new(["fetch", &name])
        .on(&server)
        .out(&out.path())
        .run()
        .success();
    out
}

/// Stops the worker at a moment when the server has leased a task to it.
fn freeze_with_a_task(server: &ServerProcess, worker: &WorkerProcess) {
    let deadline = Instant::now() + LIMIT;
    loop {
        worker.signal("STOP");
        if server.ask(&["info"])["leased_tasks"] == 1 {
            return;
        }
        assert!(Instant::now() < deadline, "the worker never held a task");
        worker.signal("CONT");
        thread::sleep(Duration::from_millis(5));
    }
}
