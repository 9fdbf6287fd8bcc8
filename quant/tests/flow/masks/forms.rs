//! Every form of one mask gives the same error, as good as that of the model without what is masked.

use dual16_quant::{
    onnx::DataType,
    settings::{Settings, Template},
};

use super::attention::{
    Extra, Extras, SHAPE, Seen, attend, calibrated_on, float_value, input, mask, quantize, scores,
    seen, sqnr, to_float, weigh,
};
use crate::{
    made::Made,
    support::{Finished, settings},
};

const LEAST: f32 = f32::MIN;
const INFINITE: f32 = f32::NEG_INFINITY;

/// Keys that are not masked, the first of them.
const KEPT: usize = 4;

fn padded() -> Seen {
    [std::array::from_fn(|key| key < KEPT); SHAPE[1]]
}

/// The mask as an input: 1 where a key is seen, one row for all queries of a sequence.
fn ones() -> Vec<bool> {
    let row = (0..SHAPE[1]).map(|key| key < KEPT);
    row.clone().chain(row).collect()
}

fn floats(masked: f32, kept: f32) -> Extra {
    let of = |seen: bool| if seen { kept } else { masked };
    Extra::F32(
        vec![SHAPE[0], 1, SHAPE[1]],
        ones().into_iter().map(of).collect(),
    )
}

fn integers() -> Extra {
    Extra::I64(
        vec![SHAPE[0], 1, SHAPE[1]],
        ones().into_iter().map(i64::from).collect(),
    )
}

fn start() -> Made {
    scores("x", Made::new(&SHAPE))
}

fn with_input(data_type: DataType) -> Made {
    input(start(), "given", data_type, &[SHAPE[0], 1, SHAPE[1]])
}

/// The model without what is masked: keys and values of the positions that are kept.
fn without() -> Made {
    let made = Made::new(&SHAPE)
        .indices("zero", &[0])
        .indices("kept", &[KEPT as i64])
        .indices("one", &[1])
        .node("Slice", &["x", "zero", "kept", "one"], &["xk"]);
    attend(scores("xk", made).node("Identity", &["s"], &["ms"]))
}

fn added(masked: f32) -> Made {
    attend(mask(start(), &padded(), masked).node("Add", &["s", "m"], &["ms"]))
}

fn chosen(masked: f32) -> Made {
    let made = seen(start(), &padded()).scalar("masked", masked);
    attend(made.node("Where", &["seen", "s", "masked"], &["ms"]))
}

/// What PyTorch's attention is exported as: a mask is chosen, then added.
fn chosen_and_added(masked: f32) -> Made {
    let made = seen(start(), &padded())
        .scalar("masked", masked)
        .scalar("nothing", 0.0)
        .node("Where", &["seen", "nothing", "masked"], &["m"])
        .node("Add", &["s", "m"], &["ms"]);
    attend(made)
}

fn given(_: f32) -> Made {
    attend(with_input(DataType::Float).node("Add", &["s", "given"], &["ms"]))
}

/// `(1 - mask) * least`, as the models of Hugging Face have it.
fn complement(made: Made, mask: &str, masked: f32) -> Made {
    let made = made
        .scalar("unit", 1.0)
        .scalar("masked", masked)
        .node("Sub", &["unit", mask], &["complement"])
        .node("Mul", &["complement", "masked"], &["m"]);
    attend(made.node("Add", &["s", "m"], &["ms"]))
}

fn computed(masked: f32) -> Made {
    complement(with_input(DataType::Float), "given", masked)
}

fn computed_from_integers(masked: f32) -> Made {
    let made = to_float(with_input(DataType::Int64), "given", "mask");
    complement(made, "mask", masked)
}

/// `s * mask - 1e4 * (1 - mask)`, as GPT-2 and XLNet had it.
fn subtracted(masked: f32) -> Made {
    let made = with_input(DataType::Float)
        .scalar("unit", 1.0)
        .scalar("masked", -masked)
        .node("Mul", &["s", "given"], &["kept"])
        .node("Sub", &["unit", "given"], &["complement"])
        .node("Mul", &["complement", "masked"], &["m"]);
    attend(made.node("Sub", &["kept", "m"], &["ms"]))
}

