//! Listing: ids from the catalog, records for these alone.

use prost::Message as _;

use super::{Engine, JobPage, JobQuery, RecordStore, StoreError};
use crate::store::{records::reader::Reader, staged::Staged};

impl<E: Engine> RecordStore<E> {
    pub(super) fn list(
        &self,
        reader: &Reader<'_, Staged<E>>,
        query: &JobQuery,
    ) -> Result<JobPage, StoreError> {
        let mut page = JobPage {
            jobs: Vec::new(),
            more: false,
        };
        let mut bytes = 0;
        let mut before = query.before;
        // Once, unless every job of a page was deleted or moved on while it was read.
        while page.jobs.is_empty() {
            let wanted = query.limit.saturating_add(1);
            let ids = {
                // Not while records are read: everyone else needs the lock.
                let catalog = &self.index()?.catalog;
                catalog.newest(query.owner.as_ref(), &query.states, before, wanted)
            };
            let Some(oldest) = ids.last() else {
                page.more = false;
                break;
            };
            before = Some(*oldest);
            page.more = ids.len() == wanted;
            for id in ids {
                let Some(job) = reader.find_job(id)? else {
                    continue;
                };
                if !query.states.is_empty() && !query.states.contains(&job.phase.state()) {
                    continue;
                }
                let stored = match reader.with_spec(job) {
                    Err(StoreError::NotFound(_)) => continue,
                    stored => stored?,
                };
                bytes += stored.spec.encoded_len();
                let full = page.jobs.len() >= query.limit || bytes > query.max_bytes;
                if full && !page.jobs.is_empty() {
                    page.more = true;
                    break;
                }
                page.jobs.push(stored);
            }
        }
        Ok(page)
    }
}
