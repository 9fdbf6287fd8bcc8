//! Where a command's job lives: on a server, or on this machine in a cluster that lasts as long
//! as the command.

#[cfg(feature = "local")]
use std::num::NonZeroUsize;
use std::{path::PathBuf, sync::Arc, time::Duration};

use dual16_rpc::{
    credentials::{Credentials, TokenSource},
    made_here, reason,
};

use super::{Context, GlobalArgs};
#[cfg(feature = "local")]
use crate::local::{LocalCluster, State, Workers};
use crate::{
    api::{ApiError, Client, ConnectOptions, RetryPolicy, Retrying},
    error::Error,
    render::Progress,
};

/// The value of --server that means this machine.
const LOCAL: &str = "local";

/// An open way to a server.
pub(super) struct Session {
    pub(super) client: Client,
    place: Place,
}

enum Place {
    Remote,
    #[cfg(feature = "local")]
    Local(Box<LocalCluster>),
}

/// Where to open a session.
pub(super) enum Target {
    /// A server's URL.
    Remote(String),
    /// The folder of local state.
    Local(PathBuf),
}

impl Target {
    /// For commands that bring their own job: local unless a server is named.
    pub(super) fn of_new_job(
        global: &GlobalArgs,
        default_data: impl FnOnce() -> Result<PathBuf, Error>,
    ) -> Result<Self, Error> {
        match (remote(global), &global.data) {
            (Some(_), Some(_)) => Err(both()),
            (Some(url), None) => Ok(Self::Remote(url.to_owned())),
            (None, Some(data)) => Ok(Self::Local(data.clone())),
            (None, None) => Ok(Self::Local(default_data()?)),
        }
    }

    /// For commands on jobs that exist already: somebody must say where.
    pub(super) fn of_existing_job(global: &GlobalArgs) -> Result<Self, Error> {
        Self::of_new_job(global, || {
            Err(Error::usage(
                "it is not known where the job is",
                "name the server with --server URL or DUAL16_SERVER; for a local job that was \
                 interrupted, name its state with --data OUT/.dual16 (OUT being the --out it was \
                 started with)",
            ))
        })
    }

    pub(super) fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// The flags that bring another command to the same place.
    pub(super) fn flags(&self) -> String {
        match self {
            Self::Remote(url) => format!("--server {url}"),
            Self::Local(data) => format!("--data {}", data.display()),
        }
    }
}

fn remote(global: &GlobalArgs) -> Option<&str> {
    global
        .server
        .as_deref()
        .filter(|server| !server.is_empty() && *server != LOCAL)
}

fn both() -> Error {
    Error::usage(
        "both a server (--server or DUAL16_SERVER) and local state (--data or DUAL16_LOCAL_DATA) were given",
        "leave one out, or add --server local to use this machine",
    )
}

/// Whether a local session also needs workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// Tasks are to run.
    Tasks,
    /// Only the state is looked at or changed.
    StateOnly,
}

impl Session {
    pub(super) async fn open(
        target: &Target,
        work: Work,
        global: &GlobalArgs,
        progress: &Progress,
    ) -> Result<Self, Error> {
        match target {
            Target::Remote(url) => {
                let credentials = global.access.credentials().map_err(ApiError::from)?;
                if let Some(weakness) = credentials.token.as_ref().and_then(TokenSource::weakness) {
                    progress.warning(&weakness);
                }
                let client = connect(url, credentials, global, progress).await?;
                Ok(Self {
                    client,
                    place: Place::Remote,
                })
            }
            Target::Local(data) => Self::open_local(data, work, global, progress).await,
        }
    }

    #[cfg(feature = "local")]
    async fn open_local(
        data: &std::path::Path,
        work: Work,
        global: &GlobalArgs,
        progress: &Progress,
    ) -> Result<Self, Error> {
        let workers = match work {
            Work::StateOnly => Workers::None,
            Work::Tasks => workers_of(global),
        };
        let state = match global.data {
            Some(_) => State::Kept,
            None => State::OfOneCommand,
        };
        let cluster = LocalCluster::start(data, state, workers, None).await?;
        // Made by this process, for this process: nobody asks, and no token leaves its place.
        let credentials = Credentials::default();
        match connect(cluster.url(), credentials, global, progress).await {
            Ok(client) => Ok(Self {
                client,
                place: Place::Local(Box::new(cluster)),
            }),
            Err(error) => {
                cluster.shutdown().await;
                Err(error)
            }
        }
    }

