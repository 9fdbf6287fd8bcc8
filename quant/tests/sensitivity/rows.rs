//! Which rows a table has, and what they are called.

use dual16_quant::sensitivity::rows;

use crate::{
    planned::Planned,
    shared::{
        Sample, data,
        made::{self, Made},
    },
};

fn table(planned: &Planned) -> Vec<(String, &'static str)> {
    let graph = planned.graph();
    let rows = rows(graph, &planned.plan);
    let row =
        |row: &dual16_quant::sensitivity::Row| (row.name(graph).to_owned(), row.kind(graph).name());
    rows.iter().map(row).collect()
}

#[test]
fn the_articles_model_has_the_articles_rows() {
    let planned = Planned::new(Sample::load(&data("smallmodel")));
    let table = table(&planned);
    println!("{table:#?}");
    let wanted = [
        ("x", "activation"),
        ("linear1", "activation"),
        ("linear1", "weight"),
        ("layernorm.input_mean.pre_mean", "activation"),
        ("layernorm.sub", "activation"),
        ("layernorm.mul", "activation"),
        ("layernorm.var_mean.pre_mean", "activation"),
        ("layernorm.rsqrt", "activation"),
        ("layernorm.out_mul", "activation"),
        ("layernorm.weight_mul", "activation"),
        ("layernorm.weight_mul", "weight"),
        ("layernorm", "activation"),
        ("layernorm.bias_add", "weight"),
        ("relu", "activation"),
        ("linear2", "activation"),
        ("linear2", "weight"),
    ];
    for (name, kind) in wanted {
        let row = (name.to_owned(), kind);
        assert!(table.contains(&row), "{row:?}");
    }
    // The high-precision output has a weight alone.
    assert_eq!(table.last().unwrap(), &("linear3".to_owned(), "weight"));
    let outputs = table.iter().filter(|row| row.0 == "linear3");
    assert_eq!(outputs.count(), 1);
}

#[test]
fn an_operand_that_is_requantized_has_a_row_of_its_own() {
    let made = Made::new(&[2, 3, 4])
        .node("Transpose", &["x"], &["t"])
        .ints("perm", &[0, 2, 1])
        .node("MatMul", &["x", "t"], &["y"]);
    let planned = Planned::new(Sample::new(made.model(), made::batch(&[2, 3, 4])));
    // The transpose shares the scale of x and has no row.
    assert_eq!(
        table(&planned),
        [
            ("x".to_owned(), "activation"),
            ("node_y".to_owned(), "activation"),
            ("node_y".to_owned(), "activation"),
        ]
    );
}
