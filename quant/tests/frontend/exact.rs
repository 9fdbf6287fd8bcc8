//! What float execution would do otherwise than ONNX says: integers beyond 32 bits, types that wrap,
//! the first of equals; and that shapes are calculated without kernels of our own.

use crate::shared::{LIMITS, made, made::Made};
use dual16_quant::{Error, float::FloatModel, model::Model, onnx::DataType, tensor::Datum};
use ndarray::arr1;

fn run(made: Made, output: &str) -> Result<Datum, Error> {
    let model = Model::from_bytes("made.onnx", made.encode().into(), &[], LIMITS)?;
    let mut outputs = FloatModel::load(&model, 1)?.run(&made::batch(&[4]), &[output])?;
    Ok(outputs.remove(output).unwrap())
}

fn cast(made: Made, x: &str, y: &str, to: DataType) -> Made {
    made.node("Cast", &[x], &[y])
        .int("to", i32::from(to).into())
}

#[test]
fn integers_that_leave_thirty_two_bits_are_an_error() {
    let wide = |op: &str| {
        let made = Made::new(&[4]).constant("large", &[1], &[2.0e9]);
        let made = made.node("Add", &["x", "large"], &["sum"]);
        cast(made, "sum", "whole", DataType::Int64).node(op, &["whole", "whole"], &["y"])
    };
    for op in ["Add", "Mul"] {
        let error = run(wide(op), "y").unwrap_err().to_string();
        assert!(
            error.contains("node_y") && error.contains("64-bit"),
            "{op}: {error}"
        );
    }
    let difference = run(wide("Sub"), "y").unwrap();
    assert_eq!(difference, Datum::I32(arr1(&[0, 0, 0, 0]).into_dyn()));
}

#[test]
fn narrow_integers_wrap() {
    let made = Made::new(&[4])
        .constant("zero", &[1], &[0.0])
        .constant("large", &[1], &[200.0])
        .node("Mul", &["x", "zero"], &["none"])
        .node("Add", &["none", "large"], &["many"]);
    let made =
        cast(made, "many", "bytes", DataType::Uint8).node("Add", &["bytes", "bytes"], &["y"]);
    let sum = run(made, "y").unwrap();
    assert_eq!(sum, Datum::U8(arr1(&[144, 144, 144, 144]).into_dyn()));
}

#[test]
fn the_first_of_equals_is_the_largest() {
    let made = Made::new(&[4])
        .constant("zero", &[1], &[0.0])
        .node("Mul", &["x", "zero"], &["none"])
        .node("ArgMax", &["none"], &["y"]);
    assert_eq!(run(made, "y").unwrap(), Datum::I32(arr1(&[0]).into_dyn()));
}

#[test]
fn shapes_are_calculated_by_the_engine() {
    let made = Made::new(&[4])
        .node("Shape", &["x"], &["shape"])
        .node("Mul", &["shape", "shape"], &["square"])
        .node("Add", &["square", "shape"], &["y"]);
    let model = made.model();
    assert!(model.nodes().iter().all(|node| node.domain.is_empty()));
}
