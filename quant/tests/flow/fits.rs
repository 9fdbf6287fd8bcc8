//! Integers fitted to a layer's inputs, through a whole job: asked for by name, accepted on rows that were
//! held out, run in both runs, written as they ran.

use dual16_quant::{
    flow::Event,
    settings::{SettingValue, Settings, Template},
};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::support::{Finished, job, run, run_in_order, settings};

fn asked(way: &str) -> Settings {
    settings(&[("linear2", SettingValue::Way(way.parse().unwrap()))])
}

fn linear2(finished: &Finished) -> Value {
    let layers = &finished.result()["layers"];
    let layers = layers.as_array().unwrap().iter();
    let mut layers = layers.filter(|layer| layer["name"] == "linear2");
    layers.next().unwrap().clone()
}

fn db(value: &Value) -> f64 {
    value["sqnr_db"].as_f64().unwrap()
}

/// What was asked for, SQNR in dB that it is to have alone, times the multiply-accumulates that it may take.
const ASKED: [(&str, f64, f64); 5] = [
    ("a16w8+bc", 28.0, 1.0),
    ("a16w8+gptq", 31.0, 1.0),
    ("a16w8+eq+gptq", 38.0, 1.0),
    ("a16w8+gptq+lowrank=16", 46.0, 1.35),
    ("a16w8+eq+gptq+lowrank=4", 46.0, 1.1),
];

#[test]
fn a_fit_that_was_asked_for_runs_in_the_whole_job() {
    for (way, least, most_macs) in ASKED {
        let finished = run(&job("smallmodel", asked(way))).unwrap();
        let layer = linear2(&finished);
        assert_eq!(layer["effective"], way, "{layer:#}");
        assert_eq!(
            (&layer["requested"], &layer["reason"]),
            (&layer["effective"], &Value::from(""))
        );
        let (fit, plain) = (&layer["fits"][way], &layer["isolated"]["a16w8"]);
        let macs = fit["macs"].as_f64().unwrap() / plain["macs"].as_f64().unwrap();
        let [validation, converted] =
            ["validation", "converted"].map(|run| db(&layer["accumulated"][run]));
        println!(
            "{way}: {:.2} dB alone, {validation:.2} and {converted:.2} in the whole model, {macs:.2} x",
            db(fit)
        );
        assert!(db(fit) >= least && macs <= most_macs, "{way}: {fit:#}");
        assert!(
            (validation - converted).abs() < 1.0,
            "{way}: {validation} {converted}"
        );
        assert!(validation > db(plain) + 10.0, "{way}: {validation}");
        let gain = fit["held_out_gain_db"].as_f64().unwrap();
        assert!(gain > 10.0, "{way}: {gain}");
        let plan: Value = serde_json::from_slice(&finished.files["plan.json"]).unwrap();
        let planned = &plan["layers"][1];
        assert_eq!(
            (&planned["effective"], &planned["fit"]),
            (&way.into(), &fit["fit"])
        );
        let told = finished.events.iter().any(|event| match event {
            Event::Layer(layer) => layer.effective_name() == way,
            _ => false,
        });
        assert!(told, "{way}");
    }
}

/// A tensor of a safetensors file as floats, row-major, and its last dimension.
fn floats(bytes: &[u8], name: &str) -> (Vec<f64>, usize) {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let tensor = file.tensor(name).unwrap_or_else(|_| panic!("no {name}"));
    let of =
        |size: usize, read: fn(&[u8]) -> f64| tensor.data().chunks_exact(size).map(read).collect();
    let values = match tensor.dtype() {
        safetensors::Dtype::I8 => of(1, |b| f64::from(b[0] as i8)),
        safetensors::Dtype::I16 => of(2, |b| f64::from(i16::from_le_bytes(b.try_into().unwrap()))),
        safetensors::Dtype::I32 => of(4, |b| f64::from(i32::from_le_bytes(b.try_into().unwrap()))),
        _ => of(4, |b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))),
    };
    (values, *tensor.shape().last().unwrap())
}

/// `x [n, k] · w [o, k]ᵀ`.
fn product(x: &[f64], (w, k): &(Vec<f64>, usize)) -> Vec<f64> {
    let dot = |row: &[f64], channel: &[f64]| row.iter().zip(channel).map(|(x, w)| x * w).sum();
    let rows = x.chunks_exact(*k);
    rows.flat_map(|row| w.chunks_exact(*k).map(move |channel| dot(row, channel)))
        .collect()
}