/// Masked first, scaled afterwards.
fn scaled_after(masked: f32) -> Made {
    let made = mask(start(), &padded(), masked)
        .scalar("half", 0.5)
        .scalar("two", 2.0)
        .node("Mul", &["s", "two"], &["s2"])
        .node("Add", &["s2", "m"], &["masked2"]);
    attend(made.node("Mul", &["masked2", "half"], &["ms"]))
}

/// Masked first, then divided by the root of a length that only a run knows.
fn divided_after(masked: f32) -> Made {
    let made = mask(start(), &padded(), masked)
        .indices("width", &[2])
        .node("Add", &["s", "m"], &["sum"])
        .node("Shape", &["q"], &["lengths"])
        .node("Gather", &["lengths", "width"], &["length"]);
    let made = to_float(made, "length", "number")
        .node("Sqrt", &["number"], &["root"])
        .node("Div", &["sum", "root"], &["half"])
        .scalar("four", 4.0)
        .node("Mul", &["half", "four"], &["ms"]);
    attend(made)
}

/// Kept above the least number afterwards, as OPT has it.
fn bounded(masked: f32) -> Made {
    let made = mask(start(), &padded(), masked)
        .scalar("least", LEAST)
        .node("Add", &["s", "m"], &["sum"]);
    attend(made.node("Max", &["sum", "least"], &["ms"]))
}

/// The mask in two, both of which mask the last key.
fn twice(masked: f32) -> Made {
    let mut one = [[true; SHAPE[1]]; SHAPE[1]];
    one.iter_mut().for_each(|row| row[SHAPE[1] - 1] = false);
    let made = mask(start(), &padded(), masked);
    let values: Vec<f32> = one
        .iter()
        .flatten()
        .map(|&seen| if seen { 0.0 } else { masked })
        .collect();
    let made = made
        .constant("m2", &[SHAPE[1]; 2], &values)
        .node("Add", &["s", "m"], &["first"]);
    attend(made.node("Add", &["first", "m2"], &["ms"]))
}

/// A Softmax in the steps that it is made of.
fn in_steps(masked: f32) -> Made {
    let made = mask(start(), &padded(), masked)
        .indices("last", &[-1])
        .node("Add", &["s", "m"], &["ms"])
        .node("ReduceMax", &["ms", "last"], &["top"])
        .node("Sub", &["ms", "top"], &["shifted"])
        .node("Exp", &["shifted"], &["e"])
        .node("ReduceSum", &["e", "last"], &["total"])
        .node("Reciprocal", &["total"], &["inverse"])
        .node("Mul", &["e", "inverse"], &["p"]);
    weigh(made, "p")
}

/// A mask without a constant: made by ConstantOfShape and moved into place.
fn filled(masked: f32) -> Made {
    let made = start()
        .indices("rows", &[1, (SHAPE[1] - KEPT) as i64])
        .indices("other", &[1, KEPT as i64])
        .node("ConstantOfShape", &["rows"], &["full"]);
    let made = float_value(made, masked).node("ConstantOfShape", &["other"], &["none"]);
    let made = float_value(made, 0.0)
        .node("Concat", &["none", "full"], &["m"])
        .int("axis", 1)
        .node("Add", &["s", "m"], &["ms"]);
    attend(made)
}

type Form = fn(f32) -> Made;

/// What a model is given beside x, by the number that masks.
type Given = fn(f32) -> Extra;

