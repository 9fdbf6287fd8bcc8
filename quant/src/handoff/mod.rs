//! What is handed back to the toolchain: the mended model in floats, the same with its fake quants, the
//! modules of PyTorch that stand in for layers, and the settings by which the vendor's tools quantize it as
//! it was measured here. All follows from the model, its graph, the plan and the fitted integers; nothing
//! here knows a job, a stage or where files are kept.
//!
//! # Layout
//! - [`source`]: what is handed back, and parts of weights in floats;
//! - [`store`]: the file of tensors, which ONNX files and PyTorch modules share;
//! - [`writer`], [`names`]: an ONNX graph under construction;
//! - [`emit`]: from a graph to ONNX nodes, those that [`changed`] names written from the graph; [`linear`], [`operation`], [`fake`], [`standard`]: each kind of
//!   node;
//! - [`modules`], [`quant_config`], [`readme`]: a file each. What is in `python` is handed back as it is.

mod changed;
mod emit;
mod fake;
mod linear;
mod modules;
mod names;
mod operation;
mod quant_config;
mod readme;
mod rename;
mod source;
mod standard;
mod store;
mod writer;

use std::path::Path;

use prost::Message as _;

use crate::{Result, error::json_error};
use emit::{Dialect, Emitter};
use modules::Modules;
use names::Names;
use readme::Written;
use serde::Serialize;
use store::{Layout, Store};

pub(crate) use source::Source;

/// Name of the file of tensors.
pub(crate) const TENSORS: &str = store::FILE;

const FROM_BOARD: &str = include_str!("python/from_board.py");
const MODULES: &str = include_str!("python/modules.py");
const QCONFIG: &str = include_str!("python/qconfig.py");

/// The files of a handoff: the small ones as bytes, the large one yet to be written.
pub(crate) struct Handoff {
    /// By name.
    pub(crate) files: Vec<(&'static str, Vec<u8>)>,
    store: Store,
    layout: Layout,
}

impl Handoff {
    /// Everything but the file of tensors.
    ///
    /// # Errors
    /// Integers of a Linear that cannot be read.
    pub(crate) fn of(source: &Source<'_>) -> Result<Self> {
        let names = Names::of(source);
        let mut store = Store::default();
        let mut files: Vec<(&'static str, Vec<u8>)> = vec![
            ("from_board.py", FROM_BOARD.into()),
            ("modules.py", MODULES.into()),
            ("qconfig.py", QCONFIG.into()),
        ];
        let mut writers = Vec::new();
        let mut written = Vec::new();
        for (name, dialect) in [
            ("mended.onnx", Dialect::Float),
            ("model_qdq.onnx", Dialect::Quantized),
        ] {
            let mut emitter = Emitter::new(source, &names, &mut store, dialect);
            emitter.all()?;
            if dialect == Dialect::Float {
                let config = quant_config::text(&emitter)?;
                files.push(("quant_config.json", config.into_bytes()));
            }
            let Emitter {
                writer, refused, ..
            } = emitter;
            written.push(Written {
                name,
                dialect,
                foreign: writer.foreign(),
                refused,
            });
            writers.push(writer);
        }
        let modules = Modules::of(source, &names, &mut store)?;
        files.push(("modules.json", modules.text(source)?.into_bytes()));
        files.push((
            "README.md",
            readme::text(source, &written, &modules).into_bytes(),
        ));
        let layout = store.layout()?;
        for (writer, of) in writers.into_iter().zip(&written) {
            if of.refused.is_empty() {
                let version = of.dialect.version();
                let file = writer.finish(source, version, TENSORS, &layout);
                files.push((of.name, file.encode_to_vec()));
            }
        }
        files.sort_unstable();
        Ok(Self {
            files,
            store,
            layout,
        })
    }

    /// Writes the file of tensors, one at a time.
    ///
    /// # Errors
    /// [`crate::Error::Io`]; integers of a Linear that cannot be read.
    pub(crate) fn write_tensors(&self, source: &Source<'_>, path: &Path) -> Result<()> {
        self.store.write(source, &self.layout, path)
    }
}

/// A file of JSON.
fn pretty(file: &str, value: &impl Serialize) -> Result<String> {
    let mut text = serde_json::to_string_pretty(value).map_err(|error| json_error(file, &error))?;
    text.push('\n');
    Ok(text)
}
