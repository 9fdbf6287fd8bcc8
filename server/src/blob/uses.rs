//! When blobs were last used and whether a job keeps them, for stores of blobs that any number of servers
//! share: an object's own time is that of its upload, and nobody can set it anew. Local files keep theirs
//! in the file system, which costs neither a record nor a sync.

use std::{io, pin::Pin, time::Duration};

use tonic::async_trait;

use crate::digest::Digest;

/// Takes a blob away; whether it is gone by then. Ends by itself in a few seconds.
pub type Removal = Pin<Box<dyn Future<Output = bool> + Send>>;

/// What is known about the use of blobs.
#[async_trait]
pub trait Uses: Send + Sync + 'static {
    /// Those of `blobs` that no job keeps.
    async fn unreferenced(&self, blobs: &[Digest]) -> io::Result<Vec<Digest>>;

    /// Somebody uses these now. Whoever looks for one of them afterwards and finds it will find it for the
    /// time of grace: this waits for a removal under way.
    async fn note(&self, blobs: &[Digest]) -> io::Result<()>;

    /// Those of `blobs` that no job keeps and nobody has used for `grace`. The time of one that was never
    /// used begins with this.
    async fn unused(&self, blobs: &[Digest], grace: Duration) -> io::Result<Vec<Digest>>;

    /// Has a blob removed while nobody can note its use, if it is still unused for `grace`; without one,
    /// whoever uses it. Whether it is gone.
    async fn remove(
        &self,
        blob: Digest,
        grace: Option<Duration>,
        removal: Removal,
    ) -> io::Result<bool>;

    /// Forgets the last uses that are longer ago than `age` of blobs that no job keeps.
    async fn forget(&self, age: Duration) -> io::Result<()>;
}
