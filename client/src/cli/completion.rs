//! `dual16 completion`: what completes this command line in a shell.

use super::{CompletionArgs, Context, command};
use crate::error::Error;

pub(super) fn run(args: &CompletionArgs, context: Context<'_>) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "dual16", &mut script);
    context.terminal.raw(&script)
}
