//! The power goes at random moments: what comes back is what was synced, and nothing else.

use dual16_tests::{Disk, ServerProcess, WorkerProcess};

use crate::support::{Load, Plan, steady_port};

/// As for kills: what is tested is loss and not patience.
const FLAGS: [&str; 4] = ["--lease-ttl", "1", "--limit-attempts", "1000"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_of_power_undoes_nothing_that_anyone_was_told() {
    let mut plan = Plan::of("power cuts", 12);
    let address = format!("127.0.0.1:{}", steady_port());
    let mut server = tokio::task::block_in_place(|| {
        ServerProcess::start_on_disk(&address, &FLAGS, Some(Disk::new()))
    });
    let _workers = ["first", "second"].map(|name| WorkerProcess::start(&server, name, 2));
    let mut load = Load::on(&server.url());
    let mut lost = 0;
    for round in 0..plan.rounds {
        load.begin_round(round);
        tokio::time::sleep(plan.time(50..800)).await;
        lost += tokio::task::block_in_place(|| server.lose_power());
    }
    let ended = load.end().await;
    assert_eq!(ended.jobs, 2 * plan.rounds as usize, "{ended:?}");
    // The count of commits alone is written after every sync and never synced.
    assert!(lost > 0, "the disk never lost anything");
}
