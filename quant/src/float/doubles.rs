//! A look at what nodes make of doubles, which a run holds in f32: an error where the 24 bits of an f32
//! do not tell what the node depends on, never another number.

use ndarray::Axis;

use crate::{
    canonical::{Loss, Watch},
    doubles::{ADVICE, PART, is_itself, rounding, step},
    error::{Error, Result},
    model::OnnxNode,
    tensor::{Datum, Tensor},
};

/// What differs by less is equal, whatever was meant.
const NOTHING: f64 = 1e-3;

/// Numbers beyond it swallow what is added to them in doubles as well: masks.
const MASK: f32 = 1e17;

/// Integers below are calculated without a loss, mostly; those that are given without any.
const WHOLE: f32 = (1 << 21) as f32;
const WHOLE_GIVEN: f32 = (1 << 24) as f32;

/// What may be lost of an angle or an exponent.
const ABSOLUTE: f64 = 1e-4;

/// Refuses a node that has lost what its doubles were. `made` is what it made first.
pub(super) fn check(
    node: &OnnxNode,
    watch: Watch,
    operands: &[Datum],
    made: Option<&Datum>,
) -> Result<()> {
    let floats: Vec<Held<'_>> = operands
        .iter()
        .zip(watch.given.iter().chain(std::iter::repeat(&false)))
        .filter_map(|(datum, &given)| Some(Held::of(datum.as_f32()?, given)))
        .collect();
    let lost = match (watch.loss, floats.as_slice()) {
        (Loss::Widened, _) => operands.first().and_then(widened),
        (Loss::Overflow, _) => overflow(&floats, made),
        (Loss::Underflow(place), all) => all.get(place).and_then(|x| {
            let of_nothing = x.tensor.iter().any(|&x| x == 0.0);
            underflow(x, watch.given.get(place) == Some(&true))
                .or_else(|| overflow(&floats, made).filter(|_| !of_nothing))
        }),
        (Loss::Total, [x, ..]) => total(x, made).or_else(|| overflow(&floats, made)),
        (Loss::Product, [a, b, ..]) => product(a, b, made).or_else(|| overflow(&floats, made)),
        (Loss::Sum, [a, b, ..]) => difference(a, b, -1.0),
        (Loss::Difference, [a, b, ..]) => difference(a, b, 1.0),
        (Loss::Spread, [x, ..]) => spread(x),
        (Loss::Exponent, [x, ..]) => exponent(x, node.int("axis").unwrap_or(-1)),
        (Loss::Integer, [x, ..]) => integer(x),
        (Loss::Rest, [a, b, ..]) => rest(a, b),
        (Loss::Angle, [x, ..]) => x
            .largest()
            .filter(|&x| step(x) > ABSOLUTE)
            .map(|x| format!("{x}, an angle, is held to {} in a float32", step(x))),
        _ => None,
    };
    match lost {
        None => Ok(()),
        Some(lost) => Err(Error::FloatRun {
            node: format!("node '{}' (operator {})", node.label(), node.op_type),
            reason: format!("it is given doubles, and float32 is too narrow: {lost}; {ADVICE}"),
        }),
    }
}

/// Doubles as they are held.
struct Held<'t> {
    tensor: &'t Tensor,
    /// Whether every element is itself.
    exact: bool,
    whole: f32,
}

