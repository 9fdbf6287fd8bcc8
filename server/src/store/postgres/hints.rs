//! Who waits at another server hears of changes by NOTIFY. A hint says only where to look; what has changed is
//! read from the tables, so that one too many is harmless, and after a gap everybody looks.
//!
//! A NOTIFY within a transaction makes all commits wait for each other, so hints are gathered for a moment
//! and sent on their own. One that a killed server did not send any more is lost: for it everybody looks every
//! few seconds.

use std::{collections::BTreeSet, time::Duration};

use sqlx::{PgPool, postgres::PgListener};
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinHandle,
    time::{Interval, interval},
};
use uuid::Uuid;

use super::sql;
use crate::{
    job::JobId,
    store::{Changes, Hint},
};

/// How long changes are gathered.
const GATHERED_FOR: Duration = Duration::from_millis(25);
/// Jobs that one notification names; it has at most 8,000 bytes.
const MOST_JOBS: usize = 200;
/// Hints that nobody has taken yet.
const BUFFER: usize = 256;
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);
/// Between two looks of everybody.
const LOOK_PERIOD: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Hints {
    changes: mpsc::UnboundedSender<(Vec<JobId>, usize)>,
    heard: Mutex<(mpsc::Receiver<Hint>, Interval)>,
    tasks: [JoinHandle<()>; 2],
}

impl Hints {
    /// Sends and listens on behalf of one server of the tables in `schema`.
    pub(super) fn start(pool: PgPool, schema: &str) -> Self {
        let channel = format!("dual16 {schema}");
        let own = Uuid::new_v4().simple().to_string();
        let (changes, gathered) = mpsc::unbounded_channel();
        let (hints, heard) = mpsc::channel(BUFFER);
        let sending = send(pool.clone(), channel.clone(), own.clone(), gathered);
        let tasks = [
            tokio::spawn(sending),
            tokio::spawn(listen(pool, channel, own, hints)),
        ];
        Self {
            changes,
            heard: Mutex::new((heard, interval(LOOK_PERIOD))),
            tasks,
        }
    }

    /// Tells the others, soon.
    pub(super) fn send(&self, changes: &Changes) {
        if !changes.jobs.is_empty() || changes.queued > 0 {
            // The task ends with the store alone.
            let _ = self.changes.send((changes.jobs.clone(), changes.queued));
        }
    }

    /// The next one from another server.
    pub(super) async fn next(&self) -> Hint {
        let (heard, look) = &mut *self.heard.lock().await;
        tokio::select! {
            Some(hint) = heard.recv() => hint,
            _ = look.tick() => Hint::Anything,
        }
    }
}

impl Drop for Hints {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn send(
    pool: PgPool,
    channel: String,
    own: String,
    mut gathered: mpsc::UnboundedReceiver<(Vec<JobId>, usize)>,
) {
    while let Some((first, mut queued)) = gathered.recv().await {
        tokio::time::sleep(GATHERED_FOR).await;
        let mut jobs: BTreeSet<_> = first.into_iter().collect();
        while let Ok((more, further)) = gathered.try_recv() {
            jobs.extend(more);
            queued += further;
        }
        let payload = payload(&own, &jobs, queued);
        loop {
            let sent = sqlx::query(sql::NOTIFY).bind(&channel).bind(&payload);
            match sent.execute(&pool).await {
                Ok(_) => break,
                Err(sqlx::Error::PoolClosed) => return,
                Err(error) => tracing::warn!(%error, "other servers were not told of changes yet"),
            }
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }
}

async fn listen(pool: PgPool, channel: String, own: String, hints: mpsc::Sender<Hint>) {
    loop {
        match follow(&pool, &channel, &own, &hints).await {
            // Nobody takes hints any more.
            Ok(()) => return,
            Err(sqlx::Error::PoolClosed) => return,
            Err(error) => tracing::warn!(%error, "changes of other servers are not heard of"),
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

async fn follow(
    pool: &PgPool,
    channel: &str,
    own: &str,
    hints: &mpsc::Sender<Hint>,
) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(channel).await?;
    // Whatever was sent before it was heard.
    let mut hint = Some(Hint::Anything);
    loop {
        if let Some(hint) = hint
            && hints.send(hint).await.is_err()
        {
            return Ok(());
        }
        hint = match listener.try_recv().await? {
            Some(notification) => parse(own, notification.payload()),
            // The connection was lost, and is there again.
            None => Some(Hint::Anything),
        };
    }
}

fn payload(own: &str, jobs: &BTreeSet<JobId>, queued: usize) -> String {
    if jobs.len() > MOST_JOBS {
        return format!("{own} {queued} *");
    }
    let jobs: Vec<_> = jobs.iter().map(|job| hex::encode(job.as_bytes())).collect();
    format!("{own} {queued} {}", jobs.join(","))
}

/// Reads a payload; none of one's own. What cannot be read is of another version, and may say anything.
fn parse(own: &str, payload: &str) -> Option<Hint> {
    let mut parts = payload.split(' ');
    if parts.next() == Some(own) {
        return None;
    }
    let queued = parts.next().and_then(|queued| queued.parse().ok());
    let jobs = parts.next().and_then(|jobs| {
        let jobs = jobs.split(',').filter(|job| !job.is_empty());
        jobs.map(|job| {
            let mut id = [0; 16];
            hex::decode_to_slice(job, &mut id).ok()?;
            Some(JobId::from_bytes(id))
        })
        .collect()
    });
    Some(match (jobs, queued) {
        (Some(jobs), Some(queued)) => Hint::Changed { jobs, queued },
        _ => Hint::Anything,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_round_trip_but_for_ones_own() {
        let jobs: Vec<_> = (1..=2).map(|byte| JobId::from_bytes([byte; 16])).collect();
        let all = jobs.iter().copied().collect();
        let hint = Hint::Changed { jobs, queued: 3 };
        assert_eq!(parse("me", &payload("them", &all, 3)), Some(hint));
        assert_eq!(parse("them", &payload("them", &all, 3)), None);
        let many = (0..=200)
            .map(|byte| JobId::from_bytes([byte; 16]))
            .collect();
        assert_eq!(
            parse("me", &payload("them", &many, 0)),
            Some(Hint::Anything)
        );
        let none = payload("them", &BTreeSet::new(), 1);
        let queued = Hint::Changed {
            jobs: vec![],
            queued: 1,
        };
        assert_eq!(parse("me", &none), Some(queued));
        assert!(payload(&"m".repeat(32), &all, usize::MAX).len() < 8_000);
    }
}
