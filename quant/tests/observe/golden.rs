//! The observers against vectors from an independent numpy implementation.
//!
//! Ranges and indices match to the bit, which fixes the precision of the reference: the factor
//! 1 - 0.01 i, the shrunken range, c and every step of the moving average are rounded to f32. Losses
//! are L2 norms whose squares were added in f64 in another order.

use std::path::Path;

use dual16_nash::dtype::IntDtype;
use dual16_quant::observe::{MergeMode, ObserverKind, Range, Sketch, Statistics, Wants};
use safetensors::SafeTensors;

const BATCHES: usize = 6;
const DTYPES: [(&str, IntDtype); 2] = [("mse8", IntDtype::Int8), ("mse16", IntDtype::Int16)];

fn numbers<const N: usize, T>(
    file: &SafeTensors<'_>,
    name: &str,
    from: fn([u8; N]) -> T,
) -> Vec<T> {
    let tensor = file.tensor(name).unwrap();
    let (words, rest) = tensor.data().as_chunks::<N>();
    assert!(rest.is_empty());
    words.iter().map(|word| from(*word)).collect()
}

struct Golden {
    bytes: Vec<u8>,
}

impl Golden {
    fn load() -> Self {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/golden/observer.safetensors");
        Self {
            bytes: std::fs::read(path).unwrap(),
        }
    }

    fn file(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).unwrap()
    }

    fn sketches(&self) -> Vec<Sketch> {
        let sketch = |batch| {
            let x = numbers(&self.file(), &format!("batch{batch}"), f32::from_le_bytes);
            Sketch::of(&x, &[x.len()], Wants::ALL)
        };
        (0..BATCHES).map(sketch).collect()
    }

    fn range(&self, name: &str) -> Range {
        let ends = numbers(&self.file(), name, f32::from_le_bytes);
        Range::new(ends[0], ends[1]).unwrap()
    }
}

#[test]
fn minmax_matches_to_the_bit() {
    let golden = Golden::load();
    let statistics = Statistics::fold(golden.sketches(), MergeMode::Ema);
    for merge in [MergeMode::Exact, MergeMode::Ema] {
        let choice = statistics
            .range(ObserverKind::MinMax, IntDtype::Int16, merge)
            .unwrap();
        assert_eq!(choice.range, golden.range(&format!("minmax.{merge}")));
        assert_eq!(choice.fell_back, None);
    }
}

#[test]
fn mse_index_and_loss_match_batch_by_batch() {
    let golden = Golden::load();
    let sketches = golden.sketches();
    for (name, dtype) in DTYPES {
        let indices = numbers(&golden.file(), &format!("{name}.index"), i64::from_le_bytes);
        let losses = numbers(&golden.file(), &format!("{name}.loss"), f64::from_le_bytes);
        for (batch, sketch) in sketches.iter().enumerate() {
            let choice = sketch.mse(dtype).unwrap();
            assert_eq!(
                i64::from(choice.index),
                indices[batch],
                "{name}, batch {batch}"
            );
            let loss = choice.loss.unwrap();
            let error = (loss / losses[batch] - 1.0).abs();
            assert!(
                error < 1e-13,
                "{name}, batch {batch}: {loss} is not {}",
                losses[batch]
            );
        }
    }
}

#[test]
fn mse_ema_matches_to_the_bit() {
    let golden = Golden::load();
    let statistics = Statistics::fold(golden.sketches(), MergeMode::Ema);
    for (name, dtype) in DTYPES {
        let choice = statistics
            .range(ObserverKind::Mse, dtype, MergeMode::Ema)
            .unwrap();
        assert_eq!(choice.range, golden.range(&format!("{name}.ema")));
    }
}
