//! What each fake quant alone costs at the outputs of the model, everything else being float:
//! measured ([`exact()`], one run of what lies downstream for each row) or estimated to first order
//! ([`estimate()`], a few passes backwards for all rows together).
//!
//! An [`Analysis`] is of a graph and a plan; [`FloatValues`] are of one batch. Both are shared by all
//! rows and all threads. Results of batches are merged by their owner, in batch order.
//!
//! Nothing here knows jobs, files or tables.

mod analysis;
mod backward;
mod estimate;
mod exact;
mod function;
mod pullback;
mod rank;
mod row;
mod spread;
mod values;

pub use analysis::Analysis;
pub use backward::gradients;
pub use estimate::{Estimate, PROBES, estimate, probes};
pub use exact::{cumulative, exact, exact_all};
pub use rank::rank_correlation;
pub use row::{Row, RowKind, converted_rows, rows};
pub use values::FloatValues;
