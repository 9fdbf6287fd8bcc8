//! Where the time goes for a model of many tiny nodes.
#![allow(clippy::unwrap_used, clippy::print_stdout)]
use dual16_quant::{
    InputLimits, float::FloatModel, graph, model::Model, onnx::*, plan::Request,
    settings::Settings, tensor::Datum,
};
use ndarray::ArrayD;
use prost::Message;
use std::time::Instant;

fn model(kind: &str, n: usize) -> Vec<u8> {
    let mut g = GraphProto {
        input: vec![f32_value("x", Some(&[Some(1), Some(4)]))],
        ..GraphProto::default()
    };
    let w = ArrayD::from_shape_vec(vec![4, 4], vec![0.1f32; 16]).unwrap();
    g.initializer.push(f32_initializer("w", w.view()));
    g.node.push(node("MatMul", &["x", "w"], &["h"]));
    match kind {
        "chain" => {
            let mut last = "h".to_owned();
            for i in 0..n {
                let o = format!("v{i}");
                g.node.push(node("Relu", &[&last], &[&o]));
                last = o;
            }
            g.output = vec![f32_value(&last, None)];
        }
        "same" => {
            let mut last = "h".to_owned();
            for i in 0..n {
                let o = format!("v{i}");
                let mut nd = node("Relu", &[&last], &[&o]);
                nd.name = "same".into();
                g.node.push(nd);
                last = o;
            }
            g.output = vec![f32_value(&last, None)];
        }
        "wide" => {
            let mut names = vec![];
            for i in 0..n {
                let o = format!("v{i}");
                g.node.push(node("Relu", &["h"], &[&o]));
                names.push(o);
            }
            let refs: Vec<&str> = names.iter().map(String::as_str).collect();
            let mut c = node("Concat", &refs, &["y"]);
            c.attribute.push(attribute_int("axis", 0));
            g.node.push(c);
            g.output = vec![f32_value("y", None)];
        }
        "outputs" => {
            for i in 0..n {
                let o = format!("v{i}");
                g.node.push(node("Relu", &["h"], &[&o]));
                g.output.push(f32_value(&o, None));
            }
        }
        "linears" => {
            let mut last = "h".to_owned();
            for i in 0..n {
                let o = format!("v{i}");
                g.node.push(node("MatMul", &[&last, "w"], &[&o]));
                last = o;
            }
            g.output = vec![f32_value(&last, None)];
        }
        "islands" => {
            let mut last = "h".to_owned();
            for i in 0..n {
                let o = format!("v{i}");
                g.node.push(node("Cos", &[&last], &[&o]));
                last = o;
            }
            g.output = vec![f32_value(&last, None)];
        }
        "adds" => {
            // every node reads the first value too: one value with many consumers
            let mut last = "h".to_owned();
            for i in 0..n {
                let o = format!("v{i}");
                g.node.push(node("Add", &[&last, "h"], &[&o]));
                last = o;
            }
            g.output = vec![f32_value(&last, None)];
        }
        _ => panic!(),
    }
    ModelProto {
        ir_version: 8,
        graph: Some(g),
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: 18,
        }],
        ..ModelProto::default()
    }
    .encode_to_vec()
}

fn main() {
    let kinds: Vec<String> = std::env::args().nth(1).map_or(
        vec![
            "chain".into(),
            "same".into(),
            "wide".into(),
            "outputs".into(),
            "linears".into(),
            "islands".into(),
            "adds".into(),
        ],
        |k| vec![k],
    );
    let sizes: Vec<usize> = std::env::args()
        .nth(2)
        .map_or(vec![5_000, 10_000, 20_000], |k| vec![k.parse().unwrap()]);
    for kind in &kinds {
        for &n in &sizes {
            let bytes = model(kind, n);
            let size = bytes.len();
            let mut t = Instant::now();
            let mut lap = || {
                let d = t.elapsed().as_secs_f64();
                t = Instant::now();
                format!("{d:7.3}")
            };
            let m = Model::from_bytes("m.onnx", bytes.into(), &[], &InputLimits::DEFAULT).unwrap();
            let parse = lap();
            let float = FloatModel::load(&m, 1).unwrap();
            let load = lap();
            let batch = [("x".to_owned(), Datum::F32(ArrayD::ones(vec![1, 4])))]
                .into_iter()
                .collect();
            let some = float.probe_bytes(&batch).unwrap();
            let pb = lap();
            let probe = float.probe(&batch).unwrap();
            let pr = lap();
            let g = graph::lower(&m, &probe).unwrap();
            let lo = lap();
            let r = Request::resolve(&g, &Settings::default(), false).unwrap();
            let re = lap();
            println!(
                "{kind:8} {n:6} nodes {:7} B  parse {parse}  load {load}  probe_bytes {pb}  probe {pr}  lower {lo}  resolve {re}  ({some} {})",
                size,
                r.linears.len()
            );
        }
    }
}