/// What linear2 reads on the eval file.
fn input() -> Vec<f64> {
    input_of("eval.safetensors")
}

/// What linear2 reads on a file: relu(layernorm(linear1(x))).
fn input_of(file: &str) -> Vec<f64> {
    let read = |name: &str| std::fs::read(crate::support::data("smallmodel").join(name)).unwrap();
    let float = read("float.safetensors");
    let parameter = |name: &str| floats(&float, name).0;
    let mut h = product(
        &floats(&read(file), "x").0,
        &floats(&float, "linear1.weight"),
    );
    let (weight, bias) = (parameter("layernorm.weight"), parameter("layernorm.bias"));
    let width = weight.len();
    for row in h.chunks_exact_mut(width) {
        row.iter_mut()
            .zip(parameter("linear1.bias"))
            .for_each(|(h, b)| *h += b);
        let mean = row.iter().sum::<f64>() / width as f64;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
        for ((x, w), b) in row.iter_mut().zip(&weight).zip(&bias) {
            *x = ((*x - mean) / (variance + 1e-5).sqrt() * w + b).max(0.0);
        }
    }
    h
}

/// `w · scale`, a scale for each row.
fn scaled((w, k): (Vec<f64>, usize), scales: &[f64]) -> (Vec<f64>, usize) {
    let rows = w.chunks_exact(k).zip(scales);
    let w = rows
        .flat_map(|(row, s)| row.iter().map(move |w| w * s))
        .collect();
    (w, k)
}

#[test]
fn the_written_integers_give_the_figures_that_are_told() {
    let float =
        std::fs::read(crate::support::data("smallmodel").join("float.safetensors")).unwrap();
    let x = input();
    let original = floats(&float, "linear2.weight");
    let bias = floats(&float, "linear2.bias").0;
    let with_bias = |mut y: Vec<f64>, bias: &[f64]| {
        let rows = y.chunks_exact_mut(bias.len());
        rows.for_each(|row| row.iter_mut().zip(bias).for_each(|(y, b)| *y += b));
        y
    };
    let reference = with_bias(product(&x, &original), &bias);
    for (way, ..) in ASKED {
        let finished = run(&job("smallmodel", asked(way))).unwrap();
        let file = &finished.files["converted.safetensors"];
        let read = |name: &str| floats(file, &format!("linear2.{name}"));
        let step = read("input_scale").0[0];
        if way.contains("eq") {
            // Its input is what the plan's other constants make of it.
            continue;
        }
        let x: Vec<f64> = x.iter().map(|x| (x / step).round() * step).collect();
        let scales = read("weight_scale").0;
        let bias: Vec<f64> = read("bias")
            .0
            .iter()
            .zip(&scales)
            .map(|(q, s)| q * s * step)
            .collect();
        let mut y = with_bias(product(&x, &scaled(read("weight"), &scales)), &bias);
        if way.contains("lowrank") {
            let factor = |name: &str| scaled(read(name), &read(&format!("{name}_scale")).0);
            let branch = product(&product(&x, &factor("lowrank_down")), &factor("lowrank_up"));
            y.iter_mut().zip(branch).for_each(|(y, b)| *y += b);
        }
        let signal: f64 = reference.iter().map(|y| y * y).sum();
        let noise: f64 = y.iter().zip(&reference).map(|(y, r)| (y - r).powi(2)).sum();
        let (got, told) = (
            10.0 * (signal / noise).log10(),
            db(&linear2(&finished)["fits"][way]),
        );
        println!("{way}: {got:.2} dB by what is written, {told:.2} dB told");
        assert!((got - told).abs() < 0.7, "{way}: {got} {told}");
    }
}

/// Integers of `w [o, k]` rounded to the nearest by the range of each row, and the scales; the largest of a
/// row lies on the border between two integers.
fn nearest((w, k): &(Vec<f64>, usize), divisor: f64) -> (Vec<f64>, Vec<f64>) {
    let of_row = |row: &[f64]| {
        let scale = row.iter().fold(0.0, |amax: f64, w| amax.max(w.abs())) / divisor;
        let q: Vec<f64> = row
            .iter()
            .map(|w| (w / scale).round().clamp(-divisor - 0.5, divisor - 0.5))
            .collect();
        (q, scale)
    };
    let rows: Vec<_> = w.chunks_exact(*k).map(of_row).collect();
    let scales = rows.iter().map(|(_, scale)| *scale).collect();
    (rows.into_iter().flat_map(|(q, _)| q).collect(), scales)
}

