//! The jobs are in PostgreSQL, and the server, the database and the connections between them are killed
//! at random moments.

use std::time::Duration;

use dual16_tests::{ServerProcess, WorkerProcess, postgres::Postgres};

use crate::support::{Load, Plan, steady_port};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_the_server_and_of_its_database_lose_no_acknowledged_job_and_no_event() {
    let mut plan = Plan::of("databases", 50);
    let database = tokio::task::block_in_place(Postgres::start);
    let address = format!("127.0.0.1:{}", steady_port());
    let url = database.url();
    // As in `server_kills`.
    let flags = [
        "--lease-ttl",
        "1",
        "--limit-attempts",
        "1000",
        "--store",
        &url,
    ];
    let mut server = tokio::task::block_in_place(|| ServerProcess::start_on(&address, &flags));
    let _workers = ["first", "second"].map(|name| WorkerProcess::start(&server, name, 2));
    let mut load = Load::on(&server.url());
    for round in 0..plan.rounds {
        load.begin_round(round);
        tokio::time::sleep(plan.time(5..400)).await;
        tokio::task::block_in_place(|| match plan.number(0..3) {
            0 => server.restart(),
            1 => database.crash(),
            _ => database.cut(),
        });
        if round % 10 == 9 {
            // Long enough for leases to run out that no worker knows of.
            tokio::time::sleep(Duration::from_millis(1_500)).await;
        }
    }
    let ended = load.end().await;
    assert_eq!(ended.jobs, 2 * plan.rounds as usize, "{ended:?}");
    assert!(ended.resumed > 0, "no watch was ever cut off: {ended:?}");
}
