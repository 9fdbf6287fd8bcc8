//! The values that flags take: enumerations with their meanings, and NAME=VALUE settings.
//!
//! What is written here is also the help, and what does not parse never leaves this machine.

use clap::ValueEnum;
use dual16_proto::v1::{self, LayerSetting, OutputTarget, layer_setting::Value};

/// Starting dtypes of every tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Template {
    /// int8 activations, int8 weights.
    A8w8,
    /// int16 activations, int8 weights.
    A16w8,
    /// int16 activations, int16 weights where the toolchain can.
    A16w16,
}

/// Which jobs' tasks are leased first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Priority {
    /// After the others, though not never.
    Low,
    /// As most jobs.
    Normal,
    /// Before the others; a server may allow it to some.
    High,
}

impl From<Priority> for v1::Priority {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::Low => Self::Low,
            Priority::Normal => Self::Normal,
            Priority::High => Self::High,
        }
    }
}

/// How a range is taken from what was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Observer {
    /// Smallest and largest value.
    Minmax,
    /// The clipping with the least squared error.
    Mse,
    /// A percentile of |x|, see --percentile.
    Percentile,
    /// The clipping with the least Kullback-Leibler divergence (int8 only).
    Kl,
}

/// How the ranges of several batches become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Merge {
    /// Lossless, whatever the order.
    Exact,
    /// Moving average in batch order (constant 0.01), as the vendor's plugin.
    Ema,
}

/// How an error is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Metric {
    /// Signal to quantization noise, dB.
    Sqnr,
    /// Cosine similarity.
    Cosine,
    /// Mean absolute error.
    L1,
    /// Mean squared error.
    Mse,
    /// Largest absolute error.
    Atol,
    /// Largest relative error.
    Rtol,
    /// Divergence of histograms.
    Kl,
}

/// The vendor toolchain whose legality rules hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Toolchain {
    /// Before OE 3.2.0: one int16 operand in a matrix product at most.
    #[value(name = "oe-3.1")]
    Oe31,
    /// From OE 3.2.0 on: a16w16 is legal.
    #[value(name = "oe-3.2")]
    Oe32,
}

/// The chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum March {
    /// J6M.
    NashM,
    /// J6E.
    NashE,
}

/// Rounding of quantize.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Rounding {
    /// Half to even.
    Rne,
    /// floor(x + 0.5).
    Floor,
}

/// From a range to a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScaleRule {
    /// Divisors 127.5 and 32767.5.
    Range,
    /// Divisors 128 and 32768.
    Threshold,
}

/// How a Linear runs; `dual16 help ways` explains each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Way {
    /// int8 in, int8 weight.
    A8w8,
    /// int16 in, int8 weight.
    A16w8,
    /// int8 in, int16 weight.
    A8w16,
    /// Multiply, then sum, both int16.
    MulSum,
    /// The int16 weight as two int8 halves.
    Split,
    /// int16 in, int16 weight.
    A16w16,
    /// Measure every way, take the best legal one.
    Auto,
}

/// What runs in an operator's stead; docs/mending.md explains each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Remedy {
    /// Squares in two ranges.
    TwoRange,
    /// A sum of squares as a product of a row with itself.
    Dot,
    /// A LayerNorm in fp16, with --allow-fp16.
    Fp16,
    /// The mean taken away after the scaling.
    LateMean,
    /// A sum of exp in two tables.
    TwoTables,
    /// The second operand of a MatMul as two int8 planes.
    Split,
    /// A MatMul as products and sums on the vector unit.
    MulSum,
    /// A table divided by the inputs that calibration sees.
    Division,
    /// As it is, whatever a search would find.
    Plain,
}

/// An integer type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    /// 8 bits.
    Int8,
    /// 16 bits.
    Int16,
}

/// The value's name on the command line and in the API, which are the same.
pub(super) fn wire_name<T: ValueEnum>(value: T) -> String {
    value
        .to_possible_value()
        .map(|possible| possible.get_name().to_owned())
        .unwrap_or_default()
}

/// Modifiers of a way, and one that has a number.
const MODIFIERS: [&str; 5] = ["bc", "scale", "gptq", "eq", "clip"];
const LOW_RANK: &str = "lowrank";

/// Parses "NAME=WAY", the way with or without modifiers, "a16w8+gptq+lowrank=8". Which of them go
/// together, the flow says.
pub(super) fn way_setting(text: &str) -> Result<LayerSetting, String> {
    let Some((way, modifiers)) = way_of(text).and_then(|value| value.split_once('+')) else {
        return choice_setting::<Way>(text, "WAY", Value::Way);
    };
    let plain = &text[..text.len() - modifiers.len() - 1];
    let setting = choice_setting::<Way>(plain, "WAY", Value::Way)?;
    let known = |modifier: &str| {
        let rank = modifier
            .strip_prefix(LOW_RANK)
            .and_then(|rest| rest.strip_prefix('='));
        MODIFIERS.contains(&modifier) || rank.is_some_and(|rank| rank.parse::<u16>().is_ok())
    };
    match modifiers.split('+').find(|modifier| !known(modifier)) {
        Some(unknown) => Err(format!(
            "unknown modifier {unknown:?} of {way}; choose from {}, {LOW_RANK}=N",
            MODIFIERS.join(", ")
        )),
        None => Ok(LayerSetting {
            value: Some(Value::Way(format!("{way}+{modifiers}"))),
            ..setting
        }),
    }
}

