//! What `quantize` and `plan` have in common: the inputs and the settings.

use std::path::PathBuf;

use clap::{Args, builder::BoolishValueParser};
use dual16_proto::v1::{LayerSetting, OutputTarget, QuantizeSpec};

use super::values::{
    March, Merge, Observer, Priority, Rounding, ScaleRule, Template, Toolchain, chip_file,
    deadline_seconds, dtype_setting, finite, high_precision_setting, observer_setting,
    operator_setting, output_target, percentile, scale_setting, way_setting, wire_name,
};
use crate::{
    error::Error,
    inputs::{ModelPath, Sources},
};

/// The model and the batches.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Inputs")]
pub struct InputArgs {
    /// ONNX model; external data must lie in its folder
    #[arg(env = "DUAL16_MODEL", value_name = "MODEL.onnx")]
    pub model: Option<PathBuf>,
    /// Calibration batches, a folder or a file: .safetensors or .npz, one batch a file, one array for each
    /// input; or .npy files, INPUT/NNN.npy
    #[arg(long, env = "DUAL16_CALIB", value_name = "FILE|DIR")]
    pub calib: Option<PathBuf>,
    /// Layer mode: checkpoint with NAME.weight and NAME.bias, instead of a model
    #[arg(long, env = "DUAL16_WEIGHTS", value_name = "CKPT.safetensors")]
    pub weights: Option<PathBuf>,
    /// Layer mode: captured layer inputs, a folder or a file; one batch a file, one array for each layer
    #[arg(long, env = "DUAL16_ACTIVATIONS", value_name = "FILE|DIR")]
    pub activations: Option<PathBuf>,
    /// Batches to measure the errors on [default: the calibration batches]
    #[arg(long, env = "DUAL16_EVAL", value_name = "FILE|DIR")]
    pub eval: Option<PathBuf>,
    /// What to call the job [default: the model's file name]
    #[arg(long, env = "DUAL16_NAME")]
    pub name: Option<String>,
    /// Ends the job with an error if it is not done in this time, waiting included: 90s, 30m, 2h, 1d
    #[arg(long, env = "DUAL16_DEADLINE", value_name = "TIME", value_parser = deadline_seconds)]
    pub deadline: Option<u64>,
    /// Whether a server runs its tasks before those of other jobs
    #[arg(long, env = "DUAL16_PRIORITY", value_enum, default_value_t = Priority::Normal)]
    pub priority: Priority,
}

