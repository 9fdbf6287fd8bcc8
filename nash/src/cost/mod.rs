//! What an operator costs on the chip: [`Work`] counts what it makes the chip do, [`Chip`] says how
//! fast a chip does such things, [`Estimate`] is the time that follows.
//!
//! Counts are exact for the shapes they are of. Times are **estimates**: of a chip's parameters only
//! two are public (`chips.toml` marks each as public or an assumption), and the model behind them is a
//! simple one: an operator computes while it loads and stores, whatever takes longer bounds it, and
//! operators follow each other. They rank remedies; they promise no latency. `docs/cost.md` is the same
//! account for users.

mod chip;
mod count;
mod estimate;
mod way;
mod work;

pub use chip::{Chip, Key, Parameter};
pub use count::{Cost, Unit, cost};
pub use estimate::{Bound, Estimate};
pub use way::LinearSite;
pub use work::{Elements, Macs, Work};