/// What is written of linear2 against what another implementation makes of the same calibration: all
/// integers but those on a border, scales, and biases to a few steps.
fn check_written(
    file: &[u8],
    weight: (Vec<f64>, usize),
    divisor: f64,
    factors: &[f64],
    input_amax: f64,
) {
    let read = |name: &str| floats(file, &format!("linear2.{name}")).0;
    let (weight, k) = weight;
    let times = weight.iter().enumerate().map(|(at, w)| w * factors[at % k]);
    let multiplied = (times.collect::<Vec<f64>>(), k);
    let (q, scales) = nearest(&multiplied, divisor);
    let written = read("weight");
    assert_eq!(written.len(), q.len());
    let apart: Vec<f64> = q.iter().zip(&written).map(|(q, w)| (q - w).abs()).collect();
    let borders = apart.iter().filter(|apart| **apart > 0.0).count();
    assert!(
        apart.iter().all(|apart| *apart <= 1.0) && borders <= scales.len(),
        "{borders} differ"
    );
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-5 * b.abs();
    for (got, scale) in read("weight_scale").iter().zip(&scales) {
        assert!(close(*got, *scale), "{got} {scale}");
    }
    let step = read("input_scale")[0];
    assert!(close(step, input_amax), "{step} {input_amax}");
    // The mean of the error is taken away over the rows that were fitted to.
    let fitted_to: Vec<f64> = (0..8)
        .step_by(2)
        .flat_map(|at| input_of(&format!("calib/{at:03}.safetensors")))
        .collect();
    let rows = fitted_to.len() / k;
    let mean: Vec<f64> = (0..k)
        .map(|i| fitted_to.iter().skip(i).step_by(k).sum::<f64>() / rows as f64)
        .collect();
    let float =
        std::fs::read(crate::support::data("smallmodel").join("float.safetensors")).unwrap();
    let bias = floats(&float, "linear2.bias").0;
    for (channel, b) in read("bias").iter().enumerate() {
        let shift: f64 = (0..k)
            .map(|i| {
                let at = channel * k + i;
                (weight[at] - written[at] * scales[channel] / factors[i]) * mean[i]
            })
            .sum();
        let wanted = (bias[channel] + shift) / (step * scales[channel]);
        let allowed = 2.0 + 1e-5 * wanted.abs();
        assert!((b - wanted).abs() <= allowed, "{channel}: {b} {wanted}");
    }
}

#[test]
fn an_equalized_weight_is_written_as_another_implementation_makes_it() {
    let finished = run(&job("smallmodel", asked("a16w8+eq+bc"))).unwrap();
    let plan: Value = serde_json::from_slice(&finished.files["plan.json"]).unwrap();
    let made = plan["layers"][1]["fit"].as_str().unwrap();
    let alpha: f64 = made
        .strip_prefix("eq")
        .unwrap()
        .split('+')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let float =
        std::fs::read(crate::support::data("smallmodel").join("float.safetensors")).unwrap();
    let (weight, k) = floats(&float, "linear2.weight");
    let amax_of = |x: &[f64]| -> Vec<f64> {
        (0..k)
            .map(|i| {
                x.iter()
                    .skip(i)
                    .step_by(k)
                    .fold(0.0, |amax: f64, x| amax.max(x.abs()))
            })
            .collect()
    };
    let batches: Vec<Vec<f64>> = (0..8)
        .map(|at| input_of(&format!("calib/{at:03}.safetensors")))
        .collect();
    // SmoothQuant's factors over their geometric mean, by the rows that are fitted to.
    let x = amax_of(
        &batches
            .iter()
            .step_by(2)
            .flatten()
            .copied()
            .collect::<Vec<f64>>(),
    );
    let w = amax_of(&weight);
    let logs: Vec<f64> = x
        .iter()
        .zip(&w)
        .map(|(x, w)| alpha * x.ln() - (1.0 - alpha) * w.ln())
        .collect();
    let mean = logs.iter().sum::<f64>() / k as f64;
    let factors: Vec<f64> = logs.iter().map(|log| (log - mean).exp()).collect();
    let all = amax_of(&batches.concat());
    let divided = all
        .iter()
        .zip(&factors)
        .fold(0.0, |amax: f64, (x, f)| amax.max(x / f));
    // Twice the room of what was observed.
    let step = 2.0 * divided / 32767.5;
    check_written(
        &finished.files["converted.safetensors"],
        (weight, k),
        127.5,
        &factors,
        step,
    );
}

