//! Renews the leases. On a thread of its own, with its own small runtime and its own connection:
//! however busy the compute threads, the tasks' runtime or a blob transfer are, the leases live.

use std::{
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use dual16_proto::v1::HeartbeatRequest;
use dual16_rpc::{Address, Backoff, Connection, Delays, Policy as _, deadline};
use tokio::{sync::oneshot, time};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Code;

use crate::{leases::LeaseTable, link::Link};

/// However slow a server is, a renewal that takes longer is tried again.
const LONGEST: Duration = Duration::from_secs(10);

/// The running heartbeat; stops when dropped.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    stop: DropGuard,
    ended: oneshot::Receiver<()>,
}

impl Heartbeat {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread or no event queue left.
    pub(crate) fn start(
        server: Address,
        worker: String,
        leases: Arc<LeaseTable>,
        link: Arc<Link>,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let stop = CancellationToken::new();
        let (end, ended) = oneshot::channel();
        let stopped = stop.clone();
        thread::Builder::new()
            .name("dual16-heartbeat".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    stopped
                        .run_until_cancelled(renew(&server, &worker, &leases, &link))
                        .await;
                });
                // The receiver is gone where nobody waits for the end.
                let _ = end.send(());
            })?;
        Ok(Self {
            stop: stop.drop_guard(),
            ended,
        })
    }

    /// Stops renewing, and waits at most `limit` for the thread's end.
    pub(crate) async fn stop(self, limit: Duration) {
        drop(self.stop);
        if time::timeout(limit, self.ended).await.is_err() {
            tracing::warn!("the heartbeat did not end in time");
        }
    }
}

/// A lease lives for three periods, and the first renewal is due after one: half a period is what the
/// first try may take, so that there is time for more. A connection that has died without a word
/// would swallow those too, so each goes over a new one. The next tries may take longer, for a
/// server that is merely slow would else never be heard.
async fn renew(server: &Address, worker: &str, leases: &LeaseTable, link: &Arc<Link>) {
    let connect = || Connection::new(server, Arc::clone(link) as _).worker();
    let mut client = connect();
    let mut backoff = Backoff::new(Delays::default());
    let mut silent_tries = 0;
    loop {
        wait_until_due(leases).await;
        let held = leases.all();
        let (Some(period), false) = (leases.shortest_period(), held.is_empty()) else {
            continue;
        };
        let limit = patience(period, silent_tries);
        let sent = Instant::now();
        let request = HeartbeatRequest {
            worker: worker.to_owned(),
            leases: held.clone(),
        };
        match deadline(limit, client.heartbeat(request)).await {
            Ok(reply) => {
                link.answered();
                backoff.reset();
                silent_tries = 0;
                leases.renewed(&held, sent);
                leases.revoke(&reply.into_inner().revoked);
            }
            Err(status) => {
                if link.patience(&status).is_some() {
                    link.failed(&status);
                } else {
                    tracing::warn!(code = ?status.code(), error = status.message(), "heartbeat refused");
                }
                if status.code() == Code::DeadlineExceeded {
                    silent_tries += 1;
                    client = connect();
                }
                time::sleep(backoff.delay().min(period)).await;
            }
        }
    }
}

/// How long a renewal may take after so many in a row were not answered.
fn patience(period: Duration, silent_tries: u32) -> Duration {
    let factor = 2u32.saturating_pow(silent_tries);
    (period / 2).saturating_mul(factor).min(LONGEST)
}

async fn wait_until_due(leases: &LeaseTable) {
    loop {
        let Some(due) = leases.next_due() else {
            leases.added.notified().await;
            continue;
        };
        if due <= Instant::now() {
            return;
        }
        tokio::select! {
            () = time::sleep_until(due.into()) => {}
            () = leases.added.notified() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_try_begins_long_before_the_lease_ends_and_none_takes_for_ever() {
        let period = Duration::from_secs(10);
        let limits = [0, 1, 2, 100].map(|tries| patience(period, tries).as_secs());
        assert_eq!(limits, [5, 10, 10, 10]);
    }
}
