//! Where the blobs of a server are: in its data directory, in another one, or in a bucket.

use std::sync::Arc;

use super::{StartError, data_dir::DataDir};
use crate::{
    blob::{BlobStore, Bucket, LocalBlobs, ObjectBlobs, Place, Presign, Room, Uses},
    limits::Limits,
};

/// A place that was opened, as far as that goes without the job store.
pub(super) struct Opened {
    kind: Kind,
    room: Room,
    /// The directory of the blobs where it is another: keeps other servers out.
    pub(super) elsewhere: Option<DataDir>,
}

enum Kind {
    Local(LocalBlobs),
    Bucket(Bucket),
}

impl Opened {
    /// Opens what is a directory; blocks. Blobs may use a share of its volume where `limits` does not say.
    pub(super) fn open(
        data: &DataDir,
        place: Option<Place>,
        limits: &mut Limits,
    ) -> Result<Self, StartError> {
        let (kind, elsewhere) = match place {
            None => (Kind::Local(data.open_blobs()?), None),
            Some(Place::Files(path)) => {
                let elsewhere = DataDir::lock(path)?;
                (Kind::Local(elsewhere.blobs_here()?), Some(elsewhere))
            }
            Some(Place::Bucket(bucket)) => (Kind::Bucket(bucket), None),
        };
        let volume = elsewhere.as_ref().unwrap_or(data);
        let is_local = matches!(kind, Kind::Local(_));
        if limits.stored_bytes == 0 {
            limits.stored_bytes = match is_local {
                true => volume.share_of_blobs()?,
                false => u64::MAX,
            };
        }
        let disk = is_local.then(|| volume.disk().clone());
        Ok(Self {
            kind,
            room: Room::new(limits.stored_bytes, disk),
            elsewhere,
        })
    }

    /// The blobs that lie in a directory.
    pub(super) fn local(&self) -> Option<&LocalBlobs> {
        match &self.kind {
            Kind::Local(local) => Some(local),
            Kind::Bucket(_) => None,
        }
    }

    pub(super) fn room(&self) -> Room {
        self.room.clone()
    }

    /// Connects to what is a bucket, the use of whose blobs is noted with `uses`.
    pub(super) async fn connect(
        &self,
        presign: Option<&Presign>,
        uses: Arc<dyn Uses>,
    ) -> Result<Arc<dyn BlobStore>, StartError> {
        let bucket = match &self.kind {
            Kind::Local(local) => return Ok(Arc::new(local.clone())),
            Kind::Bucket(bucket) => bucket,
        };
        let blobs = ObjectBlobs::connect(bucket, presign, uses).await;
        let blobs = blobs.map_err(|source| StartError::Blobs {
            url: bucket.to_string(),
            source,
        })?;
        Ok(Arc::new(blobs))
    }
}
