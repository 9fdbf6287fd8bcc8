//! Multipliers and shifts of ratios, and accumulators requantized to int16.

use dual16_nash::Rescale;

use crate::data::Golden;

#[test]
fn multipliers_and_shifts() {
    let golden = Golden::open("requant");
    let ratios = golden.tensor::<f64>("r");
    let (m, k) = (golden.tensor::<i32>("m"), golden.tensor::<i32>("k"));
    assert_eq!(ratios.len(), m.len());
    for ((&ratio, &m), &k) in ratios.iter().zip(&m).zip(&k) {
        let rescale = Rescale::new(ratio).unwrap();
        assert_eq!((rescale.multiplier(), rescale.shift()), (m, k), "{ratio}");
    }
}

/// Rows of `out16` belong to every ninth ratio of `r`. The file's `r_used` should list them, but it
/// was written from a strided view and holds the first 46 ratios instead; only its length is right.
#[test]
fn accumulators() {
    let golden = Golden::open("requant");
    let acc = golden.tensor::<i64>("acc");
    let ratios: Vec<f64> = golden.tensor("r").into_iter().step_by(9).collect();
    assert_eq!(ratios.len(), golden.tensor::<f64>("r_used").len());
    let expected = golden.tensor::<i16>("out16");
    assert_eq!(expected.len(), ratios.len() * acc.len());
    for (&ratio, expected) in ratios.iter().zip(expected.chunks(acc.len())) {
        let rescale = Rescale::new(ratio).unwrap();
        let out: Vec<i16> = acc.iter().map(|&acc| rescale.requant(acc)).collect();
        assert!(out == expected, "{ratio}");
    }
}

/// The one multiplier that public material prints.
#[test]
fn the_printed_row() {
    let rescale = Rescale::new(0.492_987).unwrap();
    assert_eq!((rescale.multiplier(), rescale.shift()), (32308, 16));
}
