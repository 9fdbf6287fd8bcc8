//! `dual16 analyze`: what each fake quant alone costs the model's outputs, by a job of that kind.

use dual16_proto::v1::{AnalyzeSpec, job_spec::Kind};

use super::{AnalyzeArgs, Context, quantize, values::wire_name};
use crate::error::Error;

pub(super) async fn run(args: &AnalyzeArgs, context: Context<'_>) -> Result<(), Error> {
    let spec = AnalyzeSpec {
        exact: args.exact.0,
        outputs: args.outputs.clone(),
        metric: wire_name(args.metric),
    };
    quantize::to_end(
        "analyze",
        &args.quantize,
        Some(Kind::Analyze(spec)),
        context,
    )
    .await
}
