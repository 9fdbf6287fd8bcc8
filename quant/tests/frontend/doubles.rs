//! Doubles, which are run in f32: right where 24 bits are enough, and refused by node and value where
//! they are not.

use crate::shared::{LIMITS, made::Made};
use dual16_quant::{
    Error,
    batch::BatchFile,
    float::FloatModel,
    model::Model,
    onnx::{DataType, TensorProto},
    tensor::Datum,
};
use safetensors::{Dtype, tensor::TensorView};

/// A model whose input `x` is of doubles.
fn doubles(shape: &[usize]) -> Made {
    of_type(shape, DataType::Double)
}

fn of_type(shape: &[usize], elem: DataType) -> Made {
    let mut made = Made::new(shape);
    let of = made.graph.input[0].r#type.as_mut().unwrap();
    of.tensor_type.as_mut().unwrap().elem_type = elem.into();
    made
}

fn constant(mut made: Made, name: &str, elements: &[f64]) -> Made {
    made.graph.initializer.push(TensorProto {
        name: name.to_owned(),
        dims: vec![elements.len() as i64],
        double_data: elements.to_vec(),
        data_type: DataType::Double.into(),
        ..TensorProto::default()
    });
    made
}

/// Runs a model on a file of this `x`.
fn run(made: Made, dtype: Dtype, bytes: Vec<u8>) -> Result<Datum, Error> {
    let model = Model::from_bytes("made.onnx", made.encode().into(), &[], LIMITS)?;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let view = TensorView::new(dtype, vec![bytes.len() / 8], &bytes).unwrap();
    safetensors::serialize_to_file([("x", view)], None, &path).unwrap();
    let batch = BatchFile::open("x.safetensors", &path, model.inputs(), LIMITS)?.read(0)?;
    let mut outputs = FloatModel::load(&model, 1)?.run(&batch, &["y"])?;
    Ok(outputs.remove("y").unwrap())
}

fn run_doubles(made: Made, x: &[f64]) -> Result<Datum, Error> {
    run(
        made,
        Dtype::F64,
        x.iter().flat_map(|x| x.to_le_bytes()).collect(),
    )
}

fn refused(result: Result<Datum, Error>, says: &[&str]) {
    let text = result.unwrap_err().to_string();
    let all = says.iter().chain(&["doubles", "subtract the offset"]);
    all.for_each(|part| assert!(text.contains(part), "{part}: {text}"));
}

#[test]
fn inputs_that_f32_does_not_tell_apart_are_refused() {
    let times: Vec<f64> = (0..5).map(|i| 1.7e9 + 37.0 * f64::from(i)).collect();
    let made = || doubles(&[5]).node("Neg", &["x"], &["y"]);
    refused(run_doubles(made(), &times), &["'x'", "17000000"]);
    let masked = [-1e9, -1e9, 0.5, 1.25, -1.7976931348623157e38];
    assert!(run_doubles(made(), &masked).is_ok());
}

#[test]
fn differences_that_cancel_are_refused() {
    let made = |offset: f64| {
        constant(doubles(&[1]), "offset", &[offset]).node("Sub", &["x", "offset"], &["y"])
    };
    refused(
        run_doubles(made(1.7e9), &[1.7e9 + 37.0]),
        &["node_y", "Sub", "1700000000"],
    );
    assert!(run_doubles(made(2021.5), &[2024.0]).is_ok());

    let there_and_back = |large: f64| {
        constant(doubles(&[3]), "large", &[large])
            .node("Add", &["x", "large"], &["there"])
            .node("Sub", &["there", "large"], &["y"])
    };
    let x = [0.1, 0.7, -1.3];
    refused(run_doubles(there_and_back(1e6), &x), &["node_y", "Sub"]);
    assert!(run_doubles(there_and_back(10.0), &x).is_ok());
}

#[test]
fn masks_are_no_numbers_that_cancel() {
    let made = constant(doubles(&[4]), "mask", &[0.0, 0.0, -1e9, -1e9])
        .node("Add", &["x", "mask"], &["scores"])
        .node("ReduceMax", &["scores"], &["most"])
        .node("Sub", &["scores", "most"], &["below"])
        .node("Softmax", &["below"], &["y"]);
    let made = run_doubles(made, &[0.3, 0.4, 0.5, 0.6]).unwrap();
    let y = made.as_f32().unwrap();
    assert_eq!((y[[2]], y[[3]]), (0.0, 0.0));

    // Where all is masked, doubles still tell apart what was added to -1e9 and not to the least.
    let all = |mask: f64| {
        constant(doubles(&[2]), "mask", &[mask])
            .node("Add", &["x", "mask"], &["scores"])
            .node("Softmax", &["scores"], &["y"])
    };
    refused(
        run_doubles(all(-1e9), &[0.3, 0.4]),
        &["node_y", "Softmax", "-1000000000"],
    );
    let even = run_doubles(all(f64::MIN), &[0.3, 0.4]).unwrap();
    assert_eq!(even.as_f32().unwrap().as_slice(), Some(&[0.5, 0.5][..]));
}

