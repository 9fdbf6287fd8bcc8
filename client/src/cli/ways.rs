//! `dual16 ways`: the five ways in plain words; also `dual16 help ways`.

use super::{Context, args::ways_text};
use crate::error::Error;

pub(super) fn run(context: Context<'_>) -> Result<(), Error> {
    context.terminal.result(&ways_text())
}
