//! Writes the seeds of the fuzz targets: small valid inputs of every kind, from which mutation
//! starts. `cargo run -p dual16-tests --example fuzz_seeds` renews `fuzz/corpus/TARGET/seed-*`; what
//! a fuzzer has found lies beside them and is left alone.

#![allow(clippy::unwrap_used, reason = "a tool that fails says where")]

mod batches;
mod messages;
mod models;

use std::fs;

use dual16_tests::data::repository;

/// A name and the bytes.
type Seed = (&'static str, Vec<u8>);

fn main() {
    let targets = [
        ("onnx", models::seeds()),
        ("safetensors", batches::safetensors()),
        ("npz", batches::npz()),
        ("request", messages::requests()),
        ("spec", messages::specs()),
        ("config", messages::configs()),
    ];
    for (target, seeds) in targets {
        let folder = repository().join("fuzz/corpus").join(target);
        fs::create_dir_all(&folder).unwrap();
        for (name, bytes) in seeds {
            fs::write(folder.join(format!("seed-{name}")), bytes).unwrap();
        }
    }
}
