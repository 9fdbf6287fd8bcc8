//! What float execution would do otherwise than ONNX says: integers beyond 32 bits, types that wrap,
//! the first of equals; and that shapes are calculated without kernels of our own.

use crate::shared::{LIMITS, made, made::Made};
use dual16_quant::{
    Error,
    float::FloatModel,
    model::Model,
    onnx::{
        AttributeProto, AttributeType, DataType, GraphProto, TensorProto, TensorShapeProto,
        TensorTypeProto, TypeProto, ValueInfoProto, int64_initializer, node,
    },
    tensor::Datum,
};
use ndarray::arr1;

fn run(made: Made, output: &str) -> Result<Datum, Error> {
    let model = Model::from_bytes("made.onnx", made.encode().into(), &[], LIMITS)?;
    let mut batch = made::batch(&[4]);
    batch.retain(|name, _| model.inputs().iter().any(|input| input.name == *name));
    let mut outputs = FloatModel::load(&model, 1)?.run(&batch, &[output])?;
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

/// A Loop of three rounds that carries an integer from 5 on, made in its body by these nodes of
/// `count`, `round` and the constants `one` and `three`.
fn looped(nodes: &[(&str, &[&str], &str)]) -> Result<Datum, Error> {
    let value = |name: &str, elem: DataType| ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto {
            tensor_type: Some(TensorTypeProto {
                elem_type: elem.into(),
                shape: Some(TensorShapeProto::default()),
            }),
        }),
        ..ValueInfoProto::default()
    };
    let scalar = |name: &str, element: i64| TensorProto {
        dims: Vec::new(),
        ..int64_initializer(name, &[element])
    };
    let made = nodes
        .iter()
        .map(|(op, inputs, output)| node(op, inputs, &[output]));
    let body = GraphProto {
        name: "body".to_owned(),
        node: made
            .chain([node("Identity", &["go_on"], &["still"])])
            .collect(),
        input: vec![
            value("round", DataType::Int64),
            value("go_on", DataType::Bool),
            value("count", DataType::Int64),
        ],
        output: vec![
            value("still", DataType::Bool),
            value("next", DataType::Int64),
        ],
        initializer: vec![scalar("one", 1), scalar("three", 3)],
        ..GraphProto::default()
    };
    let mut made = Made::new(&[4]).node("Loop", &["rounds", "", "first"], &["y"]);
    made.graph.initializer = vec![scalar("rounds", 3), scalar("first", 5)];
    made.graph.node[0].attribute.push(AttributeProto {
        name: "body".to_owned(),
        r#type: AttributeType::Graph.into(),
        g: Some(body),
        ..AttributeProto::default()
    });
    run(made, "y")
}

#[test]
fn integers_in_a_body_only_count_or_are_refused_by_name() {
    let counted = looped(&[("Add", &["count", "one"], "next")]).unwrap();
    assert_eq!(counted, Datum::I32(ndarray::arr0(8).into_dyn()));
    let of_the_round = looped(&[
        ("Mul", &["round", "three"], "part"),
        ("Add", &["part", "one"], "next"),
    ]);
    assert_eq!(
        of_the_round.unwrap(),
        Datum::I32(ndarray::arr0(7).into_dyn())
    );

    for (op, inputs) in [
        ("Mul", ["count", "three"]),
        ("Add", ["count", "round"]),
        ("Add", ["count", "count"]),
        ("BitwiseAnd", ["count", "three"]),
    ] {
        let error = looped(&[(op, &inputs, "next")]).unwrap_err();
        assert!(matches!(error, Error::Model { .. }), "{error}");
        let text = error.to_string();
        let says = ["node_next", op, "inside the body of an If, Loop or Scan"];
        assert!(says.iter().all(|part| text.contains(part)), "{text}");
    }
}

/// `x` of type `elem`, and updates of 100 put where it has its first element.
fn scattered(op: &str, reduction: &str, first: i32, elem: DataType) -> Result<Datum, Error> {
    let mut made = Made::new(&[1, 2]);
    let of = made.graph.input[0].r#type.as_mut().unwrap();
    of.tensor_type.as_mut().unwrap().elem_type = elem.into();
    let shaped = |name: &str, dims: &[i64], elements: &[i64], elem: DataType| TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        int64_data: match elem {
            DataType::Int64 => elements.to_vec(),
            _ => Vec::new(),
        },
        int32_data: match elem {
            DataType::Int64 => Vec::new(),
            _ => elements.iter().map(|&x| x as i32).collect(),
        },
        data_type: elem.into(),
        ..TensorProto::default()
    };
    let (places, updates): (&[i64], &[i64]) = match op {
        "ScatterND" => (&[1, 2], &[1]),
        _ => (&[1, 1], &[1, 1]),
    };
    let zeros = vec![0; places.iter().product::<i64>() as usize];
    made.graph.initializer = vec![
        shaped("places", places, &zeros, DataType::Int64),
        shaped("updates", updates, &[100], elem),
    ];
    let made = made
        .node(op, &["x", "places", "updates"], &["y"])
        .text("reduction", reduction);
    let model = Model::from_bytes("made.onnx", made.encode().into(), &[], LIMITS)?;
    let x = Datum::I32(ndarray::arr2(&[[first, 7]]).into_dyn());
    let batch = [("x".to_owned(), x)].into();
    let mut outputs = FloatModel::load(&model, 1)?.run(&batch, &["y"])?;
    Ok(outputs.remove("y").unwrap())
}

