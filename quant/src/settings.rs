//! What a job was asked to do, parsed and checked; nothing here depends on the model.

use std::{fmt, str::FromStr};

use crate::{
    fit::{Fit, way_name},
    metrics::Metric,
    observe::{MergeMode, ObserverKind},
    remedy::Remedy,
};
use dual16_nash::{
    cost::Chip,
    dtype::IntDtype,
    error::ChipError,
    legality::{March, Toolchain},
    quantize::Rounding,
    scale::ScaleRule,
    ways::Way,
};

/// Default of [`Settings::min_layer_sqnr`], dB.
pub const DEFAULT_MIN_LAYER_SQNR: f64 = 30.0;

/// Default of [`Settings::min_output_sqnr`], dB.
pub const DEFAULT_MIN_OUTPUT_SQNR: f64 = 30.0;

/// A whole request, defaults filled in.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Starting dtypes.
    pub template: Template,
    /// How a range is taken from what was observed.
    pub observer: ObserverKind,
    /// How batches merge.
    pub merge: MergeMode,
    /// What the toolchain allows.
    pub toolchain: Toolchain,
    /// Which chip.
    pub march: March,
    /// Rounding of quantize.
    pub rounding: Rounding,
    /// Range to scale.
    pub scale_rule: ScaleRule,
    /// Scales are rounded up to a power of two.
    pub power_of_two: bool,
    /// Below this isolated SQNR, in dB, a layer of the template's way is measured every way.
    pub min_layer_sqnr: f64,
    /// SQNR in dB that every output of the quantized model is to reach: below it, what costs it most is
    /// mended. 0 mends nothing.
    pub min_output_sqnr: f64,
    /// By name, later wins.
    pub by_name: Vec<NamedSetting>,
    /// Integers and booleans that follow from activations are the float run's, as the vendor's debug
    /// tool has them, instead of being computed from quantized values.
    pub freeze_integers: bool,
    /// Outputs that are to reach another figure than [`Settings::min_output_sqnr`].
    pub output_targets: Vec<OutputTarget>,
    /// TOML laid over what the cost model takes the chip to be.
    pub chip_toml: String,
    /// Remedies may run in fp16, of which nothing public says what it costs; not where the model is to be
    /// strictly integer.
    pub allow_fp16: bool,
    /// A model of which more than 1 % would run in float is refused.
    pub strict: bool,
    /// Everything that any observer needs is kept.
    pub keep_statistics: bool,
    /// Also write the model outputs.
    pub save_outputs: bool,
}

impl Settings {
    /// What the cost model takes the chip to be.
    ///
    /// # Errors
    /// [`Settings::chip_toml`] is no TOML, or names what is no chip, parameter or number in its range.
    pub fn chip(&self) -> Result<Chip, ChipError> {
        Chip::of(self.march)?.with(&self.chip_toml)
    }
}

/// What an output is to reach.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputTarget {
    /// Its name.
    pub output: String,
    /// Any but [`Metric::Lsb`].
    pub metric: Metric,
    /// At least this for SQNR (dB) and cosine (in (0, 1)), at most this, > 0, for the others; finite.
    pub value: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            template: Template::default(),
            observer: ObserverKind::default(),
            merge: MergeMode::default(),
            toolchain: Toolchain::default(),
            march: March::default(),
            rounding: Rounding::default(),
            scale_rule: ScaleRule::default(),
            power_of_two: false,
            min_layer_sqnr: DEFAULT_MIN_LAYER_SQNR,
            min_output_sqnr: DEFAULT_MIN_OUTPUT_SQNR,
            by_name: Vec::new(),
            freeze_integers: false,
            output_targets: Vec::new(),
            chip_toml: String::new(),
            allow_fp16: false,
            strict: false,
            keep_statistics: false,
            save_outputs: false,
        }
    }
}

/// One setting for every name that matches.
#[derive(Debug, Clone)]
pub struct NamedSetting {
    /// Name or glob.
    pub name: String,
    /// What it sets.
    pub value: SettingValue,
}

