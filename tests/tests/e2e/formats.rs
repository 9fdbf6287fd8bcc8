//! docs/formats.md is true: its example makes every way's figures from the files that it describes.

use std::fs;

use dual16_tests::{
    Dual16, Results,
    data::repository,
    python, schema,
    tensors::{self, Tensor},
};

const WAYS: [&str; 8] = [
    "a8w8",
    "a16w8",
    "a8w16",
    "mul_sum",
    "split",
    "a16w16",
    "a16w8+gptq",
    "a16w8+lowrank=4",
];
const OUTPUTS: usize = 24;
const INPUTS: usize = 64;
const ROWS: usize = 32;

#[test]
fn the_example_of_the_formats_recomputes_a_layer_of_each_way() {
    let folder = tempfile::tempdir().unwrap();
    let weights = folder.path().join("weights.safetensors");
    let activations = folder.path().join("activations");
    fs::create_dir(&activations).unwrap();
    let named = [
        ("fc.weight", noise(1, &[OUTPUTS, INPUTS])),
        ("fc.bias", noise(2, &[OUTPUTS])),
    ];
    let named = named.map(|(name, tensor)| (name.to_owned(), tensor));
    tensors::write(&weights, &named.into());
    for batch in 0..2 {
        let input = [("fc".to_owned(), noise(3 + batch, &[ROWS, INPUTS]))];
        let path = activations.join(format!("{batch}.safetensors"));
        tensors::write(&path, &input.into());
    }
    let results = WAYS.map(|way| {
        let out = Results::new();
        Dual16::new(["quantize", "--weights"])
            .arg(&weights)
            .arg("--activations")
            .arg(&activations)
            // The only toolchain on which all of them are legal; no search changes the way.
            .args(["--toolchain", "oe-3.2", "--min-output-sqnr", "0"])
            .args(["--linear", &format!("fc={way}")])
            .out(&out.path())
            .run()
            .success();
        let result = out.result();
        assert_eq!(result["layers"][0]["effective"], way);
        out.plan();
        out
    });
    let formats = repository().join("docs/formats.md");
    let mut arguments = vec![formats, weights, activations];
    arguments.extend(results.iter().map(Results::path));
    let arguments: Vec<&str> = arguments
        .iter()
        .map(|path| path.to_str().unwrap())
        .collect();
    python::run("recompute_layers.py", &arguments).success();
}

#[test]
#[should_panic(expected = "surprise")]
fn a_key_that_no_schema_names_fails() {
    let out = Results::new();
    fs::create_dir(out.path()).unwrap();
    let weights = out.path().join("w.safetensors");
    let inputs = out.path().join("inputs");
    fs::create_dir(&inputs).unwrap();
    tensors::write(
        &weights,
        &[("fc.weight".to_owned(), noise(1, &[4, 8]))].into(),
    );
    let input = [("fc".to_owned(), noise(2, &[4, 8]))];
    tensors::write(&inputs.join("0.safetensors"), &input.into());
    Dual16::new(["plan", "--weights"])
        .arg(&weights)
        .arg("--activations")
        .arg(&inputs)
        .out(&out.path())
        .run()
        .success();
    let mut plan = out.plan();
    plan["surprise"] = 1.into();
    schema::check(&plan);
}

/// Numbers in [-1, 1) that look like noise.
fn noise(seed: usize, shape: &[usize]) -> Tensor {
    let count = shape.iter().product();
    let number = |i: usize| {
        let mixed = (i + 1000 * seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((mixed >> 40) as f32) / (1u64 << 23) as f32 - 1.0
    };
    Tensor {
        shape: shape.to_vec(),
        data: (0..count).map(number).collect(),
    }
}
