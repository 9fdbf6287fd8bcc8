//! What a fit is called: modifiers after a way, `a16w8+gptq+lowrank=8`.

use std::{fmt, str::FromStr};

use dual16_nash::{dtype::IntDtype, ways::Way};
use serde::{Deserialize, Serialize};

/// The widest low-rank branch that a name may ask for.
const WIDEST: u16 = 4096;

/// How the integers of a Linear are fitted to its inputs. Every fit corrects the bias as well, see
/// [`super`]; the default does nothing else.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Fit {
    /// Width of a low-rank branch beside the weight; 0 for none.
    pub rank: u16,
    /// Input columns are equalized, and what makes the input takes the factors in.
    pub equalize: bool,
    /// The input's range is clipped.
    pub clip: bool,
    /// The scale of each output channel is searched.
    pub scale: bool,
    /// GPTQ, rather than every weight rounded to the nearest.
    pub gptq: bool,
}

impl Fit {
    /// Bias correction and a branch of this width.
    pub const fn low_rank(rank: u16) -> Self {
        Self {
            rank,
            equalize: false,
            clip: false,
            scale: false,
            gptq: false,
        }
    }

    /// Whether a way can be fitted so: it is one matrix product, the weight int8 for whatever fits
    /// the rounding of the weight, the input int8 for a clip and int16, which has the room, for equalized
    /// columns.
    ///
    /// # Errors
    /// Why not, and which ways can.
    pub fn fits(self, way: Way) -> Result<(), String> {
        let int8_weight = self.rank > 0 || self.equalize || self.scale || self.gptq;
        let able = |way: &Way| {
            let one_product = matches!(way, Way::A8W8 | Way::A16W8 | Way::A8W16);
            one_product
                && !(int8_weight && way.weight_dtype() != IntDtype::Int8)
                && !(self.equalize && way.activation_dtype() != IntDtype::Int16)
                && !(self.clip && way.activation_dtype() != IntDtype::Int8)
        };
        if able(&way) {
            return Ok(());
        }
        let ways: Vec<&str> = Way::ALL
            .iter()
            .filter(|way| able(way))
            .map(|way| way.name())
            .collect();
        Err(format!(
            "{way} cannot be fitted by '{self}'; {} can",
            match ways.is_empty() {
                true => "no way".to_owned(),
                false => ways.join(", "),
            }
        ))
    }
}

/// A way and how it is fitted, as settings and tables call it.
pub fn way_name(way: Way, fit: Option<Fit>) -> String {
    match fit {
        Some(fit) => format!("{way}+{fit}"),
        None => way.to_string(),
    }
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written("eq", "clip"))
    }
}

impl Fit {
    /// The name with what stands for equalization and clip: their names, or those and the share that
    /// was taken.
    pub(super) fn written(&self, equalize: &str, clip: &str) -> String {
        let rank = format!("lowrank={}", self.rank);
        let parts = [
            (self.equalize, equalize),
            (self.clip, clip),
            (self.scale, "scale"),
            (self.gptq, "gptq"),
            (!self.gptq && self.rank == 0, "bc"),
            (self.rank > 0, &rank),
        ];
        let said = parts.into_iter().filter(|(is, _)| *is);
        said.map(|(_, part)| part).collect::<Vec<_>>().join("+")
    }
}

impl FromStr for Fit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut fit = Self::default();
        let mut seen: Vec<&str> = Vec::new();
        for part in text.split('+') {
            let name = part.split('=').next().unwrap_or_default();
            if seen.contains(&name) {
                return Err(format!("'{name}' stands twice in '{text}'"));
            }
            seen.push(name);
            match (part, part.strip_prefix("lowrank=")) {
                ("bc", _) => {}
                ("eq", _) => fit.equalize = true,
                ("clip", _) => fit.clip = true,
                ("scale", _) => fit.scale = true,
                ("gptq", _) => fit.gptq = true,
                (_, Some(rank)) => {
                    let rank = rank.parse().ok().filter(|rank| (1..=WIDEST).contains(rank));
                    fit.rank = rank.ok_or_else(|| {
                        format!("'{part}' is no width of a branch; 'lowrank=8' is, up to {WIDEST}")
                    })?;
                }
                _ => {
                    return Err(format!(
                        "unknown modifier '{part}'; known are bc, scale, gptq, eq, clip, lowrank=N, \
                         joined by '+'"
                    ));
                }
            }
        }
        Ok(fit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_as_it_is_written_and_bc_goes_without_saying() {
        for (text, written) in [
            ("bc", "bc"),
            ("scale", "scale+bc"),
            ("gptq+bc", "gptq"),
            ("lowrank=8+gptq", "gptq+lowrank=8"),
            ("lowrank=16", "lowrank=16"),
            ("clip", "clip+bc"),
            ("gptq+eq", "eq+gptq"),
            ("eq+scale+gptq+lowrank=4", "eq+scale+gptq+lowrank=4"),
        ] {
            let fit: Fit = text.parse().unwrap();
            assert_eq!(fit.to_string(), written);
            assert_eq!(written.parse(), Ok(fit));
        }
        for bad in [
            "",
            "gptq+",
            "lowrank",
            "lowrank=0",
            "lowrank=5000",
            "bc+bc",
            "int4",
        ] {
            assert!(bad.parse::<Fit>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_a_way_of_one_product_and_the_right_formats_can_be_fitted() {
        let fits = |text: &str, way: Way| text.parse::<Fit>().unwrap().fits(way).is_ok();
        let able = |text: &str| {
            let able = Way::ALL.into_iter().filter(|way| fits(text, *way));
            able.map(Way::name).collect::<Vec<_>>()
        };
        assert_eq!(able("bc"), ["a8w8", "a16w8", "a8w16"]);
        assert_eq!(able("gptq"), ["a8w8", "a16w8"]);
        assert_eq!(able("lowrank=4"), ["a8w8", "a16w8"]);
        assert_eq!(able("clip"), ["a8w8", "a8w16"]);
        assert_eq!(able("clip+gptq"), ["a8w8"]);
        assert_eq!(able("eq+gptq"), ["a16w8"]);
        assert_eq!(able("eq+clip"), [""; 0]);
    }
}
