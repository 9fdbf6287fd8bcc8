//! The article's table: SQNR of linear2 in the whole quantized model, by the way it runs.

use dual16_tests::{
    Dual16, Results,
    data::smallmodel,
    results::{layer, number},
};

/// VALIDATION in dB, to 0.1.
const FIGURES: [(&str, f64); 5] = [
    ("a16w8", 13.4),
    ("a8w16", 26.3),
    ("mul_sum", 39.3),
    ("split", 48.7),
    ("a16w16", 48.8),
];

#[test]
fn each_way_of_linear2_has_the_articles_figure() {
    for (way, expected) in FIGURES {
        let out = Results::new();
        let mut quantize = Dual16::quantize(&smallmodel())
            .arg("--eval")
            .arg(smallmodel().join("eval.safetensors"))
            .args(["--linear", &format!("linear2={way}")]);
        if way == "a16w16" {
            quantize = quantize.args(["--toolchain", "oe-3.2"]);
        }
        quantize.out(&out.path()).run().success();

        let result = out.result();
        let linear2 = layer(&result, "linear2");
        assert_eq!(
            (&linear2["requested"], &linear2["effective"]),
            (&way.into(), &way.into())
        );
        let sqnr = |run: &str| number(&linear2["accumulated"][run]["sqnr_db"]);
        let (validation, converted) = (sqnr("validation"), sqnr("converted"));
        assert!(
            (validation - expected).abs() <= 0.1,
            "{way}: {validation} dB, not {expected}"
        );
        assert!(
            (converted - validation).abs() <= 1.0,
            "{way}: {converted} dB converted"
        );
    }
}
