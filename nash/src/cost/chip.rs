//! What a chip is taken to be: numbers from `chips.toml`, each with its source, and a user's own over
//! them.

use std::fmt;

use crate::{error::ChipError, legality::March};

/// The file with every parameter of every chip.
const CHIPS: &str = include_str!("chips.toml");

/// The source of a number that a user's file gives without one.
const USERS: &str = "the user's file";

/// A parameter's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key {
    /// Peak of the matrix unit, 10^12 operations a second, two to a multiply-accumulate.
    Int8Tops,
    /// Share of that peak that a layer reaches, in (0, 1].
    MatrixUtilization,
    /// Speed relative to int8 × int8.
    FeatureInt8WeightInt16Rate,
    /// Speed relative to int8 × int8.
    FeatureInt16WeightInt8Rate,
    /// Speed relative to int8 × int8.
    DoubleInt16Rate,
    /// Vector unit, 10^9 bytes of elements a second.
    VectorGbPerS,
    /// fp16 arithmetic, 10^9 bytes of elements a second.
    Fp16GbPerS,
    /// Elements of an addition that an element of a look-up table is worth.
    LutPasses,
    /// Moves, 10^9 bytes read and written a second.
    MoveGbPerS,
    /// Between int8, int16 and float, 10^9 bytes read and written a second.
    RequantizeGbPerS,
    /// A float island's round trip, microseconds.
    FloatRoundTripUs,
    /// Peak of the memory outside the chip, 10^9 bytes a second.
    DdrGbPerS,
    /// Share of that peak that is reached, in (0, 1].
    DdrUtilization,
    /// The largest activation that stays on the chip, 2^20 bytes.
    OnChipMib,
    /// Start of an operator, microseconds.
    LaunchUs,
}

impl Key {
    /// Every key, in the order of the file.
    pub const ALL: [Self; 15] = [
        Self::Int8Tops,
        Self::MatrixUtilization,
        Self::FeatureInt8WeightInt16Rate,
        Self::FeatureInt16WeightInt8Rate,
        Self::DoubleInt16Rate,
        Self::VectorGbPerS,
        Self::Fp16GbPerS,
        Self::LutPasses,
        Self::MoveGbPerS,
        Self::RequantizeGbPerS,
        Self::FloatRoundTripUs,
        Self::DdrGbPerS,
        Self::DdrUtilization,
        Self::OnChipMib,
        Self::LaunchUs,
    ];

    /// As the file has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Int8Tops => "int8_tops",
            Self::MatrixUtilization => "matrix_utilization",
            Self::FeatureInt8WeightInt16Rate => "feature_int8_weight_int16_rate",
            Self::FeatureInt16WeightInt8Rate => "feature_int16_weight_int8_rate",
            Self::DoubleInt16Rate => "double_int16_rate",
            Self::VectorGbPerS => "vector_gb_per_s",
            Self::Fp16GbPerS => "fp16_gb_per_s",
            Self::LutPasses => "lut_passes",
            Self::MoveGbPerS => "move_gb_per_s",
            Self::RequantizeGbPerS => "requantize_gb_per_s",
            Self::FloatRoundTripUs => "float_round_trip_us",
            Self::DdrGbPerS => "ddr_gb_per_s",
            Self::DdrUtilization => "ddr_utilization",
            Self::OnChipMib => "on_chip_mib",
            Self::LaunchUs => "launch_us",
        }
    }

    /// Whether the number is a share of something, hence at most 1.
    const fn is_share(self) -> bool {
        matches!(self, Self::MatrixUtilization | Self::DdrUtilization)
    }

    /// Whether the number may be 0: a delay may, a rate may not.
    const fn may_be_zero(self) -> bool {
        matches!(
            self,
            Self::FloatRoundTripUs | Self::LaunchUs | Self::OnChipMib
        )
    }

    const fn range(self) -> &'static str {
        match (self.is_share(), self.may_be_zero()) {
            (true, _) => "a number in (0, 1]",
            (false, true) => "a number of at least 0",
            (false, false) => "a number greater than 0",
        }
    }

    fn allows(self, value: f64) -> bool {
        let low = value > 0.0 || (value == 0.0 && self.may_be_zero());
        value.is_finite() && low && (value <= 1.0 || !self.is_share())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A number and where it is from.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// The number, in the unit that its key says.
    pub value: f64,
    /// "public: …" or "assumption …"; what a user says of a number of theirs.
    pub source: String,
}

