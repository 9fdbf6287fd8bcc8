//! Rows that are masked whole are what they are in float: even weights where the mask drowns the
//! scores, the scores' own where it does not, and 0 behind a guard against NaN.

use super::attention::{SHAPE, Seen, attend, mask, quantize, scores, seen, sqnr, weigh};
use crate::{
    made::Made,
    support::{Finished, settings},
};

/// Causal, but the first two queries see nothing at all.
fn some_see_nothing() -> Seen {
    std::array::from_fn(|query| std::array::from_fn(|key| query > 1 && key <= query))
}

fn start() -> Made {
    scores("x", Made::new(&SHAPE))
}

fn added(masked: f32) -> Made {
    mask(start(), &some_see_nothing(), masked).node("Add", &["s", "m"], &["ms"])
}

fn chosen(masked: f32) -> Made {
    seen(start(), &some_see_nothing())
        .scalar("masked", masked)
        .node("Where", &["seen", "s", "masked"], &["ms"])
}

fn run(made: Made) -> Finished {
    quantize(made, settings(&[]), &|_| Vec::new())
}

fn is_good(name: &str, made: Made) {
    let finished = run(made);
    let figures = sqnr(&finished);
    println!("{name}: {figures:.1?}");
    assert!(
        figures.iter().all(|&figure| figure > 28.0),
        "{name}: {figures:?}"
    );
    assert_eq!(finished.result()["outputs"][0]["converted"]["left_out"], 0);
}

#[test]
fn finite_masks() {
    for masked in [f32::MIN, -1e9, -1e4] {
        is_good(&format!("added {masked}"), attend(added(masked)));
        is_good(&format!("chosen {masked}"), attend(chosen(masked)));
    }
}

#[test]
fn infinite_ones_behind_a_guard() {
    for (name, made) in [
        ("added", added(f32::NEG_INFINITY)),
        ("chosen", chosen(f32::NEG_INFINITY)),
    ] {
        let guarded = made
            .node("Softmax", &["ms"], &["p"])
            .scalar("nothing", 0.0)
            .node("IsNaN", &["p"], &["broken"])
            .node("Where", &["broken", "nothing", "p"], &["safe"]);
        is_good(name, weigh(guarded, "safe"));
    }
}

/// As PyTorch's `_safe_softmax` has it: whether all of a row is -inf is asked of the scores.
#[test]
fn infinite_ones_that_are_asked_for() {
    let made = added(f32::NEG_INFINITY)
        .scalar("infinite", f32::NEG_INFINITY)
        .scalar("nothing", 0.0)
        .indices("last", &[-1])
        .node("Softmax", &["ms"], &["p"])
        .node("Equal", &["ms", "infinite"], &["equal"])
        .node("Cast", &["equal"], &["number"])
        .int("to", 6)
        .node("ReduceMin", &["number", "last"], &["all"])
        .node("Cast", &["all"], &["whole"])
        .int("to", 9)
        .node("Where", &["whole", "nothing", "p"], &["safe"]);
    is_good("asked for", weigh(made, "safe"));
}

/// Without a guard those rows are NaN in float: there is nothing to compare, and all else is as good.
#[test]
fn infinite_ones_without_a_guard() {
    let finished = run(attend(added(f32::NEG_INFINITY)));
    let converted = &finished.result()["outputs"][0]["converted"];
    let rows = 3 * SHAPE[0] * 2;
    assert_eq!(converted["left_out"], rows * SHAPE[2], "{converted:#}");
    let figures = sqnr(&finished);
    assert!(figures.iter().all(|&figure| figure > 28.0), "{figures:?}");
}
