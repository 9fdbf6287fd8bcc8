//! `dual16 doctor`: examines a server from this machine, or this machine itself.

use std::time::Duration;

use dual16_rpc::credentials::Credentials;

use super::{
    Context, DoctorArgs, OutputFormat,
    fetch::temporary,
    session::{Session, Target, Work, connect},
};
use crate::{
    api::ApiError,
    doctor::{Verdict, examine},
    error::Error,
    render::{doctor_json, doctor_table},
};

pub(super) async fn run(args: &DoctorArgs, mut context: Context<'_>) -> Result<(), Error> {
    // Without a server: the cluster that local commands start, in a folder of its own.
    let state = temporary()?;
    let target = Target::of_new_job(context.global, || Ok(state.path().to_owned()))?;
    let global = context.global;
    let progress = context.progress.clone();
    let session = match &target {
        // What keeps a connection from being made is a finding, too.
        Target::Remote(_) => None,
        Target::Local(_) => {
            let open = Session::open(&target, Work::Tasks, global, &progress);
            Some(
                context
                    .signals
                    .or_interrupted("nothing was changed", open)
                    .await?,
            )
        }
    };
    let url = match (&target, &session) {
        (Target::Remote(url), _) => url.clone(),
        (_, Some(session)) => session.client.url().to_owned(),
        (Target::Local(_), None) => return Ok(()),
    };
    let credentials = match &target {
        Target::Remote(_) => global.access.credentials().map_err(ApiError::from)?,
        Target::Local(_) => Credentials::default(),
    };
    let patience = Duration::from_secs(args.deadline);
    let examined = async {
        let connect = async || connect(&url, credentials.clone(), global, &progress).await;
        Ok(examine(&url, patience, connect).await)
    };
    let advice =
        "a job called \"dual16 doctor\" may be left on the server; `dual16 delete` removes it";
    let examination = context.signals.or_interrupted(advice, examined).await;
    if let Some(session) = session {
        session.close().await;
    }
    let examination = examination?;
    match global.output {
        OutputFormat::Table => {
            let paint = context.terminal.stdout_paint();
            context
                .terminal
                .result(&doctor_table(&examination, paint))?;
        }
        _ => context
            .terminal
            .result(&doctor_json(&examination).to_string())?,
    }
    match examination.count(Verdict::Fail) {
        0 => Ok(()),
        failed => Err(Error::Unhealthy { failed }),
    }
}
