//! `dual16 plan`: what quantize would do, by a job that ends after its plan stage.

use dual16_proto::v1::{Artifact, Job, PlanSpec, job_spec::Kind};

use super::{
    Context, OutputFormat, PlanArgs,
    fetch::{files_text, make_folder, temporary},
    follow::{Ended, follow},
    quantize::{job_name, submit_or_resume},
    session::Target,
    submit,
};
use crate::{api::Client, error::Error, inputs::PreparedJob, render::Plan};

const PLAN: &str = "plan.json";

pub(super) async fn run(args: &PlanArgs, mut context: Context<'_>) -> Result<(), Error> {
    // Nothing in a plan's state is worth keeping: it is made again in no time.
    let state = temporary()?;
    let target = Target::of_new_job(context.global, || Ok(state.path().to_owned()))?;
    args.inputs.require("plan", &[])?;
    let spec = args.settings.spec();
    let kind = Some(Kind::Plan(PlanSpec {}));
    let prepare = submit::prepare(&args.inputs, spec, kind, &context.progress);
    let job = context
        .signals
        .or_interrupted("nothing was submitted", prepare)
        .await?;
    if let Some(out) = &args.out {
        make_folder(out)?;
    }
    let session = context.open(&target).await?;
    let result = in_session(&session.client, job, args, &target, &mut context).await;
    session.close().await;
    result
}

async fn in_session(
    client: &Client,
    prepared: PreparedJob,
    args: &PlanArgs,
    target: &Target,
    context: &mut Context<'_>,
) -> Result<(), Error> {
    let job = submit_or_resume(client, prepared, target, true, context).await?;
    let ended = follow(client, &job_name(&job)?, target, context).await?;
    let artifact = plan_artifact(&ended.job)?;
    let read = async {
        let bytes = client.read_artifact(artifact).await?;
        let files = match &args.out {
            Some(out) => {
                client
                    .fetch(std::slice::from_ref(artifact), out, &|_| {})
                    .await?
            }
            None => Vec::new(),
        };
        Ok((bytes, files))
    };
    let (bytes, files) = context
        .signals
        .or_interrupted("the plan was not read", read)
        .await?;
    if !files.is_empty() {
        context.progress.line(&files_text(&files));
    }
    present(&bytes, &ended, args, context)
}

fn plan_artifact(job: &Job) -> Result<&Artifact, Error> {
    job.artifacts
        .iter()
        .find(|artifact| artifact.name == PLAN)
        .ok_or_else(|| Error::Artifact {
            name: PLAN.to_owned(),
            reason: format!(
                "{} did not make it; are server and workers of this version?",
                job.name
            ),
        })
}

fn present(
    bytes: &[u8],
    ended: &Ended,
    args: &PlanArgs,
    context: &Context<'_>,
) -> Result<(), Error> {
    let terminal = context.terminal;
    let plan = || {
        Plan::parse(bytes).map_err(|error| Error::Artifact {
            name: PLAN.to_owned(),
            reason: format!("not a plan that this version reads ({error})"),
        })
    };
    match context.global.output {
        OutputFormat::Table => {
            let paint = terminal.stdout_paint();
            let rows = args.table.rows(terminal);
            let plan = plan()?;
            let tables = match args.names {
                true => plan.names_tables(paint),
                false => plan.tables(rows, paint),
            };
            let notices = ended.report.notices(rows, paint);
            terminal.result(&format!("{tables}\n{notices}"))
        }
        OutputFormat::Json if args.names => terminal.result(&plan()?.names_json()),
        OutputFormat::Json => terminal.result(&String::from_utf8_lossy(bytes)),
        OutputFormat::Jsonl => Ok(()),
    }
}
