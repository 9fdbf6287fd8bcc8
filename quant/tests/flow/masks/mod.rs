//! Masks in front of a Softmax: however one is written, it costs nothing, and a row that is masked
//! whole is what it is in float.

mod attention;
mod encoder;
mod forms;
mod rows;