    #[cfg(not(feature = "local"))]
    async fn open_local(
        _data: &std::path::Path,
        _work: Work,
        _global: &GlobalArgs,
        _progress: &Progress,
    ) -> Result<Self, Error> {
        Err(Error::usage(
            "this dual16 was built without the local cluster",
            "name a server with --server URL or DUAL16_SERVER",
        ))
    }

    /// Ends the local cluster, if there is one, cleanly.
    pub(super) async fn close(self) {
        match self.place {
            Place::Remote => {}
            #[cfg(feature = "local")]
            Place::Local(cluster) => cluster.shutdown().await,
        }
    }
}

/// Tasks that run at the same time on this machine.
#[cfg(feature = "local")]
pub(super) fn workers_of(global: &GlobalArgs) -> Workers {
    let count = global
        .workers
        .and_then(|count| NonZeroUsize::new(count as usize));
    count.map_or(Workers::Cores, Workers::Count)
}

impl Context<'_> {
    /// Opens a session for a job that is to be submitted.
    pub(super) async fn open(&mut self, target: &Target) -> Result<Session, Error> {
        let open = Session::open(target, Work::Tasks, self.global, &self.progress);
        self.signals
            .or_interrupted("nothing was submitted", open)
            .await
    }
}

/// Opens a session, runs a short `body` in it and closes it whatever happens.
pub(super) async fn with_session<T>(
    target: &Target,
    work: Work,
    context: &mut Context<'_>,
    body: impl AsyncFnOnce(&Client, &Progress) -> Result<T, Error>,
) -> Result<T, Error> {
    let open = Session::open(target, work, context.global, &context.progress);
    let session = context
        .signals
        .or_interrupted("nothing was changed", open)
        .await?;
    let body = body(&session.client, &context.progress);
    let advice = "run the command again to be sure of its effect";
    let result = context.signals.or_interrupted(advice, body).await;
    session.close().await;
    result
}

pub(super) async fn connect(
    url: &str,
    credentials: Credentials,
    global: &GlobalArgs,
    progress: &Progress,
) -> Result<Client, Error> {
    let progress = progress.clone();
    let options = ConnectOptions {
        credentials,
        retry: RetryPolicy {
            give_up_after: Duration::from_secs(global.reconnect_timeout),
            ..RetryPolicy::default()
        },
        on_retry: Arc::new(move |retrying| tell(retrying, &progress)),
        ..ConnectOptions::new(url)
    };
    Ok(Client::connect(options).await?)
}

fn tell(retrying: &Retrying<'_>, progress: &Progress) {
    let left = retrying.left.as_secs();
    let (what, next) = match made_here(retrying.status) {
        true => ("lost the server", "reconnecting"),
        false => ("the server asks to come back later", "trying again"),
    };
    let (call, why) = (retrying.call, reason(retrying.status));
    progress.warning(&format!(
        "{what} ({call}: {why}); {next}, giving up in {left} s"
    ));
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    fn target(arguments: &[&str]) -> Result<Target, Error> {
        let cli = Cli::parse_from([&["dual16"], arguments, &["jobs"]].concat());
        Target::of_existing_job(&cli.global)
    }

    #[test]
    fn an_existing_job_needs_a_place_and_the_error_teaches_it() {
        let error = target(&[]).err().unwrap().to_string();
        assert!(
            error.contains("--server URL") && error.contains("--data"),
            "{error}"
        );
        assert!(target(&["--server", "http://h:1"]).is_ok_and(|target| !target.is_local()));
        assert!(target(&["--data", "d"]).is_ok_and(|target| target.is_local()));
        assert!(
            target(&["--data", "d", "--server", "local"]).is_ok_and(|target| target.is_local())
        );
        assert!(target(&["--data", "d", "--server", "http://h:1"]).is_err());
    }
}