/// Name, form, what it masks with, the input that it has.
fn forms() -> Vec<(String, Made, Option<Given>, f32)> {
    let none: [(&str, Form); 9] = [
        ("added", added),
        ("chosen", chosen),
        ("chosen and added", chosen_and_added),
        ("scaled after", scaled_after),
        ("divided after", divided_after),
        ("bounded", bounded),
        ("twice", twice),
        ("in steps", in_steps),
        ("filled", filled),
    ];
    let all = [INFINITE, LEAST, -1e9, -1e4];
    let mut forms = Vec::new();
    for masked in all {
        for (name, form) in none {
            forms.push((format!("{name} {masked}"), form(masked), None, masked));
        }
        let input: Given = |masked| floats(masked, 0.0);
        forms.push((
            format!("given {masked}"),
            given(masked),
            Some(input),
            masked,
        ));
    }
    // 0 times infinity is no mask.
    for masked in all.into_iter().skip(1) {
        let input: Given = |_| floats(0.0, 1.0);
        for (name, form) in [("computed", computed as Form), ("subtracted", subtracted)] {
            forms.push((
                format!("{name} {masked}"),
                form(masked),
                Some(input),
                masked,
            ));
        }
        let name = format!("computed from integers {masked}");
        let input: Given = |_| integers();
        forms.push((name, computed_from_integers(masked), Some(input), masked));
    }
    forms
}

fn run(made: Made, settings: &Settings, input: Option<Given>, masked: f32) -> Finished {
    let extras: Extras<'_> = &|_| {
        let given = input.map(|input| ("given", input(masked)));
        given.into_iter().collect()
    };
    quantize(made, settings.clone(), extras)
}

fn is_told(name: &str, finished: &Finished) {
    let result = finished.result();
    let notices = result["notices"].as_array().unwrap();
    let mask = notices.iter().find(|notice| notice["code"] == "MASK");
    let mask = mask.unwrap_or_else(|| panic!("{name}: no mask in {notices:#?}"));
    let text = mask["message"].as_str().unwrap();
    let subject = mask["subject"].as_str().unwrap();
    let scores = [text, subject].iter().any(|text| text.contains("ms"));
    assert!(scores && text.contains("saturate at"), "{name}: {mask}");
    let warned: Vec<_> = notices
        .iter()
        .filter(|notice| ["SATURATED", "NON_FINITE"].contains(&notice["code"].as_str().unwrap()))
        .collect();
    assert!(warned.is_empty(), "{name}: {warned:#?}");
}

/// All forms within 1 dB of each other, and no more than 3 dB below the model without.
fn all_are_alike(settings: &Settings) {
    let without = sqnr(&run(without(), settings, None, 0.0));
    println!("without: {without:.1?}");
    let mut all = Vec::new();
    let steps_are_as_good = settings.template == Template::A16W8;
    for (name, made, input, masked) in forms() {
        // The steps of a Softmax are int16 only where they are known to be one.
        if name.starts_with("in steps") && !steps_are_as_good {
            continue;
        }
        let finished = run(made, settings, input, masked);
        is_told(&name, &finished);
        let figures = sqnr(&finished);
        println!("{name}: {figures:.1?}");
        all.push((name, figures));
    }
    for (name, figures) in &all {
        for (figure, without) in figures.iter().zip(without) {
            assert!(*figure >= without - 3.0, "{name}: {figures:?}");
        }
        for (_, others) in &all {
            for (figure, other) in figures.iter().zip(others) {
                assert!(
                    (figure - other).abs() <= 1.0,
                    "{name}: {figures:?}, {others:?}"
                );
            }
        }
    }
}

#[test]
fn with_int16_activations_all_forms_are_alike() {
    all_are_alike(&settings(&[]));
}

#[test]
fn with_int8_activations_all_forms_are_alike() {
    all_are_alike(&Settings {
        template: Template::A8W8,
        ..settings(&[])
    });
}

#[test]
fn a_mask_that_calibration_never_used_works_where_it_is_used() {
    let made = with_input(DataType::Float);
    let made = complement(made, "given", LEAST);
    let extras: Extras<'_> = &|batch| {
        let masked = if batch == 2 { 0.0 } else { 1.0 };
        vec![("given", floats(masked, 1.0))]
    };
    let figures = sqnr(&calibrated_on(2, made, settings(&[]), extras));
    let without = sqnr(&calibrated_on(2, without(), settings(&[]), &|_| Vec::new()));
    println!("{figures:.1?}, without: {without:.1?}");
    for (figure, without) in figures.iter().zip(without) {
        assert!(*figure >= without - 3.0, "{figures:?}, {without:?}");
    }
}