/// How to quantize. NAME is any name that `plan --names` lists, or a glob over them.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Quantization")]
pub struct SettingArgs {
    /// Way of the Linears NAME: a8w8, a16w8, a8w16, mul_sum, split, a16w16 or auto; fitted to its inputs
    /// with +bc, +scale, +gptq, +eq, +clip, +lowrank=N (repeatable)
    #[arg(long, env = "DUAL16_LINEAR", value_name = "NAME=WAY", value_delimiter = ';',
          value_parser = way_setting)]
    pub linear: Vec<LayerSetting>,
    /// What runs in the stead of the operators NAME, which are no Linears: two_range, dot, fp16, late_mean,
    /// two_tables, split, mul_sum, division or plain; `plan` shows which can where (repeatable)
    #[arg(long, env = "DUAL16_OPERATOR", value_name = "NAME=REMEDY", value_delimiter = ';',
          value_parser = operator_setting)]
    pub operator: Vec<LayerSetting>,
    /// Type of the outputs NAME: int8 or int16 (repeatable)
    #[arg(long, env = "DUAL16_DTYPE", value_name = "NAME=DTYPE", value_delimiter = ';',
          value_parser = dtype_setting)]
    pub dtype: Vec<LayerSetting>,
    /// Scale of the values NAME, a number > 0 or a fraction like 7/32767 (repeatable)
    #[arg(long, env = "DUAL16_FIXED_SCALE", value_name = "NAME=SCALE", value_delimiter = ';',
          value_parser = scale_setting)]
    pub fixed_scale: Vec<LayerSetting>,
    /// Observer of the values NAME: minmax, mse, percentile or kl (repeatable)
    #[arg(long, env = "DUAL16_LAYER_OBSERVER", value_name = "NAME=OBSERVER", value_delimiter = ';',
          value_parser = observer_setting)]
    pub layer_observer: Vec<LayerSetting>,
    /// Keep the output of the Linears NAME in high precision (repeatable)
    #[arg(long, env = "DUAL16_HIGH_PRECISION", value_name = "NAME", value_delimiter = ';',
          value_parser = high_precision_setting)]
    pub high_precision: Vec<LayerSetting>,
    /// Starting dtypes of every tensor
    #[arg(long, env = "DUAL16_TEMPLATE", value_enum, default_value_t = Template::A16w8)]
    pub template: Template,
    /// How ranges are taken from the batches
    #[arg(long, env = "DUAL16_OBSERVER", value_enum, default_value_t = Observer::Minmax)]
    pub observer: Observer,
    /// Share of |x| in percent that the percentile observer keeps, in (0, 100]
    #[arg(long, env = "DUAL16_PERCENTILE", default_value = "99.99", value_parser = percentile)]
    pub percentile: f64,
    /// How the ranges of batches are merged
    #[arg(long, env = "DUAL16_MERGE", value_enum, default_value_t = Merge::Exact)]
    pub merge: Merge,
    /// Toolchain whose rules say what is legal
    #[arg(long, env = "DUAL16_TOOLCHAIN", value_enum, default_value_t = Toolchain::Oe31)]
    pub toolchain: Toolchain,
    /// Chip
    #[arg(long, env = "DUAL16_MARCH", value_enum, default_value_t = March::NashM)]
    pub march: March,
    /// Rounding of quantize
    #[arg(long, env = "DUAL16_ROUNDING", value_enum, default_value_t = Rounding::Rne)]
    pub rounding: Rounding,
    /// Rule from range to scale
    #[arg(long, env = "DUAL16_SCALE_RULE", value_enum, default_value_t = ScaleRule::Range)]
    pub scale_rule: ScaleRule,
    /// Round every scale up to a power of two
    #[arg(long, env = "DUAL16_POWER_OF_TWO", value_parser = BoolishValueParser::new())]
    pub power_of_two: bool,
    /// A Linear below this many dB alone is measured every way and takes the best legal one
    #[arg(long, env = "DUAL16_MIN_LAYER_SQNR", value_name = "DB", default_value = "30",
          allow_negative_numbers = true, value_parser = finite)]
    pub min_layer_sqnr: f64,
    /// Every output is to reach this many dB: below it, what costs it most is mended, by a better way or a
    /// remedy; 0 mends nothing
    #[arg(long, env = "DUAL16_MIN_OUTPUT_SQNR", value_name = "DB", default_value = "30",
          value_parser = finite)]
    pub min_output_sqnr: f64,
    /// What the output NAME is to reach instead, as METRIC:VALUE: sqnr (dB) or cosine, at least; l1, mse,
    /// atol, rtol or kl, at most (repeatable)
    #[arg(long, env = "DUAL16_OUTPUT_TARGET", value_name = "NAME=METRIC:VALUE", value_delimiter = ';',
          value_parser = output_target)]
    pub output_target: Vec<OutputTarget>,
    /// What you know of your chip, for the estimates: TOML laid over the built-in parameters
    #[arg(long, env = "DUAL16_CHIP", value_name = "FILE.toml", value_parser = chip_file)]
    pub chip: Option<String>,
    /// Take integers and booleans that follow from activations (an ArgMax, a mask) from the float run
    /// instead of computing them from the quantized values
    #[arg(long, env = "DUAL16_FREEZE_INTEGERS", value_parser = BoolishValueParser::new())]
    pub freeze_integers: bool,
    /// Let a LayerNorm whose integers cost the outputs run in fp16: public notes name it for J6E/M, its cost is
    /// not public
    #[arg(long, env = "DUAL16_ALLOW_FP16", value_parser = BoolishValueParser::new())]
    pub allow_fp16: bool,
    /// Refuse a model of which more than 1 % would run in float
    #[arg(long, env = "DUAL16_STRICT", value_parser = BoolishValueParser::new())]
    pub strict: bool,
    /// Keep in statistics.bin what any observer needs, so that `rescale` may choose another
    #[arg(long, env = "DUAL16_KEEP_STATISTICS", value_parser = BoolishValueParser::new())]
    pub keep_statistics: bool,
    /// Also write outputs.safetensors: the model's outputs, float, validation and converted
    #[arg(long, env = "DUAL16_SAVE_OUTPUTS", value_parser = BoolishValueParser::new())]
    pub save_outputs: bool,
}