#[test]
fn a_clipped_input_is_written_as_another_implementation_makes_it() {
    let way = "a8w16+clip+bc";
    let finished = run(&job("smallmodel", asked(way))).unwrap();
    let plan: Value = serde_json::from_slice(&finished.files["plan.json"]).unwrap();
    let made = plan["layers"][1]["fit"].as_str().unwrap();
    let clip: f64 = made
        .strip_prefix("clip")
        .unwrap()
        .split('+')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let float =
        std::fs::read(crate::support::data("smallmodel").join("float.safetensors")).unwrap();
    let weight = floats(&float, "linear2.weight");
    let batches = (0..8).flat_map(|at| input_of(&format!("calib/{at:03}.safetensors")));
    let amax = batches.fold(0.0, |amax: f64, x| amax.max(x.abs()));
    let ones = vec![1.0; weight.1];
    check_written(
        &finished.files["converted.safetensors"],
        weight,
        32767.5,
        &ones,
        clip * amax / 127.5,
    );
}

/// An int16 input is clipped where the layer takes it as int8, an int8 one where it is made.
#[test]
fn a_clipped_input_gains_whatever_the_template() {
    for template in [Template::A16W8, Template::A8W8] {
        let converted = |way: &str| {
            let settings = Settings {
                template,
                ..asked(way)
            };
            let finished = run(&job("smallmodel", settings)).unwrap();
            let layer = linear2(&finished);
            assert_eq!(layer["effective"], way, "{layer:#}");
            let [alone, whole] = match way.contains('+') {
                true => [&layer["fits"][way], &layer["accumulated"]["converted"]],
                false => [&layer["isolated"][way], &layer["accumulated"]["converted"]],
            };
            [db(alone), db(whole)]
        };
        let (plain, clipped) = (converted("a8w16"), converted("a8w16+clip+bc"));
        println!("{template}: alone and whole {plain:?} dB, clipped {clipped:?} dB");
        assert!(
            clipped[0] > plain[0] + 2.0,
            "{template}: {plain:?} {clipped:?}"
        );
        // Where all else is int8 as well, what it reads there is not what it was fitted to.
        assert!(
            template == Template::A8W8 || clipped[1] > plain[1] + 1.0,
            "{template}: {plain:?} {clipped:?}"
        );
    }
}

#[test]
fn a_fit_leaves_the_same_bytes_in_whatever_order_its_tasks_run() {
    for way in ["a16w8+gptq+lowrank=8", "a16w8+eq+gptq"] {
        let mut settings = asked(way);
        settings.min_layer_sqnr = 60.0;
        let job = job("smallmodel", settings);
        let forwards = run(&job).unwrap();
        let backwards = run_in_order(&job, |maps| maps.reverse()).unwrap();
        assert_eq!(forwards.files, backwards.files, "{way}");
    }
}

#[test]
fn a_fit_that_cannot_be_made_is_said_and_the_plain_way_runs() {
    let finished = run(&job("smallmodel", asked("a16w8+lowrank=4000"))).unwrap();
    let layer = linear2(&finished);
    assert_eq!(
        (&layer["requested"], &layer["effective"]),
        (&"a16w8+lowrank=4000".into(), &"a16w8".into())
    );
    let notices = finished.result()["notices"].as_array().unwrap().clone();
    let told = notices
        .iter()
        .find(|notice| notice["code"] == "NOT_FITTED")
        .unwrap();
    assert_eq!(told["subject"], "linear2");
    assert!(
        layer["reason"].as_str().unwrap().contains("lowrank=4000"),
        "{layer:#}"
    );
}

/// Whatever is accepted is better than the plain way on rows held out, on every Linear.
#[test]
fn no_fit_that_is_told_is_worse_than_the_plain_way() {
    for model in ["smallmodel", "digits"] {
        let mut settings = settings(&[]);
        settings.min_layer_sqnr = 200.0;
        let result = run(&job(model, settings)).unwrap().result();
        for layer in result["layers"].as_array().unwrap() {
            let fits = layer["fits"].as_object();
            for (name, fit) in fits.into_iter().flatten() {
                let gain = fit["held_out_gain_db"].as_f64().unwrap();
                let plain = &layer["isolated"][name.split('+').next().unwrap()];
                println!(
                    "{model} {} {name}: {gain:+.2} dB, {} {}",
                    layer["name"], fit["sqnr_db"], plain["sqnr_db"]
                );
                assert!(gain > 0.0, "{model} {layer}");
            }
        }
    }
}
