//! The command line and the environment of the `dual16-server` binary, parsed in one place.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Parser, builder::BoolishValueParser};
use dual16_telemetry::{logs::LogArgs, ops::OpsArgs};

use crate::{
    ServerOptions, access::AccessOptions, blob::Presign, job::Backoff, limits::Limits,
    page::PageArgs, store::Retention, upkeep::Keeping,
};

/// How long a signed URL is good. Whoever gets one uses it at once.
const PRESIGNED_FOR: Duration = Duration::from_secs(60);

/// Keeps dual16 jobs and blobs, and hands tasks to workers.
#[derive(Clone, Debug, Parser)]
#[command(name = "dual16-server", version)]
pub struct Config {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, env = "DUAL16_LISTEN", default_value = "127.0.0.1:7016")]
    pub listen: SocketAddr,
    /// Directory of the job store and the blobs; made if it is not there
    #[arg(long, env = "DUAL16_DATA", value_name = "DIR")]
    pub data: PathBuf,
    /// PostgreSQL database for the jobs, for servers that share them:
    /// postgres://USER:PASSWORD@HOST:PORT/DATABASE [default: in --data]
    #[arg(long, env = "DUAL16_STORE", value_name = "URL", hide_env_values = true)]
    pub store: Option<String>,
    /// Place of the blobs: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX, which servers may
    /// share, with the usual variables (AWS_*, GOOGLE_*, AZURE_*); or file:///PATH [default: in --data]
    // Read later: what is wrong with it must be said without repeating it, for it may hold a secret.
    #[arg(long, env = "DUAL16_BLOBS", value_name = "URL", hide_env_values = true)]
    pub blobs: Option<String>,
    /// Give workers and clients signed URLs into the object store of --blobs, to download past this server; who
    /// cannot reach it downloads through the server
    #[arg(long, env = "DUAL16_PRESIGN", value_parser = BoolishValueParser::new())]
    pub presign: bool,
    /// Where workers and clients find an s3:// store, if not where this server does: https://HOST:PORT
    #[arg(
        long,
        env = "DUAL16_PRESIGN_ENDPOINT",
        value_name = "URL",
        requires = "presign"
    )]
    pub presign_endpoint: Option<String>,
    /// Write the address listened on to this file, once the server is ready
    #[arg(long, env = "DUAL16_PORT_FILE", value_name = "FILE")]
    pub port_file: Option<PathBuf>,
    /// Seconds a worker may be silent before its tasks go to others
    #[arg(
        long,
        env = "DUAL16_LEASE_TTL",
        value_name = "SECONDS",
        default_value_t = 30
    )]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub lease_ttl: u64,
    /// Seconds that calls under way have to end at shutdown
    #[arg(
        long,
        env = "DUAL16_DRAIN_DEADLINE",
        value_name = "SECONDS",
        default_value_t = 10
    )]
    pub drain_deadline: u64,
    /// Seconds that a job is kept after its end [default: for ever]
    #[arg(long, env = "DUAL16_RETAIN_JOBS_FOR", value_name = "SECONDS")]
    pub retain_jobs_for: Option<u64>,
    /// Jobs kept in all; beyond them, those that ended first go. Open jobs always stay
    #[arg(
        long,
        env = "DUAL16_MAX_JOBS",
        value_name = "N",
        default_value_t = 100_000
    )]
    pub max_jobs: u64,
    /// Seconds that a blob stays although no job keeps it: the longest time from an upload to its job
    #[arg(
        long,
        env = "DUAL16_BLOB_GRACE",
        value_name = "SECONDS",
        default_value_t = 86_400
    )]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub blob_grace: u64,
    /// MiB a second that are read of stored blobs to find damaged ones, all of them again and again; 0 = none
    #[arg(
        long,
        env = "DUAL16_SCRUB_MIB_PER_SECOND",
        value_name = "MIB",
        default_value_t = 8
    )]
    pub scrub_mib_per_second: u32,
    /// Milliseconds before a failed task is tried again; they double with each further failure
    #[arg(
        long,
        env = "DUAL16_RETRY_BACKOFF_MILLIS",
        value_name = "MILLISECONDS",
        default_value_t = 500
    )]
    pub retry_backoff_millis: u64,
    /// Who may call, and how
    #[command(flatten)]
    pub access: AccessOptions,
    /// The logs.
    #[command(flatten)]
    pub logs: LogArgs,
    /// The ops port.
    #[command(flatten)]
    pub ops: OpsArgs,
    /// The live page.
    #[command(flatten)]
    pub page: PageArgs,
    /// What the server accepts
    #[command(flatten)]
    pub limits: Limits,
}

impl Config {
    /// The options of the server itself.
    pub fn options(&self) -> ServerOptions {
        let defaults = ServerOptions::new(&self.data);
        ServerOptions {
            store: self.store.clone(),
            blobs: self.blobs.clone(),
            presign: self.presign.then(|| Presign {
                endpoint: self.presign_endpoint.clone(),
                valid_for: PRESIGNED_FOR,
            }),
            limits: self.limits.clone(),
            access: self.access.clone(),
            lease_ttl: Duration::from_secs(self.lease_ttl),
            keeping: Keeping {
                jobs: Retention {
                    keep_for: self.retain_jobs_for.map(Duration::from_secs),
                    max_jobs: Some(self.max_jobs),
                },
                blob_grace: Duration::from_secs(self.blob_grace),
                scrub_bytes_per_second: u64::from(self.scrub_mib_per_second) << 20,
            },
            backoff: Backoff {
                first: Duration::from_millis(self.retry_backoff_millis),
                ..defaults.backoff
            },
            ..defaults
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_its_defaults_are_the_servers() {
        Config::command().debug_assert();
        let config = Config::parse_from(["dual16-server", "--data", "d"]);
        let (options, defaults) = (config.options(), ServerOptions::new("d"));
        assert_eq!(options.lease_ttl, defaults.lease_ttl);
        assert_eq!(options.limits, defaults.limits);
        assert_eq!(options.keeping, defaults.keeping);
        assert_eq!(options.backoff, defaults.backoff);
        assert_eq!(options.access, defaults.access);
        assert_eq!(config.listen.port(), 7016);
    }
}
