//! LayerNorm and Softmax end to end in integers against float.

use dual16_nash::decompose::{
    LAYER_NORM, LayerNorm, LayerNormScales, Operand, SOFTMAX, Softmax, SoftmaxScales, Step,
};
use dual16_nash::quantize::{Rounding, dequantize, quantize};
use dual16_nash::scale::{ScaleRule, scale_from_range};
use dual16_nash::{Error, IntDtype, QInt, Scale};

const ROWS: usize = 16;
const COLUMNS: usize = 96;

/// Values of no particular order, from -1 to 1, the same on every run.
fn values(count: usize, seed: f64) -> Vec<f64> {
    (0..count)
        .map(|i| (i as f64 * 12.9898 + seed).sin())
        .collect()
}

fn scale_of(values: &[f64]) -> Scale {
    let (min, max) = values.iter().fold((0f32, 0f32), |(a, b), &v| {
        (a.min(v as f32), b.max(v as f32))
    });
    scale_from_range(min, max, IntDtype::Int16, ScaleRule::Range, false).unwrap()
}

fn to_int<Q: QInt>(values: &[f64], scale: Scale) -> Vec<Q> {
    let values: Vec<f32> = values.iter().map(|&v| v as f32).collect();
    let mut q = vec![Q::default(); values.len()];
    quantize(&values, scale, Rounding::HalfEven, &mut q).unwrap();
    q
}

fn sqnr_db(reference: &[f64], q: &[i16], scale: Scale) -> f64 {
    let mut y = vec![0.0; q.len()];
    dequantize(q, scale, &mut y).unwrap();
    let noise: f64 = reference
        .iter()
        .zip(&y)
        .map(|(r, &y)| (r - f64::from(y)).powi(2))
        .sum();
    10.0 * (reference.iter().map(|r| r * r).sum::<f64>() / noise).log10()
}

/// Every tensor of the float LayerNorm, in the order of its steps.
fn float_layer_norm(x: &[f64], weight: &[f64], bias: &[f64], eps: f64) -> [Vec<f64>; 8] {
    let row_mean = |v: &[f64]| -> Vec<f64> {
        v.chunks(COLUMNS)
            .map(|row| row.iter().sum::<f64>() / COLUMNS as f64)
            .collect()
    };
    let mean = row_mean(x);
    let sub: Vec<f64> = x
        .iter()
        .enumerate()
        .map(|(i, v)| v - mean[i / COLUMNS])
        .collect();
    let square: Vec<f64> = sub.iter().map(|v| v * v).collect();
    let variance = row_mean(&square);
    let rsqrt: Vec<f64> = variance.iter().map(|v| 1.0 / (v + eps).sqrt()).collect();
    let norm: Vec<f64> = sub
        .iter()
        .enumerate()
        .map(|(i, v)| v * rsqrt[i / COLUMNS])
        .collect();
    let weighted: Vec<f64> = norm
        .iter()
        .enumerate()
        .map(|(i, v)| v * weight[i % COLUMNS])
        .collect();
    let out = weighted
        .iter()
        .enumerate()
        .map(|(i, v)| v + bias[i % COLUMNS])
        .collect();
    [mean, sub, square, variance, rsqrt, norm, weighted, out]
}