#[test]
fn integers_next_to_large_doubles_are_refused() {
    let made = |op: &str| {
        constant(doubles(&[2]), "minute", &[60.0])
            .node("Div", &["x", "minute"], &["minutes"])
            .node(op, &["minutes"], &["y"])
    };
    for op in ["Floor", "Ceil", "Round"] {
        let result = run_doubles(made(op), &[1.7e9, 1.1e9]);
        refused(result, &["node_y", op, "integer next to it"]);
    }
    let small = run_doubles(made("Floor"), &[150.0, 30.0]).unwrap();
    assert_eq!(small.as_f32().unwrap().as_slice(), Some(&[2.0, 0.0][..]));

    // An identifier is itself up to 24 bits.
    let whole = || {
        doubles(&[2])
            .node("Cast", &["x"], &["y"])
            .int("to", i32::from(DataType::Int64).into())
    };
    let known = run_doubles(whole(), &[16_777_213.0, 5.0]).unwrap();
    assert_eq!(
        known,
        Datum::I32(ndarray::arr1(&[16_777_213, 5]).into_dyn())
    );
    refused(
        run_doubles(whole(), &[123_456_789.0, 5.0]),
        &["node_y", "Cast", "123456790"],
    );
}

#[test]
fn integers_that_become_doubles_are_looked_at() {
    let made = || {
        constant(of_type(&[3], DataType::Int64), "offset", &[1.7e9])
            .node("Cast", &["x"], &["exact"])
            .int("to", i32::from(DataType::Double).into())
            .named("widen")
            .node("Sub", &["exact", "offset"], &["y"])
    };
    let run = |x: [i64; 3]| {
        run(
            made(),
            Dtype::I64,
            x.iter().flat_map(|x| x.to_le_bytes()).collect(),
        )
    };
    refused(
        run([1_700_000_001, 1_700_000_050, 1_700_000_099]),
        &["widen", "Cast"],
    );
    assert!(run([1, 2, 3]).is_ok());
}

#[test]
fn doubles_that_f32_has_not_are_refused() {
    let made = doubles(&[2]).node("Exp", &["x"], &["y"]);
    refused(
        run_doubles(made, &[100.0, 1.0]),
        &["node_y", "Exp", "3.4e38"],
    );
    let angle = doubles(&[2]).node("Sin", &["x"], &["y"]);
    refused(
        run_doubles(angle, &[1e5 + 0.1, 0.0]),
        &["node_y", "Sin", "angle"],
    );
}

#[test]
fn sums_that_cancel_are_refused() {
    let times = [1.7e9 + 0.123, -1.7e9];
    let sum = || doubles(&[2]).node("ReduceSum", &["x"], &["y"]);
    refused(
        run_doubles(sum(), &times),
        &["node_y", "ReduceSum", "1700000000"],
    );
    assert!(run_doubles(sum(), &[0.1, -0.1 + 1e-9]).is_ok());

    let mut weighed = doubles(&[2]);
    weighed.graph.initializer.push(TensorProto {
        name: "w".to_owned(),
        dims: vec![2, 1],
        double_data: vec![0.3, 0.3],
        data_type: DataType::Double.into(),
        ..TensorProto::default()
    });
    let product = || {
        Made {
            graph: weighed.graph.clone(),
            opset: 18,
        }
        .node("MatMul", &["x", "w"], &["y"])
    };
    refused(run_doubles(product(), &times), &["node_y", "MatMul"]);
    assert!(run_doubles(product(), &[0.7, 0.2]).is_ok());
}

/// An epsilon that only doubles have is no 0, and a logarithm of what may be one of many numbers is none.
#[test]
fn what_is_below_the_least_f32_is_not_divided_by() {
    let divided = |x: &[f64]| {
        let made = constant(doubles(&[2]), "tiny", &[1e-300])
            .node("Add", &["x", "tiny"], &["above"])
            .node("Div", &["x", "above"], &["y"]);
        run_doubles(made, x)
    };
    assert!(divided(&[0.5, 0.25]).is_ok());
    refused(divided(&[0.5, 0.0]), &["node_y", "Div", "1.2e-38"]);

    let logarithm = doubles(&[2])
        .node("Exp", &["x"], &["e"])
        .node("Log", &["e"], &["y"]);
    refused(
        run_doubles(logarithm, &[-200.0, 1.5]),
        &["node_y", "Log", "1.2e-38"],
    );
    let squares = doubles(&[2]).node("ReduceSumSquare", &["x"], &["y"]);
    refused(
        run_doubles(squares, &[1e30, 2.0]),
        &["node_y", "ReduceSumSquare", "3.4e38"],
    );
}