/// What follows the last '=' that is not that of a modifier.
fn way_of(text: &str) -> Option<&str> {
    let mut end = text.len();
    loop {
        let at = text[..end].rfind('=')?;
        match text[..at].ends_with(&format!("+{LOW_RANK}")) {
            true => end = at,
            false => return Some(&text[at + 1..]),
        }
    }
}

/// Parses "NAME=int8|int16".
pub(super) fn dtype_setting(text: &str) -> Result<LayerSetting, String> {
    choice_setting::<Dtype>(text, "DTYPE", Value::Dtype)
}

/// Parses "NAME=REMEDY".
pub(super) fn operator_setting(text: &str) -> Result<LayerSetting, String> {
    choice_setting::<Remedy>(text, "REMEDY", Value::Operator)
}

/// Parses "NAME=OBSERVER".
pub(super) fn observer_setting(text: &str) -> Result<LayerSetting, String> {
    choice_setting::<Observer>(text, "OBSERVER", Value::Observer)
}

/// Parses "NAME=SCALE", the scale a number or a fraction like 7/32767.
pub(super) fn scale_setting(text: &str) -> Result<LayerSetting, String> {
    let (name, value) = split_setting(text, "SCALE")?;
    let scale = parse_ratio(value).ok_or_else(|| {
        format!("{value:?} is neither a number nor a fraction; examples are 0.002 and 7/32767")
    })?;
    if !(scale.is_finite() && scale > 0.0) {
        return Err(format!(
            "the scale of {name:?} is {value}; it must be finite and > 0"
        ));
    }
    Ok(setting(name, Value::FixedScale(scale)))
}

/// Parses "NAME=METRIC:VALUE".
pub(super) fn output_target(text: &str) -> Result<OutputTarget, String> {
    let (output, target) = split_setting(text, "METRIC:VALUE")?;
    let (metric, value) = target.split_once(':').ok_or_else(|| {
        format!("{target:?} is no METRIC:VALUE; examples are cosine:0.999 and sqnr:40")
    })?;
    Ok(OutputTarget {
        output: output.to_owned(),
        metric: chosen::<Metric>(metric, "METRIC")?,
        value: finite(value)?,
    })
}

/// Reads the file that describes a chip.
pub(super) fn chip_file(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// The setting of "NAME" alone: keep a high-precision output.
pub(super) fn high_precision_setting(name: &str) -> Result<LayerSetting, String> {
    match name {
        "" => Err("the name is empty".to_owned()),
        name => Ok(setting(name, Value::HighPrecision(true))),
    }
}

/// Parses a percentile in (0, 100].
pub(super) fn percentile(text: &str) -> Result<f64, String> {
    match finite(text)? {
        value if value > 0.0 && value <= 100.0 => Ok(value),
        value => Err(format!("{value} is not in (0, 100]")),
    }
}

/// Parses a finite number.
pub(super) fn finite(text: &str) -> Result<f64, String> {
    let value: f64 = text
        .parse()
        .map_err(|_| format!("{text:?} is not a number"))?;
    match value.is_finite() {
        true => Ok(value),
        false => Err("it must be finite".to_owned()),
    }
}

fn choice_setting<T: ValueEnum>(
    text: &str,
    what: &str,
    value: impl Fn(String) -> Value,
) -> Result<LayerSetting, String> {
    let (name, choice) = split_setting(text, what)?;
    Ok(setting(name, value(chosen::<T>(choice, what)?)))
}

/// A word for one of several values, as the API has it.
fn chosen<T: ValueEnum>(word: &str, what: &str) -> Result<String, String> {
    T::from_str(word, false).map(wire_name).map_err(|_| {
        let choices: Vec<_> = T::value_variants()
            .iter()
            .filter_map(T::to_possible_value)
            .map(|possible| possible.get_name().to_owned())
            .collect();
        format!(
            "unknown {} {word:?}; choose from {}",
            what.to_lowercase(),
            choices.join(", ")
        )
    })
}

/// Splits at the last '=', because a name may hold one and no value does.
fn split_setting<'a>(text: &'a str, what: &str) -> Result<(&'a str, &'a str), String> {
    match text.rsplit_once('=') {
        Some(("", _)) => Err(format!("no name before '='; expected NAME={what}")),
        Some((name, value)) => Ok((name, value)),
        None => Err(format!("no '='; expected NAME={what}")),
    }
}