#[test]
fn scattered_sums_that_leave_thirty_two_bits_are_an_error() {
    let y = |first: i32| Datum::I32(ndarray::arr2(&[[first, 7]]).into_dyn());
    for op in ["ScatterElements", "ScatterND"] {
        for (reduction, small) in [("add", 105), ("mul", 500)] {
            let error = scattered(op, reduction, i32::MAX - 5, DataType::Int64).unwrap_err();
            let text = error.to_string();
            let says = ["node_y", op, "64-bit"];
            assert!(says.iter().all(|part| text.contains(part)), "{text}");
            let made = scattered(op, reduction, 5, DataType::Int64).unwrap();
            assert_eq!(made, y(small), "{op} {reduction}");
        }
        let largest = scattered(op, "max", i32::MAX - 5, DataType::Int64).unwrap();
        assert_eq!(largest, y(i32::MAX - 5));
        // It wraps, as ONNX's does.
        let wrapped = scattered(op, "add", i32::MAX, DataType::Int32).unwrap();
        assert_eq!(wrapped, y(i32::MIN + 99));
    }
}

#[test]
fn a_sum_of_int32_that_leaves_it_is_an_error() {
    let made = |elem: DataType| {
        let made = Made::new(&[4]).constant("large", &[1], &[1.0e9]);
        let made = made.node("Add", &["x", "large"], &["sum"]);
        cast(made, "sum", "whole", elem).node("ReduceSum", &["whole"], &["y"])
    };
    for elem in [DataType::Int32, DataType::Int64] {
        let error = run(made(elem), "y").unwrap_err().to_string();
        let says = ["node_y", "ReduceSum", "64-bit"];
        assert!(says.iter().all(|part| error.contains(part)), "{error}");
    }
}

#[test]
fn a_cast_to_float16_rounds() {
    let rounded = |factor: f32| {
        let made = Made::new(&[4]).constant("factor", &[1], &[factor]);
        let made = made.node("Mul", &["x", "factor"], &["scaled"]);
        let made = cast(made, "scaled", "half", DataType::Float16);
        run(cast(made, "half", "y", DataType::Float), "y").unwrap()
    };
    let x = made::curve(&[4]);
    let near = x.mapv(|x| half::f16::from_f32(x).to_f32());
    assert_eq!(rounded(1.0), Datum::F32(near));
    let beyond = x.mapv(|x| f32::INFINITY.copysign(x));
    assert_eq!(rounded(1.0e9), Datum::F32(beyond));
}

#[test]
fn what_a_scale_of_float16_makes_is_float16() {
    let mut made = Made::new(&[4]);
    made.graph.initializer.push(TensorProto {
        name: "scale".to_owned(),
        int32_data: vec![half::f16::from_f32(0.1).to_bits().into()],
        data_type: DataType::Float16.into(),
        ..TensorProto::default()
    });
    made.graph.initializer.push(TensorProto {
        name: "codes".to_owned(),
        dims: vec![2],
        int32_data: vec![77, -101],
        data_type: DataType::Int8.into(),
        ..TensorProto::default()
    });
    let made = made.node("DequantizeLinear", &["codes", "scale"], &["w"]);
    let made = cast(made, "w", "y", DataType::Float);
    let scale = half::f16::from_f32(0.1).to_f32();
    let near = [77.0, -101.0].map(|code: f32| half::f16::from_f32(code * scale).to_f32());
    assert_eq!(run(made, "y").unwrap(), Datum::F32(arr1(&near).into_dyn()));
}

/// The logarithm of no more than 0, as an integer, from which a Where takes what `x` above 0 makes.
#[test]
fn what_no_integer_is_may_be_cast_where_a_where_takes_another() {
    let buckets = |reads: &[(&str, &[&str])]| {
        let mut made = Made::new(&[4])
            .scalar("none", 0.0)
            .scalar("two", 2.0)
            .indices("one", &[1])
            .indices("seven", &[7])
            .node("Sub", &["x", "two"], &["around"])
            .node("Log", &["around"], &["log"]);
        made = cast(made, "log", "whole", DataType::Int64)
            .node("Add", &["whole", "one"], &["more"])
            .node("Min", &["more", "seven"], &["least"])
            .node("Greater", &["around", "none"], &["known"]);
        for (op, operands) in reads {
            made = made.node(op, operands, &["y"]);
        }
        run(made, "y")
    };
    let chosen = buckets(&[("Where", &["known", "least", "seven"])]).unwrap();
    let Datum::I32(chosen) = chosen else { panic!() };
    assert_eq!(chosen.as_slice(), Some(&[7, 1, 0, 7][..]));

    // Read by anything else, or given to the outside.
    for reads in [("Identity", &["least"][..]), ("Equal", &["least", "one"])] {
        let error = buckets(&[reads]).unwrap_err().to_string();
        let says = ["node_whole", "no integer of 64 bits", "a Where before it"];
        assert!(
            says.iter().all(|part| error.contains(part)),
            "{reads:?}: {error}"
        );
    }
}

#[test]
fn nan_that_a_node_would_hide_is_an_error() {
    for op in ["Relu", "Clip"] {
        let made = Made::new(&[4])
            .node("Log", &["x"], &["log"])
            .node(op, &["log"], &["y"]);
        let float = FloatModel::load(&made.model(), 1).unwrap();
        let batch = |x: f32| {
            [(
                "x".to_owned(),
                Datum::F32(arr1(&[1.0, 2.0, 3.0, x]).into_dyn()),
            )]
            .into()
        };
        assert!(float.probe(&batch(0.0)).is_ok());
        let error = float.probe(&batch(-1.0)).unwrap_err().to_string();
        assert!(error.contains("node_y") && error.contains("NaN"), "{error}");
    }
}
