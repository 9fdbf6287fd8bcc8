//! The three ways to run a model: CALIBRATION ([`Calibration`]: float, every tensor observed),
//! VALIDATION ([`Validation`]: f32 with fake quantization after every operation) and CONVERTED
//! ([`Converted`]: integers only, float islands aside). They share one [`walk`].

mod calibration;
mod converted;
pub(crate) mod ops_f32;
mod ops_int;
mod prepared;
mod table;
mod trouble;
mod validation;
mod walk;

pub use calibration::Calibration;
pub use converted::{Converted, Flow};
pub use prepared::Prepared;
pub use table::Table;
pub use trouble::{Saturated, Trouble};
pub use validation::Validation;
pub use walk::{Capture, Carried, Integers, Machine, walk};

pub(crate) use table::has_segments;
pub(crate) use walk::{captured, peak_elements};