impl InputArgs {
    /// Tells all that `command` misses at once; `also` is what it needs beside the inputs.
    ///
    /// # Errors
    /// A usage error that ends with the usage.
    pub(super) fn require(&self, command: &str, also: &[&'static str]) -> Result<(), Error> {
        let mut missing = self.missing();
        missing.extend(also);
        match missing.is_empty() {
            true => Ok(()),
            false => Err(incomplete(command, &missing)),
        }
    }

    fn missing(&self) -> Vec<&'static str> {
        let mut missing = Vec::new();
        let layers = self.model.is_none() && (self.weights.is_some() || self.activations.is_some());
        match layers {
            true if self.weights.is_none() => missing.push("--weights CKPT.safetensors"),
            false if self.model.is_none() => missing.push("MODEL.onnx"),
            _ => {}
        }
        let both = self.model.is_some() && self.weights.is_some();
        if !both && self.calib.is_none() && self.activations.is_none() {
            missing.push(if layers {
                "--activations DIR"
            } else {
                "--calib DIR"
            });
        }
        missing
    }

    /// Finds the files.
    ///
    /// # Errors
    /// A usage error when it is not one model with its batches, an input error when a file is wrong.
    pub fn sources(&self) -> Result<Sources, Error> {
        let (model, batches) = match (&self.model, &self.weights) {
            (Some(_), Some(_)) => {
                return Err(Error::usage(
                    "both a model and --weights were given",
                    "give MODEL.onnx with --calib, or --weights with --activations",
                ));
            }
            (Some(model), None) => (ModelPath::Onnx(model.clone()), self.batches_of_a_model()?),
            (None, Some(weights)) => (
                ModelPath::Weights(weights.clone()),
                self.batches_of_layers()?,
            ),
            (None, None) => return Err(incomplete("quantize", &self.missing())),
        };
        Ok(Sources::find(model, batches, self.eval.as_deref())?)
    }

    fn batches_of_a_model(&self) -> Result<&PathBuf, Error> {
        match (&self.calib, &self.activations) {
            (Some(calib), None) => Ok(calib),
            (_, Some(_)) => Err(Error::usage(
                "--activations belongs to --weights",
                "calibrate a model with --calib DIR",
            )),
            (None, None) => Err(incomplete("quantize", &self.missing())),
        }
    }

    fn batches_of_layers(&self) -> Result<&PathBuf, Error> {
        match (&self.activations, &self.calib) {
            (Some(activations), None) => Ok(activations),
            (_, Some(_)) => Err(Error::usage(
                "--calib belongs to a model",
                "give the inputs of the layers with --activations DIR",
            )),
            (None, None) => Err(incomplete("quantize", &self.missing())),
        }
    }
}

fn incomplete(command: &str, missing: &[&str]) -> Error {
    let out = match command {
        "quantize" => " --out DIR",
        _ => "",
    };
    Error::usage(
        format!("not given: {}", missing.join(", ")),
        format!(
            "the usage is\n  dual16 {command} MODEL.onnx --calib DIR{out}\nor, without a graph,\n  \
             dual16 {command} --weights CKPT.safetensors --activations DIR{out}\nand `dual16 {command} \
             --help` has the rest"
        ),
    )
}

impl SettingArgs {
    /// The settings as the API has them.
    pub fn spec(&self) -> QuantizeSpec {
        let settings = [
            &self.linear,
            &self.dtype,
            &self.fixed_scale,
            &self.layer_observer,
            &self.high_precision,
            &self.operator,
        ];
        QuantizeSpec {
            template: wire_name(self.template),
            observer: wire_name(self.observer),
            percentile: self.percentile,
            merge: wire_name(self.merge),
            toolchain: wire_name(self.toolchain),
            march: wire_name(self.march),
            rounding: wire_name(self.rounding),
            scale_rule: wire_name(self.scale_rule),
            power_of_two: self.power_of_two,
            min_layer_sqnr: Some(self.min_layer_sqnr),
            min_output_sqnr: Some(self.min_output_sqnr),
            settings: settings.into_iter().flatten().cloned().collect(),
            freeze_integers: self.freeze_integers,
            allow_fp16: self.allow_fp16,
            strict: self.strict,
            chip: self.chip.clone().unwrap_or_default(),
            output_targets: self.output_target.clone(),
            save_outputs: self.save_outputs,
            keep_statistics: self.keep_statistics,
        }
    }
}
