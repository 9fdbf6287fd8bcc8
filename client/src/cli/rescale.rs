//! `dual16 rescale`: scales, plan and integer weights once more from what a job observed, without running
//! its batches.

use std::path::PathBuf;

use clap::Args;
use dual16_proto::v1::{
    CreateJobRequest, InputFile, Job, JobSpec, LayerSetting, RescaleSpec, job_spec::Kind,
    layer_setting,
};
use serde_json::Value;

use super::{
    Context, TableArgs,
    fetch::{make_folder, require_results},
    find::find,
    quantize::{Brought, present, to_results},
    session::Target,
    values::{
        Merge, Observer, ScaleRule, Toolchain, dtype_setting, observer_setting, operator_setting,
        percentile, scale_setting, way_setting, wire_name,
    },
};
use crate::{
    api::{Client, JobName},
    error::Error,
};

/// Arguments of `rescale`. What is not given is as the job had it.
#[derive(Debug, Clone, Args)]
pub struct RescaleArgs {
    /// The job's id, as `dual16 jobs` prints it, or a beginning of it that no other job has
    #[arg(env = "DUAL16_JOB")]
    pub job: JobName,
    /// Folder for the results
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// How ranges are taken; the job must have observed what that needs, see `quantize --keep-statistics`
    #[arg(long, value_enum)]
    pub observer: Option<Observer>,
    /// Share of |x| in percent that the percentile observer keeps, in (0, 100]
    #[arg(long, value_parser = percentile)]
    pub percentile: Option<f64>,
    /// How the ranges of batches are merged
    #[arg(long, value_enum)]
    pub merge: Option<Merge>,
    /// Rule from range to scale
    #[arg(long, value_enum)]
    pub scale_rule: Option<ScaleRule>,
    /// Toolchain whose rules say what is legal
    #[arg(long, value_enum)]
    pub toolchain: Option<Toolchain>,
    /// Whether every scale is rounded up to a power of two
    #[arg(long, value_name = "BOOL")]
    pub power_of_two: Option<bool>,
    /// Way of the Linears NAME (repeatable)
    #[arg(long, value_name = "NAME=WAY", value_delimiter = ';', value_parser = way_setting)]
    pub linear: Vec<LayerSetting>,
    /// What runs in the stead of the operators NAME, see `quantize` (repeatable)
    #[arg(long, value_name = "NAME=REMEDY", value_delimiter = ';', value_parser = operator_setting)]
    pub operator: Vec<LayerSetting>,
    /// Type of the outputs NAME: int8 or int16 (repeatable)
    #[arg(long, value_name = "NAME=DTYPE", value_delimiter = ';', value_parser = dtype_setting)]
    pub dtype: Vec<LayerSetting>,
    /// Scale of the values NAME, a number > 0 or a fraction like 7/32767 (repeatable)
    #[arg(long, value_name = "NAME=SCALE", value_delimiter = ';', value_parser = scale_setting)]
    pub fixed_scale: Vec<LayerSetting>,
    /// Observer of the values NAME (repeatable)
    #[arg(long, value_name = "NAME=OBSERVER", value_delimiter = ';', value_parser = observer_setting)]
    pub layer_observer: Vec<LayerSetting>,
    /// How much to show.
    #[command(flatten)]
    pub table: TableArgs,
}

/// The artifact that holds what was observed.
const STATISTICS: &str = "statistics.bin";
/// The artifact that says which way each layer runs.
const PLAN: &str = "plan.json";

pub(super) async fn run(args: &RescaleArgs, mut context: Context<'_>) -> Result<(), Error> {
    let target = Target::of_existing_job(context.global)?;
    make_folder(&args.out)?;
    let session = context.open(&target).await?;
    let result = in_session(&session.client, args, &target, &mut context).await;
    session.close().await;
    match result? {
        Some((ended, files)) => present(&ended, &files, &args.out, &args.table, &context),
        None => Ok(()),
    }
}

async fn in_session(
    client: &Client,
    args: &RescaleArgs,
    target: &Target,
    context: &mut Context<'_>,
) -> Result<Brought, Error> {
    let progress = context.progress.clone();
    let submit = async {
        let job = client.get_job(&find(client, &args.job).await?).await?;
        let request = CreateJobRequest {
            spec: Some(rescaled(client, &job, args).await?),
            display_name: job.display_name,
            request_id: uuid::Uuid::new_v4().to_string(),
            validate_only: false,
            priority: job.priority,
        };
        let job = client.create_job(request).await?;
        progress.line(&format!("submitted {}", job.name));
        Ok(job)
    };
    let job = context
        .signals
        .or_interrupted("nothing was submitted", submit)
        .await?;
    to_results(client, &job, Some(&args.out), target, context).await
}

/// The job's own spec, with the settings given, the ways that its layers run, and what it observed.
async fn rescaled(client: &Client, job: &Job, args: &RescaleArgs) -> Result<JobSpec, Error> {
    require_results(job)?;
    let artifact = |name: &str| {
        let found = job.artifacts.iter().find(|artifact| artifact.name == name);
        found.ok_or_else(|| Error::Artifact {
            name: name.to_owned(),
            reason: format!(
                "{} has none: only what `quantize` made can be rescaled",
                job.name
            ),
        })
    };
    let statistics = artifact(STATISTICS)?;
    let plan = client.read_artifact(artifact(PLAN)?).await?;
    let mut spec = job.spec.clone().unwrap_or_default();
    // For the shapes of the model.
    spec.calibration.truncate(1);
    spec.evaluation.clear();
    spec.kind = Some(Kind::Rescale(RescaleSpec {
        statistics: Some(InputFile {
            name: statistics.name.clone(),
            digest: statistics.digest.clone(),
            size: statistics.size,
        }),
    }));
    let quantize = spec.quantize.get_or_insert_default();
    quantize.save_outputs = false;
    set(&mut quantize.observer, args.observer.map(wire_name));
    set(&mut quantize.percentile, args.percentile);
    set(&mut quantize.merge, args.merge.map(wire_name));
    set(&mut quantize.scale_rule, args.scale_rule.map(wire_name));
    set(&mut quantize.toolchain, args.toolchain.map(wire_name));
    set(&mut quantize.power_of_two, args.power_of_two);
    quantize.settings.extend(ways(&plan)?);
    let given = [
        &args.linear,
        &args.operator,
        &args.dtype,
        &args.fixed_scale,
        &args.layer_observer,
    ];
    quantize
        .settings
        .extend(given.into_iter().flatten().cloned());
    Ok(spec)
}

fn set<T>(setting: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *setting = given;
    }
}

/// The way of each layer by name, with its fit: without batches none can be measured.
fn ways(plan: &[u8]) -> Result<Vec<LayerSetting>, Error> {
    let unreadable = |reason: String| Error::Artifact {
        name: PLAN.to_owned(),
        reason,
    };
    let plan: Value =
        serde_json::from_slice(plan).map_err(|error| unreadable(error.to_string()))?;
    let layers = plan["layers"].as_array();
    let layers = layers.ok_or_else(|| unreadable("it has no layers".to_owned()))?;
    let way = |layer: &Value| {
        let (name, effective) = (layer["name"].as_str()?, layer["effective"].as_str()?);
        Some(LayerSetting {
            name: name.to_owned(),
            value: Some(layer_setting::Value::Way(effective.to_owned())),
        })
    };
    Ok(layers.iter().filter_map(way).collect())
}