/// What a named setting sets.
#[derive(Debug, Clone)]
pub enum SettingValue {
    /// Way of a Linear.
    Way(WayChoice),
    /// Dtype of an output.
    Dtype(IntDtype),
    /// Scale of a value, given outright; finite and > 0.
    FixedScale(f64),
    /// Observer of a value.
    Observer(ObserverKind),
    /// The Linear's output is not requantized.
    HighPrecision(bool),
    /// What runs in the stead of an operator that is no Linear.
    Operator(OperatorChoice),
}

/// How an operator that is no Linear runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperatorChoice {
    /// A remedy stands in for it.
    Remedy(Remedy),
    /// Its table is divided by the inputs that calibration sees, where that is better.
    Division,
    /// As it is, whatever a search would find.
    Plain,
}

impl OperatorChoice {
    /// Every choice; equalization comes with the fit of a Linear.
    pub fn all() -> impl Iterator<Item = Self> {
        let remedies = Remedy::ALL.into_iter();
        let remedies = remedies.filter(|remedy| *remedy != Remedy::Equalize);
        let others = [Self::Division, Self::Plain];
        remedies.map(Self::Remedy).chain(others)
    }

    /// Lower-case name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Remedy(remedy) => remedy.name(),
            Self::Division => "division",
            Self::Plain => "plain",
        }
    }
}

/// A way, or the best of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WayChoice {
    /// This one.
    Fixed(Way),
    /// This one, its integers fitted to the layer's inputs.
    Fitted(Way, Fit),
    /// Measure every way, take the best legal one.
    Auto,
}

/// Starting dtypes of activations and weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Template {
    /// Everything int8.
    A8W8,
    /// int16 activations, int8 weights: the article's `calibration_8bit_weight_16bit_act`.
    #[default]
    A16W8,
    /// Everything int16.
    A16W16,
}

impl Template {
    /// Every template.
    pub const ALL: [Template; 3] = [Template::A8W8, Template::A16W8, Template::A16W16];

    /// Dtype of activations.
    pub fn activation(self) -> IntDtype {
        match self {
            Template::A8W8 => IntDtype::Int8,
            Template::A16W8 | Template::A16W16 => IntDtype::Int16,
        }
    }

    /// The way every Linear starts with.
    pub fn way(self) -> Way {
        match self {
            Template::A8W8 => Way::A8W8,
            Template::A16W8 => Way::A16W8,
            Template::A16W16 => Way::A16W16,
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.way().fmt(f)
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = |template: &Template| template.to_string() == text;
        Template::ALL
            .into_iter()
            .find(named)
            .ok_or_else(|| format!("unknown template '{text}'; one of a8w8, a16w8, a16w16"))
    }
}

impl fmt::Display for OperatorChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for OperatorChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::all().find(|choice| choice.name() == text);
        found.ok_or_else(|| {
            let names: Vec<&str> = Self::all().map(Self::name).collect();
            format!("unknown remedy '{text}'; one of {}", names.join(", "))
        })
    }
}

impl fmt::Display for WayChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WayChoice::Fixed(way) => way.fmt(f),
            WayChoice::Fitted(way, fit) => f.write_str(&way_name(*way, Some(*fit))),
            WayChoice::Auto => f.write_str("auto"),
        }
    }
}

impl FromStr for WayChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(WayChoice::Auto);
        }
        let (name, fit) = match text.split_once('+') {
            Some((name, fit)) => (name, Some(fit.parse::<Fit>()?)),
            None => (text, None),
        };
        let way: Way = name.parse().map_err(|_| {
            format!("unknown way '{name}'; one of a8w8, a16w8, a8w16, mul_sum, split, a16w16, auto")
        })?;
        match fit {
            Some(fit) => fit.fits(way).map(|()| WayChoice::Fitted(way, fit)),
            None => Ok(WayChoice::Fixed(way)),
        }
    }
}
