//! What saturates in a Linear whatever its input is: multipliers and biases that the chip's formats
//! do not hold, as sentences for a notice.

use dual16_nash::{linear::saturated_biases, requant::Rescale, scale::Scale};

/// Channels that a sentence names.
const NAMED: usize = 4;

/// A bias whose steps int32 does not hold.
pub(super) fn of_bias(bias: &[f32], input: Scale, weight: &[Scale]) -> Option<String> {
    let saturated: Vec<_> = saturated_biases(bias, input, weight).collect();
    let named = saturated.iter().take(NAMED);
    let named: Vec<String> = named
        .map(|bias| format!("channel {} wants {:.4e}", bias.channel, bias.steps))
        .collect();
    let more = saturated.len().saturating_sub(NAMED);
    (!saturated.is_empty()).then(|| {
        format!(
            "its bias saturates at int32's {}: {}{} steps of the input's scale times the weight's",
            i32::MAX,
            named.join(", "),
            match more {
                0 => String::new(),
                more => format!(" and {more} channels more want more"),
            }
        )
    })
}

/// Multipliers at their largest. `what` says what is carried to which scale.
pub(super) fn of_rescales(what: &str, rescales: &[Rescale]) -> Option<String> {
    let saturated = |rescale: &&Rescale| **rescale == Rescale::LARGEST;
    let count = rescales.iter().filter(saturated).count();
    let first = rescales.iter().position(|rescale| saturated(&rescale))?;
    let channels = match rescales.len() {
        1 => String::new(),
        all => format!(" in {count} of {all} channels, the first of them {first}"),
    };
    Some(format!(
        "{what} needs a multiplier beyond the chip's largest, 16383.5, and saturates{channels}"
    ))
}
