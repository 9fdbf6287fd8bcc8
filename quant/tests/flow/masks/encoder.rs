//! A padded encoder of two layers as Hugging Face's models are exported: heads, LayerNorm, gelu, and
//! one mask for all layers, made of 0 and 1.

use dual16_quant::onnx::DataType;

use super::attention::{Extra, Extras, SHAPE, input, linear, quantize, sqnr, to_float};
use crate::{made::Made, support::settings};

const SEQUENCES: usize = SHAPE[0];
const LENGTH: usize = SHAPE[1];
const WIDTH: usize = SHAPE[2];
const HEADS: usize = 2;
const INNER: usize = 32;

/// Tokens of each sequence that are not padding.
const TOKENS: [usize; SEQUENCES] = [LENGTH, 3];

fn norm(made: Made, x: &str, name: &str) -> Made {
    let scale: Vec<f32> = (0..WIDTH).map(|i| 1.0 + 0.02 * i as f32).collect();
    let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
    made.constant(&weight, &[WIDTH], &scale)
        .constant(&bias, &[WIDTH], &[0.05; WIDTH])
        .node("LayerNormalization", &[x, &weight, &bias], &[name])
        .int("axis", -1)
}

/// `[N, T, W]` to `[N, heads, T, W / heads]`, keys turned.
fn heads(made: Made, x: &str, to: &str, perm: [i64; 4]) -> Made {
    let split = format!("{to}.split");
    made.node("Reshape", &[x, "heads"], &[&split])
        .node("Transpose", &[&split], &[to])
        .ints("perm", &perm)
}

fn layer(made: Made, x: &str, at: usize) -> (Made, String) {
    let of = |name: &str| format!("l{at}.{name}");
    let mut made = made;
    for (name, perm) in [
        ("q", [0, 2, 1, 3]),
        ("k", [0, 2, 3, 1]),
        ("v", [0, 2, 1, 3]),
    ] {
        made = linear(made, x, &of(name), [WIDTH, WIDTH]);
        made = heads(made, &of(name), &of(&format!("{name}h")), perm);
    }
    made = made
        .node("MatMul", &[&of("qh"), &of("kh")], &[&of("s0")])
        .node("Div", &[&of("s0"), "root"], &[&of("s")])
        .node("Add", &[&of("s"), "mask"], &[&of("ms")])
        .node("Softmax", &[&of("ms")], &[&of("p")])
        .node("MatMul", &[&of("p"), &of("vh")], &[&of("oh")])
        .node("Transpose", &[&of("oh")], &[&of("ot")])
        .ints("perm", &[0, 2, 1, 3])
        .node("Reshape", &[&of("ot"), "joined"], &[&of("o")]);
    made = linear(made, &of("o"), &of("out"), [WIDTH, WIDTH]);
    made = made.node("Add", &[&of("out"), x], &[&of("r1")]);
    made = norm(made, &of("r1"), &of("n1"));
    made = linear(made, &of("n1"), &of("up"), [WIDTH, INNER]);
    made = made.node("Gelu", &[&of("up")], &[&of("gelu")]);
    made = linear(made, &of("gelu"), &of("down"), [INNER, WIDTH]);
    made = made.node("Add", &[&of("down"), &of("n1")], &[&of("r2")]);
    (norm(made, &of("r2"), &of("n2")), of("n2"))
}

/// `attention_mask` is 1 for a token and 0 for padding.
fn encoder(data_type: DataType, masked: f32) -> Made {
    let made = Made::new(&SHAPE).opset(20);
    let made = input(made, "attention_mask", data_type, &[SEQUENCES, LENGTH]);
    let made = to_float(made, "attention_mask", "float_mask")
        .indices("axes", &[1, 2])
        .indices("heads", &[0, 0, HEADS as i64, (WIDTH / HEADS) as i64])
        .indices("joined", &[0, 0, WIDTH as i64])
        .scalar("root", ((WIDTH / HEADS) as f32).sqrt())
        .scalar("unit", 1.0)
        .scalar("masked", masked)
        .node("Unsqueeze", &["float_mask", "axes"], &["wide_mask"])
        .node("Sub", &["unit", "wide_mask"], &["complement"])
        .node("Mul", &["complement", "masked"], &["mask"]);
    let (made, x) = layer(made, "x", 0);
    let (made, x) = layer(made, &x, 1);
    made.node("Identity", &[&x], &["y"])
}

fn tokens() -> impl Iterator<Item = bool> {
    let row = |tokens: usize| (0..LENGTH).map(move |at| at < tokens);
    TOKENS.into_iter().flat_map(row)
}

#[test]
fn a_padded_encoder_is_as_good_as_its_layers() {
    for masked in [f32::MIN, -1e4] {
        let integers: Extras<'_> = &|_| {
            let mask = tokens().map(i64::from).collect();
            vec![("attention_mask", Extra::I64(vec![SEQUENCES, LENGTH], mask))]
        };
        let floats: Extras<'_> = &|_| {
            let mask = tokens().map(|token| f32::from(u8::from(token))).collect();
            vec![("attention_mask", Extra::F32(vec![SEQUENCES, LENGTH], mask))]
        };
        for (data_type, extras) in [(DataType::Int64, integers), (DataType::Float, floats)] {
            let finished = quantize(encoder(data_type, masked), settings(&[]), extras);
            let figures = sqnr(&finished);
            println!("{data_type:?} {masked}: {figures:.1?}");
            assert!(figures.iter().all(|&figure| figure >= 25.0), "{figures:?}");
            assert!((figures[0] - figures[1]).abs() <= 3.0, "{figures:?}");
        }
    }
}