fn setting(name: &str, value: Value) -> LayerSetting {
    LayerSetting {
        name: name.to_owned(),
        value: Some(value),
    }
}

fn parse_ratio(text: &str) -> Option<f64> {
    let number = |text: &str| text.trim().parse::<f64>().ok();
    match text.split_once('/') {
        Some((numerator, denominator)) => Some(number(numerator)? / number(denominator)?),
        None => number(text),
    }
}

/// A time such as "90s", "30m", "2h" or "1d", in whole seconds.
pub(super) fn deadline_seconds(text: &str) -> Result<u64, String> {
    let unit = |(unit, seconds)| Some((text.strip_suffix(unit)?, seconds));
    let units = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)];
    let (number, seconds) = units
        .into_iter()
        .find_map(unit)
        .ok_or_else(|| format!("'{text}' has no unit; give a time such as 90s, 30m, 2h or 1d"))?;
    let number: u64 = number
        .parse()
        .map_err(|_| format!("'{text}' is no time; give a whole number and s, m, h or d"))?;
    match number.checked_mul(seconds) {
        Some(0) => Err("nothing is done in no time".to_owned()),
        Some(seconds) => Ok(seconds),
        None => Err(format!("'{text}' is too long")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_split_at_the_last_equals_sign() {
        let parsed = way_setting("a=b.linear2=mul_sum").unwrap();
        assert_eq!(parsed.name, "a=b.linear2");
        assert_eq!(parsed.value, Some(Value::Way("mul_sum".to_owned())));
        let parsed = way_setting("a=b+c=a16w8+gptq+lowrank=8").unwrap();
        assert_eq!(parsed.name, "a=b+c");
        assert_eq!(
            parsed.value,
            Some(Value::Way("a16w8+gptq+lowrank=8".to_owned()))
        );
        let parsed = dtype_setting("blocks.*.{a,b}=int16").unwrap();
        assert_eq!(parsed.name, "blocks.*.{a,b}");
    }

    #[test]
    fn an_unknown_choice_lists_the_known_ones() {
        let error = way_setting("linear2=int4").unwrap_err();
        assert_eq!(
            error,
            "unknown way \"int4\"; choose from a8w8, a16w8, a8w16, mul_sum, split, a16w16, auto"
        );
        for bad in [
            "x=a16w8+int4",
            "x=a16w8+",
            "x=a16w8+lowrank",
            "x=a16w8+lowrank=many",
        ] {
            let error = way_setting(bad).unwrap_err();
            assert!(
                error.contains("bc, scale, gptq, eq, clip, lowrank=N"),
                "{bad}: {error}"
            );
        }
        assert!(
            way_setting("x=int4+gptq")
                .unwrap_err()
                .contains("unknown way \"int4\"")
        );
        assert!(
            observer_setting("x=max")
                .unwrap_err()
                .contains("minmax, mse, percentile, kl")
        );
        assert!(way_setting("linear2").unwrap_err().contains("NAME=WAY"));
        assert!(way_setting("=split").unwrap_err().contains("no name"));
    }

    #[test]
    fn a_scale_is_a_positive_number_or_fraction() {
        let scale = |text: &str| match scale_setting(text).unwrap().value {
            Some(Value::FixedScale(scale)) => scale,
            other => panic!("{other:?}"),
        };
        assert_eq!(scale("x=7/32767"), 7.0 / 32767.0);
        assert_eq!(scale("x=2.5e-3"), 0.0025);
        for bad in [
            "x=0", "x=-1", "x=1/0", "x=nan", "x=inf", "x=0/5", "x=a/b", "x=", "x",
        ] {
            assert!(scale_setting(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_are_checked() {
        assert_eq!(percentile("99.99"), Ok(99.99));
        for bad in ["0", "100.5", "nan", "x"] {
            assert!(percentile(bad).is_err(), "{bad}");
        }
        assert_eq!(finite("-3"), Ok(-3.0));
        assert!(finite("inf").is_err());
    }

    #[test]
    fn names_on_the_command_line_are_the_names_of_the_api() {
        assert_eq!(wire_name(Template::A16w8), "a16w8");
        assert_eq!(wire_name(Toolchain::Oe31), "oe-3.1");
        assert_eq!(wire_name(March::NashM), "nash-m");
        assert_eq!(wire_name(Way::MulSum), "mul_sum");
        assert_eq!(wire_name(Way::A16w16), "a16w16");
        assert_eq!(wire_name(ScaleRule::Threshold), "threshold");
    }

    #[test]
    fn times_have_a_unit() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("2h", 7200), ("1d", 86_400)] {
            assert_eq!(deadline_seconds(text), Ok(seconds));
        }
        for wrong in [
            "",
            "90",
            "h",
            "-1h",
            "1.5h",
            "0s",
            "2 h",
            "999999999999999999d",
        ] {
            assert!(deadline_seconds(wrong).is_err(), "{wrong}");
        }
    }
}
