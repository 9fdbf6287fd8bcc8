//! How many workers are wanted, as KEDA asks for it: its contract for external scalers.
//!
//! The metric is the number of tasks that are not done: queued, waiting for their next attempt, or leased.
//! Its target is what one worker does at a time, so the autoscaler wants as many workers as all of them
//! fill, and none when there are none. Leased ones count too: whoever does them must not be taken away.

use std::{pin::Pin, sync::Arc, time::Duration};

use dual16_proto::externalscaler::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec,
    MetricValue, ScaledObjectRef, external_scaler_server::ExternalScaler,
};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::{MissedTickBehavior, interval},
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::{ApiError, App, validate};
use crate::limits::Limits;

/// What the metric is called; the autoscaler puts the number of its trigger before it.
const METRIC: &str = "dual16-tasks";
/// The key of the ScaledObject's metadata that says how many tasks one worker has at a time.
const TASKS_PER_WORKER: &str = "tasksPerWorker";
/// More tasks at a time than any worker has.
const MOST_TASKS: u32 = 10_000;
/// How often a stream looks whether there are tasks. A look, and no signal: what another server on the same
/// store has queued counts as well.
const LOOK: Duration = Duration::from_secs(1);

type Activity = Result<IsActiveResponse, Status>;

/// The service over the shared [`App`].
pub(crate) struct ScalerApi(pub(crate) Arc<App>);

#[tonic::async_trait]
impl ExternalScaler for ScalerApi {
    type StreamIsActiveStream = Pin<Box<dyn Stream<Item = Activity> + Send>>;

    async fn is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<IsActiveResponse>, Status> {
        tasks_per_worker(&self.0.limits, "", request.get_ref())?;
        let result = tasks(&self.0).await? > 0;
        Ok(Response::new(IsActiveResponse { result }))
    }

    async fn stream_is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamIsActiveStream>, Status> {
        let app = &self.0;
        tasks_per_worker(&app.limits, "", request.get_ref())?;
        let permit = Arc::clone(&app.watchers).try_acquire_owned();
        let permit = permit.map_err(|_| ApiError::TooManyWatchers(app.limits.watchers))?;
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(follow(Arc::clone(app), sender, permit));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn get_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        let target = tasks_per_worker(&self.0.limits, "", request.get_ref())?;
        let spec = MetricSpec {
            metric_name: METRIC.into(),
            target_size: target.into(),
            target_size_float: target.into(),
        };
        Ok(Response::new(GetMetricSpecResponse {
            metric_specs: vec![spec],
        }))
    }

    async fn get_metrics(
        &self,
        request: Request<GetMetricsRequest>,
    ) -> Result<Response<GetMetricsResponse>, Status> {
        let GetMetricsRequest {
            scaled_object_ref,
            metric_name,
        } = request.into_inner();
        let object = scaled_object_ref.unwrap_or_default();
        tasks_per_worker(&self.0.limits, "scaledObjectRef.", &object)?;
        validate::check(&self.0.limits, |checker| {
            if metric_name != METRIC {
                let description = format!("is no metric of this server; it must be \"{METRIC}\"");
                checker.reject("metricName", "UNKNOWN_METRIC", description);
            }
            Some(())
        })?;
        let tasks = u32::try_from(tasks(&self.0).await?).unwrap_or(u32::MAX);
        let value = MetricValue {
            metric_name,
            metric_value: tasks.into(),
            metric_value_float: tasks.into(),
        };
        Ok(Response::new(GetMetricsResponse {
            metric_values: vec![value],
        }))
    }
}

/// Tasks that are not done.
async fn tasks(app: &App) -> Result<u64, ApiError> {
    let counts = app
        .store(|store, _| async move { store.counts().await })
        .await?;
    let all = [
        counts.queued_tasks,
        counts.waiting_tasks,
        counts.leased_tasks,
    ];
    Ok(all.into_iter().fold(0, u64::saturating_add))
}

/// What the ScaledObject says that one worker has at a time. It has no default: a key that was mistyped
/// would scale by another number than the one that was meant.
fn tasks_per_worker(
    limits: &Limits,
    within: &str,
    object: &ScaledObjectRef,
) -> Result<u32, ApiError> {
    let right = format!("the tasks that a worker has at a time, from 1 to {MOST_TASKS}");
    validate::check(limits, |checker| {
        let field = format!("{within}scalerMetadata.{TASKS_PER_WORKER}");
        let Some(text) = object.scaler_metadata.get(TASKS_PER_WORKER) else {
            checker.reject(field, "REQUIRED", format!("is missing; it must be {right}"));
            return None;
        };
        let number = text.parse().ok();
        let number = number.filter(|number| (1..=MOST_TASKS).contains(number));
        if number.is_none() {
            let shown = validate::shown(text);
            let description = format!("is `{shown}`; it must be {right}");
            checker.reject(field, "INVALID_NUMBER", description);
        }
        number
    })
}

/// Tells at once whether there are tasks, and then whenever that has changed.
async fn follow(app: Arc<App>, sender: mpsc::Sender<Activity>, _permit: OwnedSemaphorePermit) {
    let mut told = None;
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let looked = tokio::select! {
            () = sender.closed() => return,
            () = app.shutdown.cancelled() => Err(ApiError::ShuttingDown),
            looked = async {
                tick.tick().await;
                tasks(&app).await
            } => looked,
        };
        let result = match looked {
            Ok(tasks) => tasks > 0,
            Err(error) => {
                let _ = sender.send(Err(error.into())).await;
                return;
            }
        };
        if told == Some(result) {
            continue;
        }
        told = Some(result);
        if sender.send(Ok(IsActiveResponse { result })).await.is_err() {
            return;
        }
    }
}
