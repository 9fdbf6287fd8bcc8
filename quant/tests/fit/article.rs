//! linear2 of the article's model, isolated: int16 input, weight per channel; fitted to half of the
//! calibration rows, chosen by the other half, told on eval. The figures of an independent
//! implementation in numpy are beside each bound.

use std::path::{Path, PathBuf};

use dual16_nash::dtype::IntDtype;
use dual16_quant::fit::{
    Candidate, Fitted, InputGrid, LadderOptions, Layer, Moments, held_out_sqnr, ladder, moment_sqnr,
};
use ndarray::{Array1, Array2, Axis, concatenate};
use safetensors::SafeTensors;

fn data(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/data/smallmodel")
        .join(file)
}

fn tensor(file: &str, name: &str) -> Array2<f32> {
    let bytes = std::fs::read(data(file)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor(name).unwrap();
    let floats = tensor
        .data()
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()));
    let floats: Vec<f32> = floats.collect();
    let columns = *tensor.shape().last().unwrap();
    Array2::from_shape_vec((floats.len() / columns, columns), floats).unwrap()
}

fn vector(name: &str) -> Array1<f32> {
    tensor("float.safetensors", name).row(0).to_owned()
}

/// What linear2 reads: relu(layernorm(linear1(x))).
fn inputs(file: &str) -> Array2<f32> {
    let weight = tensor("float.safetensors", "linear1.weight");
    let mut h = tensor(file, "x").dot(&weight.t()) + &vector("linear1.bias");
    for mut row in h.rows_mut() {
        let mean = row.mean().unwrap();
        let variance = row.mapv(|x| (x - mean) * (x - mean)).mean().unwrap();
        row.mapv_inplace(|x| (x - mean) / (variance + 1e-5).sqrt());
    }
    (h * &vector("layernorm.weight") + &vector("layernorm.bias")).mapv(|x| x.max(0.0))
}

struct Linear2 {
    weight: Array2<f32>,
    bias: Array1<f32>,
    fit: Moments,
    /// Of all calibration rows.
    amax: Vec<f32>,
    held_out: Array2<f32>,
    eval: Array2<f32>,
}

impl Linear2 {
    fn read() -> Self {
        let calibration: Vec<_> = (0..8)
            .map(|n| inputs(&format!("calib/{n:03}.safetensors")))
            .collect();
        let join = |parts: &[Array2<f32>]| {
            let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
            concatenate(Axis(0), &views).unwrap()
        };
        Self {
            weight: tensor("float.safetensors", "linear2.weight"),
            bias: vector("linear2.bias"),
            fit: Moments::of(join(&calibration[..4]).view()),
            amax: Moments::of(join(&calibration).view()).amax().to_vec(),
            held_out: join(&calibration[4..]),
            eval: inputs("eval.safetensors"),
        }
    }

    fn layer(&self) -> Layer<'_> {
        Layer {
            weight: self.weight.view(),
            bias: Some(self.bias.view()),
        }
    }

    fn on(&self, fitted: &Fitted, input: IntDtype, rows: &Array2<f32>) -> f64 {
        let input = InputGrid::new(input, &self.amax);
        held_out_sqnr(&self.layer(), fitted, &input, rows.view()).unwrap()
    }
}

