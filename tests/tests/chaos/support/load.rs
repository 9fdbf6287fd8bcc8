//! Clients that submit and watch while everything around them breaks, and what they must find
//! afterwards.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use dual16_proto::v1;
use tokio::{sync::watch, task::JoinSet};

use super::{
    api::{Api, is_absence},
    job::{TinyJob, reference, results},
};

/// Clients that submit at the same time.
const CLIENTS: u32 = 8;
/// A client submits in one round of so many.
const PERIOD: u32 = 4;
const LIMIT: Duration = Duration::from_secs(180);

/// Clients at work.
pub(crate) struct Load {
    api: Api,
    round: Arc<watch::Sender<u32>>,
    jobs: JoinSet<(v1::Job, Watched)>,
    submitted: u32,
}

impl Load {
    /// Clients of the server at `url`, who rest until the first round.
    pub(crate) fn on(url: &str) -> Self {
        Self {
            api: Api::to(url),
            round: Arc::new(watch::Sender::new(0)),
            jobs: JoinSet::new(),
            submitted: 0,
        }
    }

    /// Begins a round: a quarter of the clients submit, while what they submitted before goes on.
    pub(crate) fn begin_round(&mut self, round: u32) {
        self.round.send_replace(round);
        for client in (0..CLIENTS).filter(|client| client % PERIOD == round % PERIOD) {
            let api = self.api.clone();
            let mut job = TinyJob::new(format!("client {client}, round {round}"));
            // Every other job of a client is an analysis.
            if (round / PERIOD).is_multiple_of(2) {
                job = job.analyzed();
            }
            self.submitted += 1;
            self.jobs.spawn(async move {
                // Acknowledged: from here on it must not be lost.
                let job = job.submit(&api).await;
                let watched = Watched::to_the_end(&api, &job.name).await;
                (job, watched)
            });
        }
    }

    /// Waits for every job to end, then checks that all are there, that every event came once and in
    /// order, and that the results are those of an undisturbed run.
    pub(crate) async fn end(mut self) -> Ended {
        let mut done = Vec::new();
        let all = async {
            while let Some(job) = self.jobs.join_next().await {
                done.push(job.unwrap());
            }
        };
        let in_time = tokio::time::timeout(LIMIT, all).await.is_ok();
        assert!(in_time, "{} of {} jobs ended", done.len(), self.submitted);
        let mut ended = Ended {
            jobs: done.len(),
            resumed: 0,
            retried: 0,
        };
        let names: BTreeSet<_> = done.iter().map(|(job, _)| job.name.clone()).collect();
        let stored = self.api.all_jobs().await;
        assert_eq!(stored.len(), done.len(), "a request made two jobs or none");
        assert_eq!(names, stored.into_iter().collect(), "a job was lost");
        for (job, watched) in done {
            ended.resumed += watched.resumed;
            ended.retried += watched.retried();
            watched.check(&self.api, &job.name).await;
            let job = self.api.job(&job.name).await;
            let results = results(&self.api, &job).await;
            assert!(
                results == *reference(&job).await,
                "{} left other bytes",
                job.name
            );
        }
        ended
    }
}

/// What a load went through.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Jobs that succeeded.
    pub(crate) jobs: usize,
    /// Times that a watch was cut off and went on.
    pub(crate) resumed: usize,
    /// Attempts that failed and were made again.
    pub(crate) retried: usize,
}

/// The events of a job as its watcher got them.
pub(crate) struct Watched {
    events: Vec<v1::JobEvent>,
    resumed: usize,
}

impl Watched {
    /// Watches until the job has ended, going on after the last event seen whenever it is cut off.
    pub(crate) async fn to_the_end(api: &Api, name: &str) -> Self {
        let mut watched = Self {
            events: Vec::new(),
            resumed: 0,
        };
        loop {
            let request = v1::WatchJobRequest {
                name: name.to_owned(),
                after_sequence: watched.events.last().map_or(0, |event| event.sequence),
            };
            match watched.follow(api, request).await {
                Ok(()) => return watched,
                Err(status) => assert!(is_absence(&status), "{name}: {status}"),
            }
            watched.resumed += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn follow(
        &mut self,
        api: &Api,
        request: v1::WatchJobRequest,
    ) -> Result<(), tonic::Status> {
        let mut stream = api.jobs().watch_job(request).await?.into_inner();
        while let Some(event) = stream.message().await? {
            self.events.push(event);
        }
        let ended = self.events.last().is_some_and(is_end);
        // A stream that ends before its job has only been closed by a server that goes away.
        ended
            .then_some(())
            .ok_or_else(|| tonic::Status::unavailable("the stream ended before its job"))
    }

    /// Attempts that failed and were made again.
    pub(crate) fn retried(&self) -> usize {
        let retried = |event: &&v1::JobEvent| {
            matches!(
                detail(event),
                Some(v1::event_detail::Detail::TaskRetried(_))
            )
        };
        self.events.iter().filter(retried).count()
    }

    /// Every event once, in order, and the same that the server has.
    pub(crate) async fn check(&self, api: &Api, name: &str) {
        let sequences: Vec<u64> = self.events.iter().map(|event| event.sequence).collect();
        let expected: Vec<u64> = (1..=sequences.len() as u64).collect();
        assert_eq!(sequences, expected, "{name}: events lost or repeated");
        let again = Self::to_the_end(api, name).await;
        assert!(again.events == self.events, "{name}: events have changed");
        let last = api.job(name).await.last_sequence;
        assert_eq!(Some(&last), sequences.last(), "{name}");
    }
}

fn detail(event: &v1::JobEvent) -> Option<&v1::event_detail::Detail> {
    event.detail.as_ref()?.detail.as_ref()
}

fn is_end(event: &v1::JobEvent) -> bool {
    let Some(v1::event_detail::Detail::StateChanged(changed)) = detail(event) else {
        return false;
    };
    use v1::JobState::{Cancelled, Failed, Succeeded};
    matches!(changed.state(), Succeeded | Failed | Cancelled)
}
