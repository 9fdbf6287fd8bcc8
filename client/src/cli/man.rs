//! `dual16 man`: the manual page of the program, or of one of its commands.

use clap_mangen::Man;

use super::{Context, ManArgs, command};
use crate::error::Error;

pub(super) fn run(args: &ManArgs, context: Context<'_>) -> Result<(), Error> {
    let mut whole = command();
    whole.build();
    let page = match &args.command {
        None => Some(whole),
        Some(name) => whole
            .find_subcommand(name)
            .cloned()
            .map(|one| one.name(format!("dual16-{name}"))),
    };
    let page = page.ok_or_else(|| {
        Error::usage(
            "there is no such command",
            "`dual16 --help` lists the commands",
        )
    })?;
    let mut roff = Vec::new();
    Man::new(page).render(&mut roff)?;
    context.terminal.raw(&roff)
}