#[test]
fn each_step_of_the_ladder_reaches_its_figure() {
    let linear2 = Linear2::read();
    let candidates = ladder(
        &linear2.layer(),
        &linear2.fit,
        &LadderOptions::new(IntDtype::Int16, IntDtype::Int8),
    );
    let db = |candidate: &Candidate| linear2.on(&candidate.fitted, IntDtype::Int16, &linear2.eval);
    for candidate in &candidates {
        let held_out = linear2.on(&candidate.fitted, IntDtype::Int16, &linear2.held_out);
        println!(
            "{:24} {:5.2} dB held out, {:5.2} on eval, {:.2} x MACs, {} bytes",
            candidate.name,
            held_out,
            db(candidate),
            candidate.mac_factor,
            candidate.weight_bytes
        );
    }
    let named = |name: &str| {
        candidates
            .iter()
            .find(|candidate| candidate.name == name)
            .unwrap()
    };
    let plain = db(named(""));
    // 13.9 where the border between two integers falls on the other side for the largest weights.
    assert!((plain - 13.5).abs() < 0.5, "{plain}");
    for (name, least) in [
        ("bc", 28.5),              // 28.9
        ("gptq", 32.0),            // 32.7; 29.8 to the second moment, without a correction
        ("eq0.4+bc", 39.0),        // 37.8 without headroom
        ("eq0.4+gptq", 45.0),      // 40.2 without headroom
        ("lowrank=4", 32.0),       // 32.4
        ("lowrank=8", 35.5),       // 36.0
        ("lowrank=16", 47.0),      // 47.8
        ("gptq+lowrank=16", 49.0), // 49.2
        ("eq0.4+gptq+lowrank=4", 48.0),
    ] {
        let got = db(named(name));
        assert!(got >= least, "{name}: {got}");
    }
    assert!(named("lowrank=16").mac_factor <= 1.35);
    assert_eq!(named("gptq").mac_factor, 1.0);
    assert_eq!(named("gptq").weight_bytes, 256 * 60 + 4 * 60);
}

/// What an acceptance by the other half of the rows takes, at most at these costs, holds on eval.
#[test]
fn what_is_best_on_rows_that_were_held_out_is_good_on_others() {
    let linear2 = Linear2::read();
    let candidates = ladder(
        &linear2.layer(),
        &linear2.fit,
        &LadderOptions::new(IntDtype::Int16, IntDtype::Int8),
    );
    let plain = linear2.on(&candidates[0].fitted, IntDtype::Int16, &linear2.eval);
    for (most, least) in [(1.0, 45.0), (1.1, 48.0), (1.35, 54.0)] {
        let affordable = candidates
            .iter()
            .filter(|candidate| candidate.mac_factor <= most);
        let held_out = |candidate: &&Candidate| {
            linear2.on(&candidate.fitted, IntDtype::Int16, &linear2.held_out)
        };
        let best = affordable
            .max_by(|a, b| held_out(a).total_cmp(&held_out(b)))
            .unwrap();
        let got = linear2.on(&best.fitted, IntDtype::Int16, &linear2.eval);
        println!("at most {most} x: {} {got:.2} dB", best.name);
        assert!(got >= least && got > plain, "{}: {got}", best.name);
    }
}

/// int8 inputs, int16 weight: 26.4 dB plain, 27.4, 28.5, 29.4 where the input is clipped.
#[test]
fn a_clipped_int8_input_beats_a_whole_one_under_an_int16_weight() {
    let linear2 = Linear2::read();
    let candidates = ladder(
        &linear2.layer(),
        &linear2.fit,
        &LadderOptions::new(IntDtype::Int8, IntDtype::Int16),
    );
    let named = |name: &str| {
        let candidate = candidates
            .iter()
            .find(|candidate| candidate.name == name)
            .unwrap();
        linear2.on(&candidate.fitted, IntDtype::Int8, &linear2.eval)
    };
    let whole = named("");
    println!(
        "{whole:.2} {:.2} {:.2} {:.2}",
        named("clip0.9+bc"),
        named("clip0.8+bc"),
        named("clip0.7+bc")
    );
    assert!((whole - 26.4).abs() < 0.3, "{whole}");
    assert!(named("clip0.9+bc") > whole + 0.5 && named("clip0.7+bc") > whole + 2.0);
}

#[test]
fn moments_tell_what_the_rows_tell_of_an_int8_weight() {
    let linear2 = Linear2::read();
    let eval = Moments::of(linear2.eval.view());
    for candidate in ladder(
        &linear2.layer(),
        &linear2.fit,
        &LadderOptions::new(IntDtype::Int16, IntDtype::Int8),
    ) {
        let by_rows = linear2.on(&candidate.fitted, IntDtype::Int16, &linear2.eval);
        let by_moments = moment_sqnr(&linear2.layer(), &candidate.fitted, &eval).unwrap();
        // Beyond that the rounding of the input is a part of the error.
        assert!(
            by_rows > 45.0 || (by_rows - by_moments).abs() < 0.1,
            "{}: {by_rows} {by_moments}",
            candidate.name
        );
    }
}
