//! Workers are killed, or stopped until their leases are another's and then let go on: a zombie that
//! hands in late what somebody else has done by then.

use std::time::Duration;

use dual16_tests::{ServerProcess, WorkerProcess};

use crate::support::{Load, Plan, steady_port};

const FLAGS: [&str; 4] = ["--lease-ttl", "1", "--limit-attempts", "1000"];
/// Beyond the lease, and the server's next look at it.
const STOPPED: Duration = Duration::from_millis(1_500);
const WORKERS: [&str; 3] = ["first", "second", "third"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_workers_and_zombies_change_no_result() {
    let mut plan = Plan::of("worker faults", 24);
    let address = format!("127.0.0.1:{}", steady_port());
    let server = tokio::task::block_in_place(|| ServerProcess::start_on(&address, &FLAGS));
    let mut workers = WORKERS.map(|name| WorkerProcess::start(&server, name, 2));
    let mut load = Load::on(&server.url());
    for round in 0..plan.rounds {
        load.begin_round(round);
        tokio::time::sleep(plan.time(5..300)).await;
        let victim = plan.number(0..workers.len());
        if round % 4 == 3 {
            workers[victim].signal("STOP");
            tokio::time::sleep(STOPPED).await;
            workers[victim].signal("CONT");
        } else {
            let name = WORKERS[victim];
            tokio::task::block_in_place(|| {
                workers[victim].kill();
                workers[victim] = WorkerProcess::start(&server, name, 2);
            });
        }
    }
    let ended = load.end().await;
    assert_eq!(ended.jobs, 2 * plan.rounds as usize, "{ended:?}");
    assert!(ended.retried > 0, "no worker was ever at work: {ended:?}");
}
