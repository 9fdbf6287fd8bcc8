//! The README of the folder: which file goes where, and what could not be said in which.

use std::fmt::Write as _;

use super::{
    emit::{Dialect, Refused},
    modules::Modules,
    source::Source,
};
use crate::graph::Op;

/// What became of an ONNX file.
pub(super) struct Written {
    pub(super) name: &'static str,
    pub(super) dialect: Dialect,
    pub(super) refused: Vec<Refused>,
    /// Operators of other domains that it has.
    pub(super) foreign: Vec<String>,
}

/// The text, in Markdown.
pub(super) fn text(source: &Source<'_>, files: &[Written], modules: &Modules) -> String {
    let mut text = format!("# {}, for the toolchain\n\n", source.file);
    text.push_str(FILES);
    let mut notes = Vec::new();
    for file in files {
        for Refused { node, reason } in &file.refused {
            notes.push(format!(
                "`{}` is not there: node `{node}`: {reason}",
                file.name
            ));
        }
        for op in &file.foreign {
            notes.push(format!(
                "`{}` has {op}, which onnxruntime has and the vendor's compiler has not",
                file.name
            ));
        }
        if file.dialect == Dialect::Float && file.refused.is_empty() {
            let open: Vec<&str> = open_inputs(source);
            if !open.is_empty() {
                notes.push(format!(
                    "`{}`: the shape of {} is open; the compiler wants it fixed",
                    file.name,
                    open.join(", ")
                ));
            }
        }
    }
    notes.extend(of_operations(source));
    for (name, what) in &modules.by_hand {
        let what: Vec<&str> = what.iter().map(String::as_str).collect();
        notes.push(format!(
            "`modules.py`: `{name}` is no module that can be swapped ({}); take it from `mended.onnx` or write \
             it by hand",
            what.join(", ")
        ));
    }
    if modules.nameless > 0 {
        notes.push(format!(
            "`qconfig.py`: {} quantized operations are no module of their own, and no setting names them; \
             their scales are in `../plan.json`",
            modules.nameless
        ));
    }
    let _ = write!(
        text,
        "\n{} modules are swapped by `modules.py`.\n\n## What is not said here\n",
        modules.swapped()
    );
    match notes.is_empty() {
        true => text.push_str("Nothing: every operation is in every file.\n"),
        false => notes.iter().for_each(|note| {
            let _ = writeln!(text, "- {note}");
        }),
    }
    text.push_str(FLOW);
    text
}

/// Inputs with a dimension that the model leaves open.
fn open_inputs<'a>(source: &Source<'a>) -> Vec<&'a str> {
    use crate::model::InputShape;
    let inputs = source.model.inputs().iter();
    let open = inputs.filter(|input| match &input.shape {
        InputShape::Ranked(dims) => dims.iter().any(Option::is_none),
        InputShape::Trailing(_) => true,
    });
    open.map(|input| input.name.as_str()).collect()
}

/// What an operation of the plan does that a file has no form for.
fn of_operations(source: &Source<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    for (id, node) in source.graph.running() {
        let name = &node.name;
        match &node.op {
            Op::LayerNormFp16 { .. } => notes.push(format!(
                "`{name}`: fp16 on the chip; the ONNX files have a LayerNormalization in f32"
            )),
            Op::Dot { axes, .. } => {
                let rank = node.inputs.first();
                let rank = rank.map_or(0, |id| source.graph.value(*id).shape.len());
                if axes[..] != [rank.saturating_sub(1)] {
                    notes.push(format!(
                        "`{name}`: a product of rows over axes {axes:?}, written as Mul and a reduction"
                    ));
                }
            }
            Op::ToInt8 { step } => notes.push(format!(
                "`{name}`: a requantization to int8 at scale {step}, written as QuantizeLinear and \
                 DequantizeLinear in both ONNX files"
            )),
            _ if source.graph.answered_in_float(node) => notes.push(format!(
                "`model_qdq.onnx`: `{name}` asks what a quantized number cannot answer; VALIDATION takes the \
                 float run's answer, onnxruntime the quantized value's"
            )),
            _ => {}
        }
        if source.plan.divisions.contains_key(&id.0) {
            notes.push(format!(
                "`{name}`: its table is divided where `../plan.json` says; no file here has tables"
            ));
        }
    }
    if source.settings.freeze_integers {
        notes.push(
            "`model_qdq.onnx` computes integers that follow from activations; VALIDATION took the float run's"
                .to_owned(),
        );
    }
    notes
}

const FILES: &str = "\
| file | what | where it goes |
|---|---|---|
| `mended.onnx` | the model in floats, remedies as operators, fitted weights; opset 19, IR 9 | HMCT, or hbdk4's export |
| `mended.safetensors` | the large tensors of both ONNX files and those of `modules.py`; keep it beside them | |
| `model_qdq.onnx` | the same with a fake quant wherever the plan has one; opset 21 for int16 | onnxruntime: it computes what VALIDATION computes |
| `quant_config.json` | dtypes by node of `mended.onnx`; it has no place for thresholds | HMCT's calibration |
| `modules.py`, `modules.json` | `apply(model, folder)` swaps modules of the PyTorch model and loads their tensors | before `prepare` |
| `qconfig.py` | dtypes and fixed scales for `prepare`, of both generations of the plugin; it also reads the sensitivity tables of `dual16 analyze` | calibration, QAT |
| `from_board.py` | where tensors that a board or the simulator dumped part from `model_qdq.onnx`, in steps | after `convert` |
";

const FLOW: &str = "
## Through the plugin
1. **Calibrate.** `apply(model, folder)`, then `prepare(model, example_input, qconfig_setter=qconfig.setter(folder))`
   (before OE 3.5: `qconfig.setters(folder)`). Scales are fixed as measured here; whatever no setting names is
   calibrated as usual. A weight that was fitted or split lies on a grid of its own: its scales, one for each output
   channel, are given as thresholds (scale · 128), and without them the plugin would round it again to another grid.
2. **QAT**, if calibration is at 90 to 95 % of float: keep the activation scales fixed and let weights alone learn,
   observers frozen, at 1/10 to 1/20 of float's last learning rate. At 95 % and above it is seldom needed; below
   90 % look for the cause first (`dual16 analyze`).
3. **Export and convert** as usual. A bias that was corrected is in the tensors already: leave the tool's own bias
   correction off.

## Through ONNX
Calibrate `mended.onnx` with `quant_config.json`. Weights with int8 integers of their own (fits, both planes of a
split) keep them only at the scales in `../converted.safetensors`; where the tool chooses others, measure again.

The plugin, HMCT and the compiler are not public. `mended.onnx` and `model_qdq.onnx` were checked with onnx.checker and
onnxruntime, `modules.py` with PyTorch, `qconfig.py` with stand-ins that record what they are given; `quant_config.json`
follows public documents and was run by nothing.
";
