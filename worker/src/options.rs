//! What a worker is told at its start. No parsing, no environment: that is the binary's.

use std::{fmt, num::NonZeroUsize, path::PathBuf, sync::Arc, thread, time::Duration};

use dual16_rpc::credentials::Credentials;
use uuid::Uuid;

use crate::{child::ChildProgram, memory_limit::MemoryLimit, runner::TaskRunner};

/// Default of [`WorkerOptions::cache_bytes`]: 8 GiB.
pub const DEFAULT_CACHE_BYTES: u64 = 8 << 30;

/// Options of [`start`](crate::start).
#[derive(Clone)]
pub struct WorkerOptions {
    /// The server's URL, `https://HOST:PORT` or `http://HOST:PORT`.
    pub server: String,
    /// What proves to the server who is calling, and the other way round. Nothing by default.
    pub credentials: Credentials,
    /// Unique for each worker process; people read it in errors.
    pub name: String,
    /// Tasks held at once. More slots than `threads` hide the time that tasks wait for blobs.
    pub slots: NonZeroUsize,
    /// Threads of parallel sections and float runs, shared by all tasks of a job; each task has one
    /// thread of its own beside them. Where tasks run in this process, the first worker decides.
    pub threads: NonZeroUsize,
    /// Folder of the blob cache, made if missing; no other running worker may use it.
    pub cache_dir: PathBuf,
    /// Size the cache is kept under, in bytes. Blobs in use stay even if they are more.
    pub cache_bytes: u64,
    /// How long [`start`](crate::start) may wait for the server's first answer; `None` = for ever.
    pub connect_timeout: Option<Duration>,
    /// What the worker may use; a task that would exceed it is cut smaller or refused.
    pub memory_limit: MemoryLimit,
    /// What is started for each job, to run its tasks; `None` = they run in this process, where one
    /// can hold up or crash all.
    pub child: Option<ChildProgram>,
    /// What runs the tasks; `None` = the quantization flow, within the memory limit.
    pub runner: Option<Arc<dyn TaskRunner>>,
}

impl WorkerOptions {
    /// Options with a made-up unique name, a slot and a thread for each core, the default cache
    /// size, no limit on connecting, the machine's limit on memory, and the quantization flow as the
    /// runner: in processes of this program, where it [can](ChildProgram::enter).
    pub fn new(server: impl Into<String>, cache_dir: impl Into<PathBuf>) -> Self {
        let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self {
            server: server.into(),
            credentials: Credentials::default(),
            name: unique_name(),
            slots: cores,
            threads: cores,
            cache_dir: cache_dir.into(),
            cache_bytes: DEFAULT_CACHE_BYTES,
            connect_timeout: None,
            memory_limit: MemoryLimit::Auto,
            child: ChildProgram::this(),
            runner: None,
        }
    }
}

impl fmt::Debug for WorkerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerOptions")
            .field("server", &self.server)
            .field("credentials", &self.credentials)
            .field("name", &self.name)
            .field("slots", &self.slots)
            .field("threads", &self.threads)
            .field("cache_dir", &self.cache_dir)
            .field("cache_bytes", &self.cache_bytes)
            .field("connect_timeout", &self.connect_timeout)
            .field("memory_limit", &self.memory_limit)
            .field("child", &self.child)
            .finish_non_exhaustive()
    }
}

/// "HOST-xxxxxxxx", or "worker-xxxxxxxx" where the host's name is not in the environment.
fn unique_name() -> String {
    let host = std::env::var("HOSTNAME")
        .ok()
        .filter(|name| !name.is_empty());
    let id = Uuid::new_v4().simple().to_string();
    let short: String = id.chars().take(8).collect();
    format!("{}-{short}", host.as_deref().unwrap_or("worker"))
}