#[test]
fn layer_norm_in_integers() {
    let x: Vec<f64> = values(ROWS * COLUMNS, 0.3)
        .iter()
        .enumerate()
        .map(|(i, v)| 0.4 + v * (1.0 + (i / COLUMNS) as f64 * 0.1))
        .collect();
    let weight: Vec<f64> = values(COLUMNS, 1.0).iter().map(|v| 1.0 + 0.3 * v).collect();
    let bias = values(COLUMNS, 2.0);
    let eps = 1e-5;
    let t = float_layer_norm(&x, &weight, &bias, eps);
    let s: Vec<Scale> = t.iter().map(|v| scale_of(v)).collect();
    let scales = LayerNormScales {
        input: scale_of(&x),
        input_mean: s[0],
        sub: s[1],
        square: s[2],
        var_mean: s[3],
        rsqrt: s[4],
        normalized: s[5],
        weight: scale_of(&weight),
        weight_mul: s[6],
        bias: scale_of(&bias),
        output: s[7],
    };
    let int_weight = to_int(&weight, scales.weight);
    let int_bias = to_int(&bias, scales.bias);
    let range = t[3].iter().fold((f32::MAX, 0f32), |(a, b), &v| {
        (a.min(v as f32), b.max(v as f32))
    });
    let norm = LayerNorm::new(&scales, eps, int_weight, int_bias, Some(range)).unwrap();
    let y: Vec<i16> = norm.run(&to_int::<i16>(&x, scales.input), ROWS).unwrap();
    let sqnr = sqnr_db(&t[7], &y, scales.output);
    assert!(sqnr > 70.0, "{sqnr} dB");
    assert!(
        norm.rsqrt_table().max_error_lsb() < 4.0,
        "{}",
        norm.rsqrt_table().max_error_lsb()
    );

    let short = norm.run::<i16, i16>(&[0; 5], 1);
    assert!(matches!(short, Err(Error::Shape(_))));
}

#[test]
fn softmax_in_integers() {
    let x: Vec<f64> = values(ROWS * COLUMNS, 0.7)
        .iter()
        .map(|v| 4.0 * v)
        .collect();
    let (mut sub, mut exp, mut sum) = (Vec::new(), Vec::new(), Vec::new());
    for row in x.chunks(COLUMNS) {
        let max = row.iter().copied().fold(f64::MIN, f64::max);
        sub.extend(row.iter().map(|v| v - max));
        let row: Vec<f64> = row.iter().map(|v| (v - max).exp()).collect();
        sum.push(row.iter().sum::<f64>());
        exp.extend(row);
    }
    let reciprocal: Vec<f64> = sum.iter().map(|v| 1.0 / v).collect();
    let out: Vec<f64> = exp
        .iter()
        .enumerate()
        .map(|(i, v)| v * reciprocal[i / COLUMNS])
        .collect();
    let scales = SoftmaxScales {
        input: scale_of(&x),
        sub: scale_of(&sub),
        exp: scale_of(&exp),
        sum: scale_of(&sum),
        reciprocal: scale_of(&reciprocal),
        output: scale_of(&out),
    };
    let softmax = Softmax::new(&scales, COLUMNS).unwrap();
    let y: Vec<i16> = softmax.run(&to_int::<i16>(&x, scales.input), ROWS).unwrap();
    let sqnr = sqnr_db(&out, &y, scales.output);
    assert!(sqnr > 65.0, "{sqnr} dB");
    for row in y.chunks(COLUMNS) {
        let total = row
            .iter()
            .map(|&q| f64::from(q) * scales.output.to_f64())
            .sum::<f64>();
        assert!((total - 1.0).abs() < 2e-3, "a row adds up to {total}");
    }
    assert!(matches!(
        softmax.run::<i16, i16>(&[], 1),
        Err(Error::Shape(_))
    ));
}

/// Operands come before the step that reads them, names are unique, and the last step is the op's
/// result.
#[test]
fn steps_are_in_order() {
    for steps in [&LAYER_NORM[..], &SOFTMAX[..]] {
        let mut read = vec![false; steps.len()];
        for (i, Step { name, operands, .. }) in steps.iter().enumerate() {
            assert!(steps[..i].iter().all(|earlier| earlier.name != *name));
            for operand in *operands {
                if let Operand::Step(j) = operand {
                    assert!(*j < i, "{name}");
                    read[*j] = true;
                }
            }
        }
        let (last, inner) = read.split_last().unwrap();
        assert!(!last && inner.iter().all(|&read| read));
    }
}
