//! Doubles, which a float run holds in f32: what their 24 bits lose, and when that is too much for
//! right numbers. Models of ordinary size lose nothing that matters; a time in seconds since 1970 loses
//! a minute.

/// The part of what is left that may be lost by a calculation that cancels.
pub(crate) const PART: f64 = 3e-5;

/// The part of their spread that numbers which are given may lose. What is calculated from them says
/// more exactly whether that matters, as far as it is looked at.
const PART_GIVEN: f64 = 1e-3;

/// What is to be done about it.
pub(crate) const ADVICE: &str = "subtract the offset before the model, or export it in float32 if that is \
                                 what it needs";

/// A double as it is held. The least and the largest of doubles stay the least and the largest, for
/// masks are written so; and what is not 0 does not become 0, for it may be there to be divided by.
pub(crate) fn held(x: f64) -> f32 {
    let near = x as f32;
    match x {
        _ if x.abs() == f64::MAX => f32::MAX.copysign(near),
        _ if x != 0.0 && near == 0.0 => f32::from_bits(1).copysign(near),
        _ => near,
    }
}

/// Says which of some numbers loses too much of their spread as it becomes an f32, if one does. What
/// no f32 comes near to, as the least double in a mask, is no number of the spread.
pub(crate) fn rounding(elements: impl Iterator<Item = f64>) -> Option<String> {
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    let (mut worst, mut lost) = (0.0, 0.0);
    for x in elements {
        let held = f64::from(x as f32);
        if !held.is_finite() {
            continue;
        }
        (least, most) = (least.min(x), most.max(x));
        if (x - held).abs() > lost {
            (worst, lost) = (x, (x - held).abs());
        }
    }
    let spread = most - least;
    (spread > 0.0 && lost > PART_GIVEN * spread).then(|| {
        format!(
            "{worst} is held as the float32 {}, {lost} off, where all lie within {spread}",
            f64::from(worst as f32)
        )
    })
}

/// The most that the nearest f32 is away from the number that it stands for.
pub(crate) fn step(x: f32) -> f64 {
    let exponent = (x.to_bits() >> 23) & 0xff;
    2_f64.powi(exponent.max(1) as i32 - 127 - 24)
}

/// Whether an f32 looks like the number itself and not like the nearest to one: an integer below
/// `whole`, or one whose last bits are 0.
pub(crate) fn is_itself(x: f32, whole: f32) -> bool {
    !x.is_finite() || (x.fract() == 0.0 && x.abs() < whole) || x.to_bits() & 0xf == 0
}
