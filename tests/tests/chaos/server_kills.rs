//! The server is killed at random moments and comes back on the same state and port.

use std::time::Duration;

use dual16_tests::{ServerProcess, WorkerProcess};

use crate::support::{Load, Plan, steady_port};

/// Leases so short that a task whose grant was lost is not waited for long. Attempts without end,
/// for what is tested is loss and not patience: a kill between a grant and its answer costs one.
const FLAGS: [&str; 4] = ["--lease-ttl", "1", "--limit-attempts", "1000"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_dash_nine_of_the_server_loses_no_acknowledged_job_and_no_event() {
    let mut plan = Plan::of("server kills", 50);
    let address = format!("127.0.0.1:{}", steady_port());
    let mut server = tokio::task::block_in_place(|| ServerProcess::start_on(&address, &FLAGS));
    let _workers = ["first", "second"].map(|name| WorkerProcess::start(&server, name, 2));
    let mut load = Load::on(&server.url());
    for round in 0..plan.rounds {
        load.begin_round(round);
        tokio::time::sleep(plan.time(5..400)).await;
        tokio::task::block_in_place(|| server.restart());
        if round % 10 == 9 {
            // Long enough for leases to run out that no worker knows of.
            tokio::time::sleep(Duration::from_millis(1_500)).await;
        }
    }
    let ended = load.end().await;
    assert_eq!(ended.jobs, 2 * plan.rounds as usize, "{ended:?}");
    assert!(ended.resumed > 0, "no watch was ever cut off: {ended:?}");
}
