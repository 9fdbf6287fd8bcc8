//! Renews the leases. On a thread of its own, with its own small runtime and its own connection:
//! however busy the compute threads, the tasks' runtime or a blob transfer are, the leases live.

use std::{
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use dual16_proto::v1::HeartbeatRequest;
use tokio::{sync::oneshot, time};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    backoff::Backoff,
    connection::{Address, CALL_TIMEOUT, Connection, transient, within},
    leases::LeaseTable,
    link::Link,
};

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
                    let connection = Connection::new(&server);
                    stopped
                        .run_until_cancelled(renew(&connection, &worker, &leases, &link))
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

async fn renew(connection: &Connection, worker: &str, leases: &LeaseTable, link: &Link) {
    let mut client = connection.worker();
    let mut backoff = Backoff::new();
    loop {
        wait_until_due(leases).await;
        let held = leases.all();
        if held.is_empty() {
            continue;
        }
        let sent = Instant::now();
        let request = HeartbeatRequest {
            worker: worker.to_owned(),
            leases: held.clone(),
        };
        match within(CALL_TIMEOUT, client.heartbeat(request)).await {
            Ok(reply) => {
                link.answered();
                backoff.reset();
                leases.renewed(&held, sent);
                leases.revoke(&reply.revoked);
            }
            Err(status) => {
                if transient(&status) {
                    link.failed(&status);
                } else {
                    tracing::warn!(code = ?status.code(), error = status.message(), "heartbeat refused");
                }
                backoff.wait().await;
            }
        }
    }
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
