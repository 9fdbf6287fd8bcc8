//! InfoService: what this server is, accepts and has to do.

use std::sync::Arc;

use dual16_proto::v1::{self, info_service_server::InfoService};
use tonic::{Request, Response, Status};

use super::App;

/// The service over the shared [`App`].
pub(crate) struct InfoApi(pub(crate) Arc<App>);

#[tonic::async_trait]
impl InfoService for InfoApi {
    async fn get_info(
        &self,
        _request: Request<v1::GetInfoRequest>,
    ) -> Result<Response<v1::GetInfoResponse>, Status> {
        let counts = self
            .0
            .store(|store, _| async move { store.counts().await })
            .await?;
        Ok(Response::new(v1::GetInfoResponse {
            version: env!("CARGO_PKG_VERSION").into(),
            limits: self.0.limits.report(),
            queued_tasks: counts.queued_tasks,
            leased_tasks: counts.leased_tasks,
            quarantined_workers: self.0.quarantine.count(self.0.clock.now()) as u64,
            stored_bytes: self.0.room.used(),
            time: Some(self.0.clock.now().into()),
        }))
    }
}
