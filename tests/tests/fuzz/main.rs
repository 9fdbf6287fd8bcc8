//! The entry points of `fuzz/` under inputs that need no fuzzer to make: the corpus, and damage to
//! it. An input that broke something stays in `fuzz/corpus`, so it is read here from then on.
//!
//! `PROPTEST_CASES=20000 cargo test -p dual16-tests --test fuzz` looks further.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes the helpers of tests for no tests"
)]

mod bombs;
mod corpus;
mod damage;
mod measure;

use proptest::prelude::*;

use self::{
    corpus::corpus,
    damage::{Damage, damages},
    measure::check,
};

#[test]
fn the_corpus_of_every_entry_point_is_read_within_its_memory() {
    for target in dual16_tests::fuzz_entry::TARGETS {
        let corpus = corpus(target.name);
        assert!(corpus.len() > 1, "{} has no seeds", target.name);
        for (name, bytes) in corpus {
            check(&target, &name, &bytes);
        }
    }
}

/// Damages a random seed of an entry point in random ways.
macro_rules! damaged {
    ($($test:ident: $target:literal),+ $(,)?) => {$(
        proptest! {
            #[test]
            fn $test(seed in any::<prop::sample::Index>(), damages in damages()) {
                let target = dual16_tests::fuzz_entry::target($target);
                let corpus = corpus($target);
                let (name, bytes) = seed.get(&corpus);
                let mut bytes = bytes.clone();
                for damage in &damages {
                    Damage::apply(damage, &mut bytes, &corpus);
                }
                check(&target, name, &bytes);
            }
        }
    )+};
}

damaged! {
    a_damaged_model: "onnx",
    a_damaged_safetensors_file: "safetensors",
    a_damaged_npz_file: "npz",
    a_damaged_request: "request",
    a_damaged_spec: "spec",
    a_damaged_configuration: "config",
}