/// A chip as the cost model takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Chip {
    march: March,
    /// By position in [`Key::ALL`].
    parameters: [Parameter; Key::ALL.len()],
}

impl Chip {
    /// What `chips.toml` says.
    ///
    /// # Errors
    /// A file that is not whole; a test holds that it is.
    pub fn of(march: March) -> Result<Self, ChipError> {
        let file = parse(CHIPS)?;
        let unset = || Parameter {
            value: f64::NAN,
            source: String::new(),
        };
        let mut chip = Self {
            march,
            parameters: std::array::from_fn(|_| unset()),
        };
        chip.lay_over(&file)?;
        let missing = chip.parameters().find(|(_, own)| own.source.is_empty());
        match missing.map(|(key, _)| key) {
            Some(key) => Err(ChipError::Missing {
                key: format!("{march}.{key}"),
            }),
            None => Ok(chip),
        }
    }

    /// The same with what a TOML text says in its place: `[nash-m]` with any of the keys, each a number
    /// or a table of `value` and `source`. Tables of other chips are checked and have no effect.
    ///
    /// # Errors
    /// Text that is no TOML, and whatever is no chip, no key or no number in its range, by name.
    pub fn with(mut self, toml: &str) -> Result<Self, ChipError> {
        self.lay_over(&parse(toml)?)?;
        Ok(self)
    }

    /// Which chip.
    pub const fn march(&self) -> March {
        self.march
    }

    /// A parameter's number.
    pub const fn get(&self, key: Key) -> f64 {
        self.parameters[key as usize].value
    }

    /// The largest activation that stays on the chip, bytes.
    pub fn on_chip_bytes(&self) -> u64 {
        (self.get(Key::OnChipMib) * (1 << 20) as f64) as u64
    }

    /// Every parameter, in the order of the file.
    pub fn parameters(&self) -> impl Iterator<Item = (Key, &Parameter)> {
        Key::ALL.into_iter().zip(&self.parameters)
    }

    fn lay_over(&mut self, file: &toml::Table) -> Result<(), ChipError> {
        for (name, table) in file {
            let march: March = name.parse().map_err(|_| unknown(name, "nash-e, nash-m"))?;
            let table = table.as_table().ok_or_else(|| ChipError::Value {
                key: name.clone(),
                got: table.to_string(),
                expected: "a table",
            })?;
            for (key, value) in table {
                let full = format!("{name}.{key}");
                let known = Key::ALL.into_iter().find(|known| known.name() == key);
                let known =
                    known.ok_or_else(|| unknown(&full, &Key::ALL.map(Key::name).join(", ")))?;
                let parameter = parameter(&full, known, value)?;
                if march == self.march {
                    self.parameters[known as usize] = parameter;
                }
            }
        }
        Ok(())
    }
}

fn parse(text: &str) -> Result<toml::Table, ChipError> {
    text.parse()
        .map_err(|error: toml::de::Error| ChipError::Syntax {
            reason: error.to_string().trim_end().to_owned(),
        })
}

fn unknown(key: &str, expected: &str) -> ChipError {
    ChipError::Unknown {
        key: key.to_owned(),
        expected: expected.to_owned(),
    }
}

/// A number, or a table of one and its source.
fn parameter(full: &str, key: Key, value: &toml::Value) -> Result<Parameter, ChipError> {
    let (number, source) = match value {
        toml::Value::Table(table) => {
            if let Some(other) = table
                .keys()
                .find(|name| !["value", "source"].contains(&name.as_str()))
            {
                return Err(unknown(&format!("{full}.{other}"), "value, source"));
            }
            let source = table.get("source").and_then(toml::Value::as_str);
            (table.get("value").unwrap_or(value), source)
        }
        number => (number, None),
    };
    let got = match number {
        toml::Value::Integer(number) => Some(*number as f64),
        toml::Value::Float(number) => Some(*number),
        _ => None,
    };
    match got.filter(|&number| key.allows(number)) {
        Some(value) => Ok(Parameter {
            value,
            source: source.unwrap_or(USERS).to_owned(),
        }),
        None => Err(ChipError::Value {
            key: full.to_owned(),
            got: number.to_string(),
            expected: key.range(),
        }),
    }
}
