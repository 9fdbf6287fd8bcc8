//! Three servers and six workers on one database and one object store, all of which are killed at random
//! moments, while clients call whichever server is there.

use std::collections::BTreeMap;

use dual16_tests::{ServerProcess, WorkerProcess, postgres::Postgres, s3::S3};

use crate::support::{Load, Plan, Proxy, steady_port};

const SERVERS: usize = 3;
const WORKERS: usize = 6;
/// Rounds between two restarts of the object store, which take it seconds.
const S3_PERIOD: u32 = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_whatever_runs_lose_nothing_and_do_nothing_twice() {
    let mut plan = Plan::of("replicas", 100);
    let database = tokio::task::block_in_place(Postgres::start);
    let mut files = tokio::task::block_in_place(S3::start);
    let (url, blobs, environment) = (database.url(), files.url(), files.environment());
    let start = || {
        let address = format!("127.0.0.1:{}", steady_port());
        // As in `server_kills`.
        let flags = ["--lease-ttl", "2", "--limit-attempts", "1000"];
        let places = ["--store", &url, "--blobs", &blobs];
        let flags = [&flags[..], &places].concat();
        ServerProcess::start_in(environment.clone(), &address, &flags)
    };
    let mut servers = tokio::task::block_in_place(|| [(); SERVERS].map(|()| start()));
    let service = Proxy::service(
        servers
            .iter()
            .map(|server| server.address().to_owned())
            .collect(),
    );
    let service = service.await;
    let work = |number: usize| {
        WorkerProcess::start_at(&service.url, &format!("w{number}"), &["--workers", "1"])
    };
    let mut workers: BTreeMap<usize, WorkerProcess> =
        (0..WORKERS).map(|number| (number, work(number))).collect();
    let mut load = Load::on(&service.url);
    for round in 0..plan.rounds {
        load.begin_round(round);
        tokio::time::sleep(plan.time(5..150)).await;
        tokio::task::block_in_place(|| match plan.number(0..10) {
            0 => database.crash(),
            1 => database.cut(),
            2..6 => servers[plan.number(0..SERVERS)].restart(),
            _ => {
                let number = plan.number(0..WORKERS);
                workers.remove(&number);
                workers.insert(number, work(number));
            }
        });
        if round % S3_PERIOD == S3_PERIOD - 1 {
            tokio::task::block_in_place(|| files.restart());
        }
    }
    let ended = load.end().await;
    assert_eq!(ended.jobs, 2 * plan.rounds as usize, "{ended:?}");
    assert!(ended.resumed > 0, "no watch was ever cut off: {ended:?}");
}
