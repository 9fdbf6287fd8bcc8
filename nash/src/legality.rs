//! What is legal where: a data table keyed by march and toolchain. No kernel asks it; planning
//! does, and the vendor's silent fallback becomes a reason in words.

use std::fmt;
use std::str::FromStr;

use crate::error::ParseError;
use crate::ways::Way;

/// BPU architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum March {
    /// J6E.
    NashE,
    /// J6M. The default.
    #[default]
    NashM,
}

/// Generation of the OpenExplorer toolchain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Toolchain {
    /// Before OE 3.2.0. The default: the article's limit.
    #[default]
    Oe31,
    /// From OE 3.2.0 on.
    Oe32,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Architecture.
    pub march: March,
    /// Toolchain.
    pub toolchain: Toolchain,
    /// int16 operands that one GEMM may have `[pub]`.
    pub max_int16_gemm_operands: u32,
    /// The operand rule in words, for reasons.
    pub gemm_rule: &'static str,
}

const ONE_OPERAND: &str = "before OE 3.2.0 a GEMM takes at most one int16 operand";
const TWO_OPERANDS: &str = "from OE 3.2.0 on a GEMM takes two int16 operands";

/// The table. Both marches follow the same rule today.
pub const RULES: [Rules; 4] = [
    row(March::NashE, Toolchain::Oe31, 1, ONE_OPERAND),
    row(March::NashM, Toolchain::Oe31, 1, ONE_OPERAND),
    row(March::NashE, Toolchain::Oe32, 2, TWO_OPERANDS),
    row(March::NashM, Toolchain::Oe32, 2, TWO_OPERANDS),
];

const fn row(march: March, toolchain: Toolchain, operands: u32, gemm_rule: &'static str) -> Rules {
    Rules {
        march,
        toolchain,
        max_int16_gemm_operands: operands,
        gemm_rule,
    }
}

/// Whether a way is legal, and if not, why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Legality {
    /// It may run.
    pub legal: bool,
    /// The broken rule and the ways that are legal; empty where `legal`.
    pub reason: String,
}

impl Rules {
    /// The row of a march and a toolchain.
    pub fn of(march: March, toolchain: Toolchain) -> Self {
        // The table is total (a test walks it), so the fallback, the strictest row, is never used.
        RULES
            .into_iter()
            .find(|rules| rules.march == march && rules.toolchain == toolchain)
            .unwrap_or(RULES[0])
    }

    /// Ways that may run, in the order of [`Way::ALL`].
    pub fn legal_ways(self) -> impl Iterator<Item = Way> {
        Way::ALL.into_iter().filter(move |&way| self.allows(way))
    }

    /// Whether a way may run, with a reason that names the rule and the legal ways.
    pub fn check(self, way: Way) -> Legality {
        if self.allows(way) {
            return Legality {
                legal: true,
                reason: String::new(),
            };
        }
        let legal: Vec<_> = self.legal_ways().map(Way::name).collect();
        let reason = format!(
            "{way} is illegal on {} with {}: {}; legal: {}",
            self.march,
            self.toolchain,
            self.gemm_rule,
            legal.join(", ")
        );
        Legality {
            legal: false,
            reason,
        }
    }

    fn allows(self, way: Way) -> bool {
        way.int16_gemm_operands()
            .is_none_or(|count| count <= self.max_int16_gemm_operands)
    }
}

impl March {
    /// Both architectures.
    pub const ALL: [Self; 2] = [Self::NashE, Self::NashM];

    /// "nash-e" or "nash-m".
    pub const fn name(self) -> &'static str {
        match self {
            Self::NashE => "nash-e",
            Self::NashM => "nash-m",
        }
    }
}

impl Toolchain {
    /// Both generations.
    pub const ALL: [Self; 2] = [Self::Oe31, Self::Oe32];

    /// "oe-3.1" or "oe-3.2".
    pub const fn name(self) -> &'static str {
        match self {
            Self::Oe31 => "oe-3.1",
            Self::Oe32 => "oe-3.2",
        }
    }
}

impl fmt::Display for March {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for March {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|march| march.name() == s)
            .ok_or_else(|| ParseError {
                what: "march",
                got: s.to_owned(),
                expected: "nash-e, nash-m",
            })
    }
}

impl FromStr for Toolchain {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|toolchain| toolchain.name() == s)
            .ok_or_else(|| ParseError {
                what: "toolchain",
                got: s.to_owned(),
                expected: "oe-3.1, oe-3.2",
            })
    }
}
