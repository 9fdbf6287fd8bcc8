//! Connections are cut in mid-upload, mid-download and mid-watch, for clients and for workers.

use dual16_tests::{Dual16, Results, ServerProcess, WorkerProcess, data::smallmodel};

use crate::support::{Budget, Load, Plan, Proxy};

/// Cuts of one run; those after the last connection carry everything.
const CUTS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_line_whose_connections_are_cut_brings_the_same_results() {
    let mut plan = Plan::of("connections of a command", 6);
    let server = tokio::task::block_in_place(ServerProcess::start);
    let _worker = WorkerProcess::start(&server, "worker", 2);
    let undisturbed = Results::new();
    tokio::task::block_in_place(|| {
        let run = Dual16::quantize(&smallmodel()).on(&server);
        run.out(&undisturbed.path()).run().success();
    });
    let mut cut_off = 0;
    for round in 0..plan.rounds {
        // The model and its batches are 2 MB and the results 0.1 MB: some cuts fall into each.
        let budgets = (0..CUTS).map(|_| Budget {
            up: plan.number(100..600_000),
            down: plan.number(100..60_000),
        });
        // Every run another server, or there would be nothing left to upload.
        let server = tokio::task::block_in_place(ServerProcess::start);
        let _worker = WorkerProcess::start(&server, "worker", 2);
        let proxy = Proxy::before(server.address(), budgets.collect()).await;
        let out = Results::new();
        let run = tokio::task::block_in_place(|| {
            let run = Dual16::quantize(&smallmodel()).args(["--server", &proxy.url]);
            run.out(&out.path()).run().success()
        });
        cut_off += usize::from(run.stderr.contains("lost the server"));
        out.assert_same_bytes(&undisturbed);
        assert_eq!(out.names(), undisturbed.names(), "round {round}");
    }
    println!("{cut_off} runs were told of a lost server");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_and_watchers_whose_connections_are_cut_change_no_result() {
    let mut plan = Plan::of("connections of workers", 16);
    let flags = ["--lease-ttl", "1", "--limit-attempts", "1000"];
    let server = tokio::task::block_in_place(|| ServerProcess::start_on("127.0.0.1:0", &flags));
    let budgets = |plan: &mut Plan| -> Vec<Budget> {
        let cuts = 4 * plan.rounds as usize;
        let budget = |_| Budget {
            up: plan.number(500..20_000),
            down: plan.number(500..20_000),
        };
        (0..cuts).map(budget).collect()
    };
    let to_workers = Proxy::before(server.address(), budgets(&mut plan)).await;
    let to_clients = Proxy::before(server.address(), budgets(&mut plan)).await;
    let _workers = ["first", "second"]
        .map(|name| WorkerProcess::start_at(&to_workers.url, name, &["--workers", "2"]));
    let mut load = Load::on(&to_clients.url);
    for round in 0..plan.rounds {
        load.begin_round(round);
        tokio::time::sleep(plan.time(5..200)).await;
    }
    let ended = load.end().await;
    assert_eq!(ended.jobs, 2 * plan.rounds as usize, "{ended:?}");
    assert!(ended.resumed > 0, "no watch was ever cut off: {ended:?}");
}