impl<'t> Held<'t> {
    fn of(tensor: &'t Tensor, given: bool) -> Held<'t> {
        let whole = if given { WHOLE_GIVEN } else { WHOLE };
        Held {
            exact: tensor.iter().all(|&x| is_itself(x, whole)),
            tensor,
            whole,
        }
    }

    /// How far an element may be from what it stands for.
    fn step(&self, x: f32) -> f64 {
        if self.exact { 0.0 } else { step(x) }
    }

    /// The same of an element that looks like itself where others do not.
    fn rounded(&self, x: f32) -> f64 {
        if is_itself(x, self.whole) {
            0.0
        } else {
            step(x)
        }
    }

    /// The largest element that is not itself.
    fn largest(&self) -> Option<f32> {
        let rounded = |x: &f32| !is_itself(*x, self.whole);
        let magnitude = |a: &f32, b: &f32| a.abs().total_cmp(&b.abs());
        self.tensor
            .iter()
            .copied()
            .filter(rounded)
            .max_by(magnitude)
    }
}

fn widened(integers: &Datum) -> Option<String> {
    match integers {
        Datum::I32(x) => rounding(x.iter().map(|&x| f64::from(x))),
        _ => None,
    }
}

fn overflow(operands: &[Held<'_>], made: Option<&Datum>) -> Option<String> {
    let finite = |x: &Tensor| x.iter().all(|x| x.is_finite());
    let made = made?.as_f32()?;
    let left = operands.iter().all(|x| finite(x.tensor)) && made.iter().any(|x| x.is_infinite());
    left.then(|| "what it makes is beyond the largest, 3.4e38".to_owned())
}

/// Of what is given, 0 is 0.
fn underflow(x: &Held<'_>, given: bool) -> Option<String> {
    let vanished = |&x: &f32| x.abs() < f32::MIN_POSITIVE && !(given && x == 0.0);
    let found = x.tensor.iter().copied().find(vanished)?;
    Some(format!(
        "{found:e}, which it divides by or takes the logarithm of, may be any number below 1.2e-38"
    ))
}

/// A sum or a mean over axes: the elements' roundings are as likely up as down.
fn total(x: &Held<'_>, made: Option<&Datum>) -> Option<String> {
    let made = made?.as_f32()?;
    let summed = (x.tensor.len() / made.len().max(1)).max(1);
    cancelled(
        step(x.largest()?) * (summed as f64).sqrt(),
        x.largest()?,
        made,
    )
}

/// A sum of products: what is rounded of one operand is multiplied by the other.
fn product(a: &Held<'_>, b: &Held<'_>, made: Option<&Datum>) -> Option<String> {
    let (x, w) = (a.tensor, b.tensor);
    // Where the second is a matrix each of its rows meets one place of the first; elsewhere anything may meet.
    let rows = match (x.shape().last(), w.shape()) {
        (Some(k), [rows, _]) if k == rows => Some((Axis(x.ndim() - 1), Axis(0))),
        _ => None,
    };
    let of_a = most(x, rows.map(|(axis, _)| axis), |x| {
        (f64::from(x.abs()), a.rounded(x))
    });
    let of_b = most(w, rows.map(|(_, axis)| axis), |x| {
        (f64::from(x.abs()), b.rounded(x))
    });
    let lost = of_a
        .iter()
        .zip(&of_b)
        .map(|(a, b)| (a.1 * b.0).max(a.0 * b.1));
    let of = a.largest().or(b.largest())?;
    cancelled(lost.fold(0.0, f64::max), of, made?.as_f32()?)
}

/// The most of both figures that finite elements have, for each place of an axis or over all.
fn most(x: &Tensor, axis: Option<Axis>, of: impl Fn(f32) -> (f64, f64)) -> Vec<(f64, f64)> {
    let most = |elements: &mut dyn Iterator<Item = &f32>| {
        let figures = elements.filter(|x| x.is_finite()).map(|&x| of(x));
        figures.fold((0.0_f64, 0.0_f64), |most, of| {
            (most.0.max(of.0), most.1.max(of.1))
        })
    };
    match axis {
        Some(axis) => x
            .axis_iter(axis)
            .map(|part| most(&mut part.iter()))
            .collect(),
        None => vec![most(&mut x.iter())],
    }
}

/// Says what a sum has lost, where that is much beside the sum and in itself: many a sum is nearly 0, as the
/// mean of what was centred before, and none the worse for it.
fn cancelled(lost: f64, of: f32, made: &Tensor) -> Option<String> {
    let finite = made.iter().copied().filter(|x| x.is_finite());
    let left = f64::from(finite.fold(0.0_f32, |most, x| most.max(x.abs())));
    let much = lost > NOTHING && lost > PART * left;
    much.then(|| {
        format!("{of} is held to {lost} once it is summed, and what is left is {left} at most")
    })
}

/// a - sign b.
fn difference(a: &Held<'_>, b: &Held<'_>, sign: f32) -> Option<String> {
    if a.exact && b.exact {
        return None;
    }
    let shape = broadcast(a.tensor.shape(), b.tensor.shape());
    let x = a.tensor.broadcast(shape.clone())?;
    let y = b.tensor.broadcast(shape)?;
    let mut most = Most::default();
    for (&x, &y) in x.iter().zip(&y) {
        let left = x - sign * y;
        if !left.is_finite() || (left == 0.0 && x.abs() > MASK) {
            continue;
        }
        most.sees(
            if x.abs() > y.abs() { x } else { y },
            a.step(x) + b.step(y),
            left,
        );
    }
    most.lost()
}

/// The shape of what two tensors make, which has been made.
fn broadcast(a: &[usize], b: &[usize]) -> Vec<usize> {
    let rank = a.len().max(b.len());
    let at = |shape: &[usize], axis: usize| match (axis + shape.len()).checked_sub(rank) {
        Some(axis) => shape[axis],
        None => 1,
    };
    let length = |axis| match (at(a, axis), at(b, axis)) {
        (1, other) | (other, _) => other,
    };
    (0..rank).map(length).collect()
}

fn spread(x: &Held<'_>) -> Option<String> {
    if x.exact {
        return None;
    }
    let finite = || x.tensor.iter().copied().filter(|x| x.is_finite());
    let (least, largest) = (
        finite().fold(f32::INFINITY, f32::min),
        finite().fold(f32::NEG_INFINITY, f32::max),
    );
    if least == largest && least.abs() > MASK {
        return None;
    }
    let mut most = Most::default();
    for element in finite() {
        most.sees(element, x.step(element), element - least);
    }
    most.lost()
}

/// The largest along an axis, from which the others are counted.
fn exponent(x: &Held<'_>, axis: i64) -> Option<String> {
    let rank = x.tensor.ndim() as i64;
    let axis = usize::try_from(if axis < 0 { axis + rank } else { axis }).ok()?;
    if x.tensor.shape().get(axis).is_none_or(|&length| length < 2) {
        return None;
    }
    let lanes = x.tensor.lanes(Axis(axis));
    let mut most = lanes
        .into_iter()
        .map(|lane| lane.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    most.find(|&most| x.step(most) > ABSOLUTE && most.abs() < MASK)
        .map(|most| format!("{most}, an exponent, is held to {}", step(most)))
}

fn integer(x: &Held<'_>) -> Option<String> {
    // One in 64 of such numbers would be rounded over an integer.
    const LARGE: f32 = (1 << 17) as f32;
    let limit = if x.whole == WHOLE_GIVEN {
        x.whole
    } else {
        LARGE
    };
    let large = x.largest()?;
    (large.abs() >= limit).then(|| {
        format!(
            "{large} is held to {}, too little for the integer next to it",
            step(large)
        )
    })
}

fn rest(a: &Held<'_>, b: &Held<'_>) -> Option<String> {
    let large = a.largest()?;
    let divisors = b.tensor.iter().map(|b| b.abs()).filter(|&b| b > 0.0);
    let least = f64::from(divisors.fold(f32::INFINITY, f32::min));
    (step(large) > PART * least)
        .then(|| format!("{large} is held to {}, and divided by {least}", step(large)))
}

/// What is lost at most, and what is left.
#[derive(Default)]
struct Most {
    of: f32,
    lost: f64,
    left: f64,
}

impl Most {
    fn sees(&mut self, of: f32, lost: f64, left: f32) {
        if lost > self.lost {
            (self.of, self.lost) = (of, lost);
        }
        self.left = self.left.max(f64::from(left.abs()));
    }

    fn lost(&self) -> Option<String> {
        let Most { of, lost, left } = *self;
        let much = lost > PART * left && (left > 0.0 || lost > NOTHING);
        much.then(|| format!("{of} is held to {lost}, and what is left of it is {left} at most"))
    }
}
