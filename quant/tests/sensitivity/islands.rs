//! Islands whose derivative is known pass it back, and what lies before the others has no estimate.

use dual16_quant::sensitivity::{PROBES, Row, estimate, exact, rows};

use crate::{
    gradients::check,
    planned::Planned,
    shared::{
        Sample,
        made::{self, Made},
    },
};

fn curve(count: usize) -> Vec<f32> {
    made::curve(&[count]).into_iter().map(|x| 0.4 * x).collect()
}

const IMAGE: [usize; 4] = [2, 4, 5, 6];

fn image() -> Made {
    Made::new(&IMAGE)
}

#[test]
fn islands_pass_back_what_finite_differences_say() {
    let cases = [
        (
            "conv",
            image()
                .constant("w", &[3, 4, 3, 2], &curve(72))
                .constant("b", &[3], &curve(3))
                .node("Conv", &["x", "w", "b"], &["y"])
                .ints("pads", &[1, 0, 1, 1])
                .ints("strides", &[2, 1])
                .ints("dilations", &[1, 2]),
        ),
        (
            "conv in groups",
            image()
                .constant("w", &[4, 2, 3, 3], &curve(72))
                .node("Conv", &["x", "w"], &["y"])
                .int("group", 2)
                .ints("pads", &[1, 1, 1, 1]),
        ),
        (
            "depthwise conv",
            image()
                .constant("w", &[4, 1, 3, 3], &curve(36))
                .node("Conv", &["x", "w"], &["y"])
                .int("group", 4),
        ),
        (
            "conv transpose",
            image()
                .constant("w", &[4, 3, 3, 2], &curve(72))
                .node("ConvTranspose", &["x", "w"], &["y"])
                .ints("strides", &[2, 2])
                .ints("pads", &[1, 0, 0, 0])
                .ints("output_padding", &[1, 0]),
        ),
        (
            "conv transpose in groups",
            image()
                .constant("w", &[4, 1, 2, 2], &curve(16))
                .node("ConvTranspose", &["x", "w"], &["y"])
                .int("group", 2),
        ),
        (
            "average pool",
            image()
                .node("AveragePool", &["x"], &["y"])
                .ints("kernel_shape", &[3, 2])
                .ints("strides", &[2, 2])
                .ints("pads", &[1, 0, 1, 0]),
        ),
        (
            "average pool, padding counted",
            image()
                .node("AveragePool", &["x"], &["y"])
                .ints("kernel_shape", &[3, 2])
                .ints("pads", &[1, 0, 1, 0])
                .int("count_include_pad", 1),
        ),
        (
            "max pool",
            image()
                .node("MaxPool", &["x"], &["y"])
                .ints("kernel_shape", &[2, 2])
                .ints("strides", &[2, 2]),
        ),
        (
            "global average pool",
            image().node("GlobalAveragePool", &["x"], &["y"]),
        ),
        (
            "batch normalization",
            image()
                .constant("s", &[4], &curve(4))
                .constant("b", &[4], &curve(4))
                .constant("m", &[4], &curve(4))
                .constant("v", &[4], &[0.5, 1.0, 2.0, 0.25])
                .node("BatchNormalization", &["x", "s", "b", "m", "v"], &["y"]),
        ),
        (
            "division of two activations",
            image()
                .node("Exp", &["x"], &["e"])
                .node("Div", &["x", "e"], &["y"]),
        ),
        (
            "leaky relu",
            image()
                .node("LeakyRelu", &["x"], &["y"])
                .float("alpha", 0.1),
        ),
        ("sine", image().node("Sin", &["x"], &["y"])),
        (
            "maximum of two",
            image()
                .node("Tanh", &["x"], &["t"])
                .node("Max", &["x", "t"], &["y"]),
        ),
        (
            "pad",
            image()
                .indices("pads", &[0, 0, 1, 2, 0, 0, 2, 1])
                .scalar("c", 7.0)
                .node("Pad", &["x", "pads", "c"], &["p"])
                .node("Sin", &["p"], &["y"]),
        ),
        (
            "depth to space",
            image()
                .node("DepthToSpace", &["x"], &["d"])
                .int("blocksize", 2)
                .node("Sin", &["d"], &["y"]),
        ),
        (
            "tile",
            image()
                .indices("by", &[1, 2, 1, 1])
                .node("Tile", &["x", "by"], &["y"]),
        ),
    ];
    for (name, made) in cases {
        let compared = check(made, &IMAGE, 0.0);
        println!("{name}: {compared} derivatives");
        assert!(compared >= 240, "{name}: {compared}");
    }
}

#[test]
fn what_lies_before_an_island_without_derivative_has_no_estimate_but_an_exact_error() {
    // CumSum passes nothing back; the Tanh beside it does.
    let made = Made::new(&[2, 3, 4])
        .node("Erf", &["x"], &["only"])
        .scalar("axis", 1.0)
        .indices("at", &[1])
        .node("Tanh", &["x"], &["both"])
        .node("CumSum", &["only", "at"], &["blocked"])
        .node("Add", &["blocked", "both"], &["y"]);
    let planned = Planned::of(
        Sample::new(made.model(), made::batch(&[2, 3, 4])),
        dual16_nash::IntDtype::Int8,
    );
    let analysis = planned.analysis();
    let values = planned.values(&analysis);
    let rows = rows(planned.graph(), &planned.plan);
    let estimated = estimate(&analysis, &values, &rows, PROBES, 0).unwrap();
    let named: Vec<(&str, bool)> = rows
        .iter()
        .enumerate()
        .map(|(index, row)| {
            let name = row.name(planned.graph());
            (name, estimated.sqnr_db(index, 0).is_some())
        })
        .collect();
    println!("{named:?}");
    assert!(named.contains(&("x", true)), "through the Tanh");
    assert!(named.contains(&("node_only", false)));
    assert!(named.contains(&("node_both", true)));
    assert!(named.contains(&("node_blocked", true)));
    for row in rows {
        let error = exact(&analysis, &values, row).unwrap();
        assert!(matches!(row, Row::Activation(_)));
        assert!(error[0].metrics().sqnr_db.is_some(), "{row:?}");
    }
}
